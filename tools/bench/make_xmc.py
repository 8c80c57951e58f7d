#!/usr/bin/env python3
"""Makes a raw data set of LF-AmazonTitles-1.3M's shape at any scale, with texts and labels that can be learned, and pictures as embeddings.

    tools/bench/make_xmc.py --scale 0.01 --out out/made                     # {trn,tst,lbl}.json.gz and images.h5, for prepare_dataset.py
    tools/bench/make_xmc.py --scale 0.01 --layout official --out out/made2  # the ViXML authors' layout, for import_official.py

Texts recombine the words of another raw folder. The rows are the same in both layouts, and for every --block-rows. Memory does not grow
with the scale, but for 4 bytes a label. At --scale 1: 31 GB with pictures, 1 GB without (--images-per-row 0).
"""

from __future__ import annotations

import argparse
import gzip
import json
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from vixen_tools import VERSION, image_rows  # noqa: E402
from vixen_tools.arguments import finite, whole  # noqa: E402
from vixen_tools.content_hash import hash_of  # noqa: E402
from vixen_tools.errors import UserError, run_tool  # noqa: E402
from vixen_tools.files import publish, work_folder  # noqa: E402
from vixen_tools.hdf5_file import write_contiguous  # noqa: E402
from vixen_tools.hdf5_output import hdf5_output  # noqa: E402
from vixen_tools.made_set import FULL, MadeSet, Rows, Sizes, vocabulary_of  # noqa: E402
from vixen_tools.outputs import claim_folder, write_marker  # noqa: E402
from vixen_tools.progress import Progress  # noqa: E402
from vixen_tools.raw import RawSide, find_raw  # noqa: E402

STEMS = ("lbl", "trn", "tst")  # sorted, as the names of the pictures are
MAPS = {"lbl": "labels", "trn": "train", "tst": "test"}
PICTURE_ROWS = 512  # rows whose pictures are made at a time
PICKLE_BATCH = 1000  # entries that a pickle appends at a time
ROW_BYTES = 600  # of a row's texts and labels, generously

Blocks = Iterator[tuple[int, Rows]]


def blocks_of(made: MadeSet, stem: str, block_rows: int) -> Blocks:
    """(first row, rows) of a side, with progress."""
    total = made.sizes.rows(stem)
    with Progress(f"{stem}: written", total) as progress:
        for first in range(0, total, block_rows):
            count = min(block_rows, total - first)
            yield first, made.rows(stem, first, count)
            progress.add(count)


def texts_of(rows: Rows, words: list[str]) -> list[str]:
    return [" ".join([words[i] for i in row if i >= 0]) for row in rows.words.tolist()]


def labels_of(rows: Rows, n_labels: int) -> list[list[int]]:
    assert rows.labels is not None
    counts = (rows.labels < n_labels).sum(axis=1).tolist()
    return [row[:count] for row, count in zip(rows.labels.tolist(), counts, strict=True)]


def picture_names(stem: str, first: int, count: int, images_per_row: int) -> list[str]:
    """In their order by bytes."""
    return [f"{stem}{row:010d}_{i}.webp" for row in range(first, first + count) for i in range(images_per_row)]


def picture_blocks(made: MadeSet, stem: str, topics: np.ndarray, first: int, per_row: int) -> Iterator[np.ndarray]:
    """The pictures of rows, float16, some MB at a time."""
    for begin in range(0, len(topics), PICTURE_ROWS):
        yield made.pictures(stem, topics[begin : begin + PICTURE_ROWS], first + begin, per_row)


def write_xmc(folder: Path, made: MadeSet, words: list[str], options: argparse.Namespace, see: Callable[[str, int, Rows], None]) -> None:
    """{lbl,trn,tst}.json.gz; images.h5 with the pictures of all of them."""
    per_row, n_labels = options.images_per_row, made.sizes.labels
    escaped = [json.dumps(word)[1:-1] for word in words]
    for stem in STEMS:
        with gzip.GzipFile(folder / f"{stem}.json.gz", "wb", compresslevel=1, mtime=0) as file:
            for first, rows in blocks_of(made, stem, options.block_rows):
                see(stem, first, rows)
                tails = [""] * len(rows.topics)
                if rows.labels is not None:
                    tails = [
                        f', "target_ind": {labels}, "target_rel": [{", ".join(["1.0"] * len(labels))}]'
                        for labels in labels_of(rows, n_labels)
                    ]
                if per_row:
                    names = picture_names(stem, first, len(tails), per_row)
                    tails = [f'{tail}, "images": {json.dumps(names[i * per_row : (i + 1) * per_row])}' for i, tail in enumerate(tails)]
                lines = [
                    f'{{"uid": "{stem}{first + i}", "title": "{text}", "content": ""{tail}}}\n'
                    for i, (text, tail) in enumerate(zip(texts_of(rows, escaped), tails, strict=True))
                ]
                file.write("".join(lines).encode("ascii"))
    if per_row:
        write_images(folder / "images.h5", made, options)


