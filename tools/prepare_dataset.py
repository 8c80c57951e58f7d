#!/usr/bin/env python3
"""Turns a raw folder ({trn,tst,lbl}.json.gz) into one HDF5 data set (docs/data-format.md), streaming, in bounded memory; goes on
where a killed run stopped."""

from __future__ import annotations

import argparse
from pathlib import Path

from vixen_tools.dataset_builder import DatasetBuilder, EmptyPolicy
from vixen_tools.dataset_options import add_common_options, check_options, made_from, meta_of, report
from vixen_tools.errors import run_tool
from vixen_tools.image_rows import ImagesFile, ImageStore
from vixen_tools.outputs import claim
from vixen_tools.progress import waiting
from vixen_tools.raw import TEXT_CHOICES, RawSide, find_filter, find_raw, read_filter
from vixen_tools.tokens import TextTokenizer

TOOL = "prepare_dataset.py"


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
        builder.set_filter(read_filter(filter_path, builder.rows_read("test"), builder.rows_read("label")))
        counts = builder.finish()
    if builder.missing_images():
        counts["pictures missing"] = builder.missing_images()
    report(options.out, counts)


if __name__ == "__main__":
    run_tool(main)
