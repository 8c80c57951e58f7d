#!/usr/bin/env python3
"""Turns the ViXML authors' files (raw texts, X_Y matrices, .npy picture embeddings, pickled maps) into one HDF5
data set; goes on where a killed run stopped."""

from __future__ import annotations

import argparse
from pathlib import Path

from vixen_tools.dataset_builder import DatasetBuilder, EmptyPolicy
from vixen_tools.dataset_options import add_common_options, check_options, made_from, meta_of, report
from vixen_tools.errors import UserError, run_tool
from vixen_tools.image_rows import ImageStore, NpyRows
from vixen_tools.official import OfficialSide, count_lines, find_matrix, find_text, image_files
from vixen_tools.outputs import claim
from vixen_tools.picture_map import read_map
from vixen_tools.progress import waiting
from vixen_tools.raw import find_filter, read_filter
from vixen_tools.tokens import TextTokenizer

TOOL = "import_official.py"
STEMS = {"label": "lbl", "train": "trn", "test": "tst"}


def open_pictures(folder: Path, choose: str, max_images: int | None) -> tuple[list[NpyRows], dict[str, tuple]]:
    """The matrices in order, and by stem ((offsets, rows), first row of the side in the common numbering)."""
    sources: list[NpyRows] = []
    pictures: dict[str, tuple] = {}
    if max_images == 0:
        return sources, pictures
    first = 0
    for stem in ("trn", "tst", "lbl"):
        files = image_files(folder, stem, choose)
        if files is None:
            continue
        source = NpyRows(files[0])
        pictures[stem] = read_map(files[1], count_lines(find_text(folder, stem)), source.rows), first
        sources.append(source)
        first += source.rows
    if choose != "*" and not sources:
        raise UserError(f"{folder}: no file matches {{trn,tst,lbl}}_embs_imgs_{choose}.npy")
    return sources, pictures


def files_of(folder: Path, options: argparse.Namespace) -> list[Path | None]:
    """All that is read."""
    files = [
        find_filter(folder),
        *(find_text(folder, stem) for stem in STEMS.values()),
        *(find_matrix(folder, stem) for stem in ("trn", "tst")),
    ]
    for stem in STEMS.values() if options.max_images != 0 else ():
        files += image_files(folder, stem, options.embeddings) or ()
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder with {trn,tst,lbl}.raw.txt, {trn,tst}_X_Y.txt, ...")
    parser.add_argument("--latin1", action="store_true", help="raw texts are latin-1, as in the authors' pipeline (default UTF-8)")
    parser.add_argument(
        "--embeddings", default="*", metavar="PATTERN", help="which {trn,tst,lbl}_embs_imgs_PATTERN.npy, where a folder has several"
    )
    add_common_options(parser)
    options = parser.parse_args()
    check_options(options)
    folder = options.dir
    out = claim(options.out, {"--dir": folder, "--model": options.model}, shared=("--dir",))
    for stem in STEMS.values():
        find_text(folder, stem)
    for stem in ("trn", "tst"):
        find_matrix(folder, stem)
    filter_path = find_filter(folder)
    tokenizer = TextTokenizer(options.model, options.max_length)
    with waiting(f"{folder}: maps of pictures"):
        sources, pictures = open_pictures(folder, options.embeddings, options.max_images)
    encoding = "latin-1" if options.latin1 else "utf-8"
    policy = EmptyPolicy(drop=options.drop_empty, keep_texts=options.keep_empty)
    meta = meta_of(options, folder, "title", TOOL)
    work = made_from(options, TOOL, tokenizer, files_of(folder, options), "latin1")
    with DatasetBuilder(out, tokenizer, ImageStore(sources), meta, policy, work) as builder:
        for side, stem in STEMS.items():
            n_labels = None if side == "label" else builder.rows_read("label")
            maps, first = pictures.get(stem, (None, 0))
            builder.add_side(side, OfficialSide(folder, stem, encoding, n_labels, maps, first, options.max_images))
        builder.set_filter(read_filter(filter_path, builder.rows_read("test"), builder.rows_read("label")))
        counts = builder.finish()
    report(options.out, counts)


if __name__ == "__main__":
    run_tool(main)