def write_images(path: Path, made: MadeSet, options: argparse.Namespace) -> None:
    """An IMAGES.h5 (docs/data-format.md); the names are of fixed length, so that they can be written in blocks."""
    per_row, step = options.images_per_row, options.block_rows
    total = per_row * sum(made.sizes.rows(stem) for stem in STEMS)

    def embeddings() -> Iterator[np.ndarray]:
        for stem in STEMS:
            with Progress(f"{stem}: pictures written", per_row * made.sizes.rows(stem)) as progress:
                for first in range(0, made.sizes.rows(stem), step):
                    topics = made.topics(stem, first, min(step, made.sizes.rows(stem) - first))
                    yield from picture_blocks(made, stem, topics, first, per_row)
                    progress.add(per_row * len(topics))

    def names() -> Iterator[np.ndarray]:
        for stem in STEMS:
            for first in range(0, made.sizes.rows(stem), step):
                block = picture_names(stem, first, min(step, made.sizes.rows(stem) - first), per_row)
                yield np.array(block, "S")

    with hdf5_output(path, "w") as file:
        file.attrs["format"] = image_rows.FORMAT
        file.attrs["version"] = np.int64(image_rows.FORMAT_VERSION)
        file.attrs["model"] = "made"
        file.attrs["input_size"] = np.int64(0)
        file.attrs["created_by"] = f"make_xmc.py {VERSION}"
        content = write_contiguous(file, "embeddings", (total, options.image_width), np.float16, embeddings())
        file.attrs[image_rows.CONTENT] = hash_of([content])
        width = len(picture_names("lbl", 0, 1, 1)[0])
        write_contiguous(file, "names", (total,), h5py.string_dtype("ascii", width), names())


def write_official(
    folder: Path, made: MadeSet, words: list[str], options: argparse.Namespace, see: Callable[[str, int, Rows], None]
) -> None:
    """{lbl,trn,tst}.raw.txt, {trn,tst}_X_Y.txt, and of the pictures .npy files and pickled maps."""
    per_row, width = options.images_per_row, options.image_width
    for stem in STEMS:
        total = made.sizes.rows(stem)
        with ExitStack() as files:

            def output(name: str, files: ExitStack = files) -> IO[bytes]:
                return files.enter_context(open(folder / name, "wb"))

            texts = output(f"{stem}.raw.txt")
            matrix = output(f"{stem}_X_Y.txt") if stem != "lbl" else None
            pictures = output(f"{stem}_embs_imgs_{per_row}_{width}_made.npy") if per_row else None
            if matrix:
                matrix.write(f"{total} {made.sizes.labels}\n".encode())
            if pictures:
                shape = (total * per_row, width)
                np.lib.format.write_array_header_1_0(pictures, {"descr": "<f2", "fortran_order": False, "shape": shape})
            for first, rows in blocks_of(made, stem, options.block_rows):
                see(stem, first, rows)
                texts.write("".join([f"{text}\n" for text in texts_of(rows, words)]).encode())
                if matrix:
                    lines = [" ".join([f"{label}:1.0" for label in labels]) for labels in labels_of(rows, made.sizes.labels)]
                    matrix.write("".join([f"{line}\n" for line in lines]).encode())
                if pictures:
                    pictures.writelines(block.data for block in picture_blocks(made, stem, rows.topics, first, per_row))
        if per_row:
            write_map(folder / f"{MAPS[stem]}_imgs_384_{per_row}_map.npy", total, per_row)


