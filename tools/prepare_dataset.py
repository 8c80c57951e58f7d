#!/usr/bin/env python3
"""Turns a raw folder ({trn,tst,lbl}.json.gz) into one HDF5 data set (docs/data-format.md), streaming, in bounded memory; goes on
where a killed run stopped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from vixen_tools.dataset_builder import DatasetBuilder, EmptyPolicy
from vixen_tools.dataset_options import add_common_options, check_options, made_from, meta_of, report
from vixen_tools.errors import run_tool
from vixen_tools.image_rows import ImagesFile, ImageStore
from vixen_tools.outputs import claim
from vixen_tools.progress import waiting
from vixen_tools.raw import TEXT_CHOICES, RawSide, find_filter, find_raw, read_filter
from vixen_tools.same_items import OPTION, same_item_pairs
from vixen_tools.tokens import TextTokenizer

TOOL = "prepare_dataset.py"


def itself_pairs(queries: Path, labels: Path, filtered: bool, n_queries: int) -> np.ndarray:
    """Pairs of test queries that are labels themselves; none where they are not asked for, but a word on them."""
    with waiting(f"{queries.name}: uids"):
        pairs = same_item_pairs(queries, labels, filtered)
    if len(pairs) and not filtered:
        count = len(np.unique(pairs[:, 0]))
        print(
            f"{queries}: {count:,} of {n_queries:,} queries are labels themselves (same uid) that are not relevant to them; a search finds "
            f"those first, and they count as errors: {OPTION} has them never count, as a filter_labels_test.txt would",
            file=sys.stderr,
        )
        return pairs[:0]
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="folder with {trn,tst,lbl}.json[l][.gz]")
    parser.add_argument("--images", type=Path, help="IMAGES.h5 of embed_images.py (default: no pictures)")
    parser.add_argument("--text", choices=TEXT_CHOICES, default="title", help="what the text of a row is (default title)")
    parser.add_argument("--ignore-missing-images", action="store_true", help="go on without pictures that are not in --images")
    parser.add_argument(
        OPTION, action="store_true", help="a label with a test query's uid never counts for it, where it is not relevant: the item itself"
    )
    add_common_options(parser)
    options = parser.parse_args()
    check_options(options)
    out = claim(options.out, {"--raw": options.raw, "--model": options.model, "--images": options.images}, shared=("--raw",))
    paths = {side: find_raw(options.raw, stem) for side, stem in (("label", "lbl"), ("train", "trn"), ("test", "tst"))}
    filter_path = find_filter(options.raw)
    tokenizer = TextTokenizer(options.model, options.max_length)
    with waiting(f"{options.images}: names of pictures"):
        images = ImagesFile(options.images) if options.images else None
    store = ImageStore([images] if images else [])
    policy = EmptyPolicy(drop=options.drop_empty, keep_texts=options.keep_empty)
    meta = meta_of(options, options.raw, options.text, TOOL)
    inputs = [*paths.values(), filter_path, options.images]
    work = made_from(options, TOOL, tokenizer, inputs, "text", "ignore_missing_images")
    with DatasetBuilder(out, tokenizer, store, meta, policy, work) as builder:
        for side, path in paths.items():
            builder.add_side(side, RawSide(path, options.text, side != "label", images, options.max_images, options.ignore_missing_images))
        pairs = read_filter(filter_path, builder.rows_read("test"), builder.rows_read("label"))
        if options.filter_same_uid or filter_path is None:
            itself = itself_pairs(paths["test"], paths["label"], options.filter_same_uid, builder.rows_read("test"))
            pairs = np.concatenate([pairs, itself])
        builder.set_filter(pairs)
        counts = builder.finish()
    if builder.missing_images():
        counts["pictures missing"] = builder.missing_images()
    report(options.out, counts)


if __name__ == "__main__":
    run_tool(main)
