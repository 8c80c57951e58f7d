#!/usr/bin/env python3
"""Keeps some training queries of a data set out: a data set whose test split they are, for choosing settings without the test split.

The rest is its training split; labels, prompts and pictures are those of the data set, its test queries are left out. Queries of the
same text stay on one side. Where most filter pairs of the data set's test queries are of a label that reads like the query (the item
itself), held-out queries filter the labels that read like them and are not relevant; else nothing. A run on the new data set has not
seen its test split, so what is chosen there (tools/augment_grid.py, `vixen evaluate`) can be used for a run on all training queries.

N: training queries; M: pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from vixen_tools import VERSION
from vixen_tools.arguments import fraction, whole
from vixen_tools.content_hash import hash_of
from vixen_tools.dataset_file import check_format, check_labels, read_ragged, select_rows, texts_of
from vixen_tools.errors import UserError, reading, run_tool
from vixen_tools.files import publish, work_folder
from vixen_tools.hdf5_file import open_hdf5, read_attribute, whole_dataset, write_contiguous
from vixen_tools.hdf5_output import hdf5_output
from vixen_tools.outputs import claim
from vixen_tools.progress import Progress, waiting
from vixen_tools.prompts import read_prompts, write_prompts

PARTS = {"tokens": np.int32, "images": np.int32, "texts": np.uint8, "labels": np.int32}
BLOCK_ROWS = 4096
STRINGS = ("format", "tokenizer", "tokenizer_sha256", "text")
NUMBERS = {"version": np.int64, "vocabulary": np.int64, "max_length": np.int64, "bos_token": np.int64}
CONSTANTS = ("propensity_a", "propensity_b")


def rows_by_text(offsets: np.ndarray, values: np.ndarray) -> dict[bytes, list[int]]:
    groups: dict[bytes, list[int]] = {}
    for row, text in enumerate(texts_of(offsets, values)):
        groups.setdefault(text, []).append(row)
    return groups


def held_out_rows(offsets: np.ndarray, values: np.ndarray, share: float, seed: int) -> np.ndarray:
    """bool [N]: the rows that are kept out, whole groups of equal texts (ragged uint8) in an order that the seed and the texts decide,
    until they are at least `share` of all."""
    prefix = f"{seed}:".encode()
    groups = rows_by_text(offsets, values)
    out = np.zeros(len(offsets) - 1, bool)
    wanted, count = share * len(out), 0
    for text in sorted(groups, key=lambda text: hashlib.sha256(prefix + text).digest()):
        if count >= wanted:
            break
        out[groups[text]] = True
        count += len(groups[text])
    return out


class Splitter:
    """Reads one data set and writes the other; of the pictures those that are named, in their order."""

    def __init__(self, path: Path, source: h5py.File):
        self.path, self.source = path, source
        self.sides = {
            side: {part: read_ragged(path, source, f"{side}/{part}") for part in PARTS if side != "label" or part != "labels"}
            for side in ("train", "label")
        }
        rows = {len(offsets) for offsets, _ in self.sides["train"].values()}
        if len(rows) != 1:
            raise UserError(f"{path}: the parts of /train have {sorted(n - 1 for n in rows)} rows, expected the same number each")
        self._items = self._same_items()
        self.pictures = whole_dataset(source, "images/embeddings", "f", 2)
        self.prompts = read_prompts(path, source)

    def _same_items(self) -> dict[bytes, list[int]]:
        """Labels by text where more than half of the pairs that the test queries filter are of a label of the query's text, else none."""
        offsets, labels = read_ragged(self.path, self.source, "test/filter")
        label_texts = self.sides["label"]["texts"]
        check_labels(self.path, "test/filter", labels, len(label_texts[0]) - 1)
        if not len(labels):
            return {}
        queries, by_text = texts_of(*read_ragged(self.path, self.source, "test/texts", len(offsets) - 1)), rows_by_text(*label_texts)
        pairs = zip(np.repeat(np.arange(len(queries)), np.diff(offsets)).tolist(), labels.tolist(), strict=True)
        same = sum(label in by_text.get(queries[query], ()) for query, label in pairs)
        return by_text if 2 * same > len(labels) else {}

    def _filter(self, held_out: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Of every held-out query the labels of its text that are not relevant, where the data set filters such."""
        offsets, values = held_out["labels"]
        rows = zip(texts_of(*held_out["texts"]), itertools.pairwise(offsets), strict=True)
        found = [np.setdiff1d(self._items.get(text, []), values[first:last]) for text, (first, last) in rows]
        return np.cumsum([0, *map(len, found)]), np.concatenate([np.zeros(0, np.int32), *found]).astype(np.int32)

    def write(self, out: Path, held_out: np.ndarray, share: float, seed: int) -> dict[str, int]:
        train = self.sides["train"]
        rows = {"train": np.flatnonzero(~held_out), "test": np.flatnonzero(held_out)}
        sides = {"label": self.sides["label"]}
        sides |= {side: {part: select_rows(*train[part], chosen) for part in PARTS} for side, chosen in rows.items()}
        self._used = np.zeros(len(self.pictures), bool)
        for parts in sides.values():
            self._used[self._checked(parts["images"][1])] = True
        self._new = np.cumsum(self._used) - 1
        with hdf5_output(out, "w") as file:
            self._write_attributes(file, sides, share, seed)
            for side, parts in sides.items():
                with waiting(f"{side}: written"):
                    hashes = [
                        found for part, (offsets, values) in parts.items() for found in self._write(file, side, part, offsets, values)
                    ]
                if side == "test":
                    filtered = self._filter(parts)
                    hashes += self._write(file, side, "filter", *filtered)
                file.attrs[f"content_{side}"] = hash_of(hashes)
            if self.prompts:
                write_prompts(file, self.prompts)
            kept = int(self._used.sum())
            shape = (kept, self.pictures.shape[1] if kept else 0)
            file.attrs["content_images"] = hash_of([write_contiguous(file, "images/embeddings", shape, np.float16, self._kept_pictures())])
        counts = {"labels": len(sides["label"]["texts"][0]) - 1, "train": len(rows["train"]), "held out": len(rows["test"])}
        return counts | {"pictures": kept, "filter pairs": len(filtered[1])}

    def _checked(self, rows: np.ndarray) -> np.ndarray:
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.pictures):
            raise UserError(f"{self.path}: names picture {rows.min() if rows.min() < 0 else rows.max()} of {len(self.pictures)}: damaged")
        return rows

    def _write(self, file: h5py.File, side: str, part: str, offsets: np.ndarray, values: np.ndarray) -> tuple[int, int]:
        if part == "images" and len(values):
            values = self._new[values]
        name, dtype = f"{side}/{part}", PARTS.get(part, np.int32)
        return (
            write_contiguous(file, f"{name}/offsets", offsets.shape, np.int64, [offsets]),
            write_contiguous(file, f"{name}/values", values.shape, dtype, [values]),
        )

    def _kept_pictures(self) -> Iterator[np.ndarray]:
        with Progress("pictures: written", int(self._used.sum())) as progress:
            for first in range(0, len(self.pictures), BLOCK_ROWS):
                keep = self._used[first : first + BLOCK_ROWS]
                with reading(self.path, "a readable HDF5 data set"):
                    block = self.pictures[first : first + BLOCK_ROWS]
                yield block[keep]
                progress.add(int(keep.sum()))

    def _write_attributes(self, file: h5py.File, sides: dict, share: float, seed: int) -> None:
        for name in STRINGS:
            file.attrs[name] = read_attribute(self.source, name, str, "")
        for name, kind in NUMBERS.items():
            value = read_attribute(self.source, name, int)
            if value is not None:
                file.attrs[name] = kind(value)
        for name in CONSTANTS:
            file.attrs[name] = np.float64(read_attribute(self.source, name, float, 0.0))
        file.attrs["name"] = f"{read_attribute(self.source, 'name', str, '')}, held out"
        file.attrs["max_images"] = np.int64(max(int(np.diff(parts["images"][0]).max(initial=0)) for parts in sides.values()))
        file.attrs["created_by"] = f"split_dataset.py {VERSION}"
        file.attrs["held_out"] = f"share {share:g}, seed {seed}"
        file.attrs["held_out_of"] = read_attribute(self.source, "content_train", str, "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data set of prepare_dataset.py or import_official.py")
    parser.add_argument("--out", type=Path, required=True, help="data set to write (HDF5)")
    parser.add_argument("--share", type=fraction, default=0.1, help="of the training queries that is kept out (default 0.1)")
    parser.add_argument("--seed", type=whole(0), default=0, help="draws them (default 0)")
    options = parser.parse_args()
    out = claim(options.out, {"--data": options.data}, bytes_needed=options.data.stat().st_size if options.data.is_file() else 0)
    with open_hdf5(options.data) as source:
        check_format(options.data, source)
        splitter = Splitter(options.data, source)
        with waiting("queries: drawn"):
            held_out = held_out_rows(*splitter.sides["train"]["texts"], options.share, options.seed)
        if held_out.all() or not held_out.any():
            raise UserError(
                f"--share {options.share:g}: keeps {int(held_out.sum())} of {len(held_out)} training queries out, expected some, not all"
            )
        with work_folder(out) as work:
            counts = splitter.write(work / "data.h5", held_out, options.share, options.seed)
            publish(work / "data.h5", out)
    print(f"{options.out}: {', '.join(f'{count:,} {what}' for what, count in counts.items())}", file=sys.stderr)


if __name__ == "__main__":
    run_tool(main)