def write_map(path: Path, rows: int, per_row: int) -> None:
    """What np.save makes of an object array with the list [i * per_row, ...] for row i, by blocks: the array would be held as
    Python's own objects otherwise."""
    empty = np.empty(0, object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole_pickle = pickle.dumps(empty, 4)
    # opcodes (CPython's Lib/pickletools.py): FRAME before the whole; at the end the shape (0,), .. and the empty list of objects
    begin = whole_pickle[:2] + whole_pickle[11:]
    begin = begin.replace(b"(K\x01K\x00\x85", b"(K\x01J" + rows.to_bytes(4, "little") + b"\x85")
    assert begin.endswith(b"\x89]\x94t\x94b.")
    entry = np.dtype(
        [("list", "S3"), *((part, kind) for i in range(per_row) for part, kind in ((f"int{i}", "S1"), (f"row{i}", "<i4"))), ("end", "S1")]
    )
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (rows,)})
        file.write(begin[: -len(b"t\x94b.")])
        for first in range(0, rows, PICKLE_BATCH):
            block = np.empty(min(PICKLE_BATCH, rows - first), entry)
            block["list"], block["end"] = b"]\x94(", b"e"
            for i in range(per_row):
                block[f"int{i}"], block[f"row{i}"] = b"J", (first + np.arange(len(block))) * per_row + i
            file.write(b"(" + block.tobytes() + b"e")
        file.write(b"t\x94b.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--layout", choices=("xmc", "official"), default="xmc", help="the XMC repository's, or the ViXML authors' (default xmc)"
    )
    parser.add_argument("--scale", type=finite, default=0.01, help="share of 2.25M + 0.97M queries and 1.3M labels (default 0.01)")
    for what in ("train", "test", "labels"):
        parser.add_argument(f"--{what}", type=whole(1), help="rows, instead of the scale's")
    parser.add_argument("--labels-per-query", type=finite, default=22.0, help="the mean (default 22)")
    parser.add_argument("--images-per-row", type=whole(0, 9), default=3, help="pictures of every query and label (default 3; 0: none)")
    parser.add_argument("--image-width", type=whole(1, 65536), default=1152, help="width of their embeddings (default 1152)")
    parser.add_argument("--words-from", type=Path, default=ROOT / "data/icontags", help="raw folder whose words the texts recombine")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--block-rows", type=whole(1, 1 << 20), default=4096, help="rows made at a time (changes nothing in the files)")
    options = parser.parse_args()
    if not 0 < options.scale <= 1000:
        raise UserError(f"--scale {options.scale}: expected more than 0, 1000 at the most")
    if not 1 <= options.labels_per_query <= 64:
        raise UserError(f"--labels-per-query {options.labels_per_query}: expected 1 to 64")
    sizes = Sizes(*(getattr(options, what) or max(1, round(getattr(FULL, what) * options.scale)) for what in ("train", "test", "labels")))
    rows = sizes.train + sizes.test + sizes.labels
    bytes_needed = rows * (ROW_BYTES + 2 * options.images_per_row * options.image_width)
    inputs = {"--words-from": options.words_from}
    out = claim_folder(options.out, inputs, bytes_needed=bytes_needed)
    sides = [RawSide(find_raw(options.words_from, stem), "title", False) for stem in STEMS]
    words = vocabulary_of(item.text for side in sides for item in side)
    if not words:
        raise UserError(f"{options.words_from}: its titles hold no word")
    made = MadeSet(sizes, options.seed, len(words), options.labels_per_query, options.image_width if options.images_per_row else 0)
    frequencies = np.zeros(sizes.labels + 1, np.int32)
    counts = {"words": 0, "trn": 0, "tst": 0}

    def see(stem: str, first: int, rows: Rows) -> None:
        if stem == "tst":
            pairs.writelines(f"{row} {label}\n" for row, label in made.filter_pairs(first, rows).tolist())
        counts["words"] += int((rows.words >= 0).sum())
        if rows.labels is not None:
            counts[stem] += int((rows.labels < sizes.labels).sum())
            if stem == "trn":
                frequencies[:] += np.bincount(rows.labels.reshape(-1), minlength=sizes.labels + 1).astype(np.int32)

    with work_folder(out) as work:
        folder = work / "made"
        folder.mkdir()
        with open(folder / "filter_labels_test.txt", "w", encoding="ascii") as pairs:
            (write_xmc if options.layout == "xmc" else write_official)(folder, made, words, options, see)
        write_marker(folder, "make_xmc.py", "made data set")
        publish(folder, out)
    of_labels = np.sort(frequencies[:-1])[::-1]
    tail = of_labels[int(0.9 * len(of_labels)) :]
    most, median, none = of_labels[0], of_labels[len(of_labels) // 2], int((of_labels == 0).sum())
    print(
        f"{options.out}: {sizes.train:,} train, {sizes.test:,} test, {sizes.labels:,} labels; {counts['words'] / rows:.1f} words a row, "
        f"{counts['trn'] / sizes.train:.1f} labels a training query; queries a label: {most:,} the most, {median:,} the median, "
        f"{tail.mean():.1f} in the last tenth, {none:,} labels have none",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run_tool(main)
