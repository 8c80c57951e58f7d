#!/usr/bin/env python3
"""Turns a raw folder ({trn,tst,lbl}.json.gz) into one HDF5 data set (docs/data-format.md), streaming, in bounded memory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vixen_tools import VERSION
from vixen_tools.arguments import finite, whole
from vixen_tools.dataset_builder import DatasetBuilder, DatasetMeta, EmptyPolicy, propensity_constants
from vixen_tools.errors import UserError, run_tool
from vixen_tools.image_rows import ImagesFile, ImageStore
from vixen_tools.outputs import claim
from vixen_tools.raw import TEXT_CHOICES, RawSide, find_filter, find_raw, read_filter
from vixen_tools.tokens import TextTokenizer


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Options that every way to a data set has."""
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder whose tokenizer.json is used")
    parser.add_argument("--out", type=Path, required=True, help="data set to write (HDF5)")
    parser.add_argument("--max-length", type=whole(), default=32, help="tokens a text is cut at, special ones included (default 32)")
    parser.add_argument("--max-images", type=whole(), help="keep the first N pictures of a row (default: all)")
    parser.add_argument("--name", help="name shown in reports (default: the folder's)")
    parser.add_argument("--propensity-a", type=finite, help="default by name: Amazon .6, Wikipedia .5, else .55")
    parser.add_argument("--propensity-b", type=finite, help="default by name: Amazon 2.6, Wikipedia .4, else 1.5")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="STRING",
        help="also store this piece of a prompt, tokenised by itself (repeatable; the default template's are always stored)",
    )
    parser.add_argument("--drop-empty", action="store_true", help="drop rows without text and training rows without labels")
    parser.add_argument("--keep-empty", action="store_true", help="keep rows without text as their special tokens alone")


def meta_of(options: argparse.Namespace, folder: Path, text: str, tool: str) -> DatasetMeta:
    name = options.name or folder.resolve().name
    a, b = propensity_constants(name)
    a = a if options.propensity_a is None else options.propensity_a
    b = b if options.propensity_b is None else options.propensity_b
    return DatasetMeta(name=name, text=text, propensity_a=a, propensity_b=b, created_by=f"{tool} {VERSION}", prompts=tuple(options.prompt))


def check_options(options: argparse.Namespace) -> None:
    if options.drop_empty and options.keep_empty:
        raise UserError("--drop-empty and --keep-empty exclude each other")
    if options.max_images is not None and options.max_images < 0:
        raise UserError(f"--max-images {options.max_images}: expected 0 or more")


def report(out: Path, counts: dict[str, int]) -> None:
    print(f"{out}: {', '.join(f'{count:,} {what}' for what, count in counts.items())}, {out.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="folder with {trn,tst,lbl}.json[l][.gz]")
    parser.add_argument("--images", type=Path, help="IMAGES.h5 of embed_images.py (default: no pictures)")
    parser.add_argument("--text", choices=TEXT_CHOICES, default="title", help="what the text of a row is (default title)")
    parser.add_argument("--ignore-missing-images", action="store_true", help="go on without pictures that are not in --images")
    add_common_options(parser)
    options = parser.parse_args()
    check_options(options)
    out = claim(options.out, {"--raw": options.raw, "--model": options.model, "--images": options.images}, shared=("--raw",))
    paths = {side: find_raw(options.raw, stem) for side, stem in (("label", "lbl"), ("train", "trn"), ("test", "tst"))}
    filter_path = find_filter(options.raw)
    tokenizer = TextTokenizer(options.model, options.max_length)
    images = ImagesFile(options.images) if options.images else None
    store = ImageStore([images] if images else [])
    policy = EmptyPolicy(drop=options.drop_empty, keep_texts=options.keep_empty)
    missing = 0
    with DatasetBuilder(out, tokenizer, store, meta_of(options, options.raw, options.text, "prepare_dataset.py"), policy) as builder:
        for side, path in paths.items():
            items = RawSide(path, options.text, side != "label", images, options.max_images, options.ignore_missing_images)
            builder.add_side(side, path, items, items.fraction)
            missing += items.missing_images
        builder.set_filter(read_filter(filter_path, builder.rows_read("test"), builder.rows_read("label")))
        counts = builder.finish()
    if missing:
        counts["pictures missing"] = missing
    report(options.out, counts)


if __name__ == "__main__":
    run_tool(main)
