#!/usr/bin/env python3
"""Makes an IMAGES.h5 small enough to ship: principal components of the embeddings, 8 bits each (docs/data-format.md).

M: pictures; I: width of the embeddings; d: principal components kept.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from vixen_tools import VERSION
from vixen_tools.arguments import whole
from vixen_tools.errors import UserError, run_tool
from vixen_tools.files import publish, work_folder
from vixen_tools.image_rows import ImagesFile, write_compact_images
from vixen_tools.outputs import claim
from vixen_tools.progress import waiting
from vixen_tools.raw import RawSide, find_raw


def training_rows(images: ImagesFile, raw: Path) -> np.ndarray:
    """bool [M]: pictures of training queries. Only they decide the components, so that nothing of the test split leaks in."""
    used = np.zeros(images.rows, bool)
    for item in RawSide(find_raw(raw, "trn"), "title", True, images):
        if item.images is not None:
            used[item.images] = True
    if not used.any():
        raise UserError(f"{raw}: no training query has a picture, expected some to find the components from")
    return used


def principal_components(images: ImagesFile, used: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean [I], directions float32 [I, d] and the share of the variance they hold, from two passes over blocks of rows."""
    count, total, first = int(used.sum()), np.zeros(images.width), 0
    for block in images.blocks():
        finite = np.isfinite(block).all(1)
        if not finite.all():
            raise UserError(f"{images.describe(first + int(np.argmin(finite)))} is not finite, expected numbers")
        total += block[used[first : first + len(block)]].sum(0, dtype=np.float64)
        first += len(block)
    mean = total / count
    covariance, first = np.zeros((images.width, images.width)), 0
    for block in images.blocks():
        centred = block[used[first : first + len(block)]].astype(np.float64) - mean
        covariance += centred.T @ centred
        first += len(block)
    variances, directions = np.linalg.eigh(covariance)
    directions = directions[:, ::-1][:, :d]
    # an eigenvector's sign is free: make the largest entry positive, so that the file does not depend on the library
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), np.arange(d)])
    return mean, directions.astype(np.float32), float(variances[::-1][:d].sum() / max(variances.sum(), 1e-300))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="raw folder: the pictures of trn.json.gz decide the components")
    parser.add_argument("--images", type=Path, required=True, help="IMAGES.h5 of embed_images.py")
    parser.add_argument("--out", type=Path, required=True, help="compact IMAGES.h5 to write")
    parser.add_argument("--dimensions", type=whole(), default=384, help="principal components kept (default 384)")
    options = parser.parse_args()
    out = claim(options.out, {"--raw": options.raw, "--images": options.images}, shared=("--raw",))
    images = ImagesFile(options.images)
    if not 1 <= options.dimensions <= images.width:
        raise UserError(f"--dimensions {options.dimensions}: expected 1..{images.width}, the width of {options.images}")
    with waiting(f"{options.images.name}: principal components"):
        mean, directions, share = principal_components(images, training_rows(images, options.raw), options.dimensions)
        projected = np.concatenate([(block.astype(np.float32) - mean.astype(np.float32)) @ directions for block in images.blocks()])
    with work_folder(out) as work:
        write_compact_images(
            work / "images.h5",
            images,
            projected,
            f"{images.model}, {options.dimensions} principal components",
            f"compact_images.py {VERSION}",
        )
        publish(work / "images.h5", out)
    print(
        f"{options.out}: {images.rows:,} x {options.dimensions}, {100 * share:.1f}% of the variance, "
        f"{options.out.stat().st_size / 1e6:.1f} MB",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run_tool(main)
