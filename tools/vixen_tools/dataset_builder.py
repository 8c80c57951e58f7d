"""Builds one HDF5 data set (docs/data-format.md) from streams of items, in bounded memory and atomically.

N: queries of a split; L: labels; M: pictures; I: width of a picture embedding.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from .content_hash import hash_of
from .errors import UserError
from .files import publish, work_folder
from .hdf5_file import write_contiguous
from .hdf5_output import hdf5_output
from .image_rows import ImageStore
from .progress import Progress, waiting
from .prompts import write_prompts
from .ragged import RaggedSpool
from .texts import clean_text, is_invisible
from .tokens import TextTokenizer

BATCH_ROWS = 4096
FORMAT = "vixen-dataset"
FORMAT_VERSION = 1
SIDES = ("label", "train", "test")  # the order in which they are added: rows of the splits name labels


@dataclass
class Item:
    """One query or label."""

    text: str
    line: int
    labels: np.ndarray | None = None  # int64, any order; of queries
    images: np.ndarray | None = None  # int64 rows of the image store


@dataclass
class EmptyPolicy:
    """What happens to a row without text, and to a training row without labels."""

    drop: bool = False
    keep_texts: bool = False


@dataclass
class DatasetMeta:
    name: str
    text: str
    propensity_a: float
    propensity_b: float
    created_by: str
    prompts: tuple[str, ...] = ()  # strings of templates, besides the tokenizer's default ones


def propensity_constants(name: str) -> tuple[float, float]:
    """(A, B) of the inverse propensity by the data set's name."""
    lowered = name.lower()
    if "amazon" in lowered:
        return 0.6, 2.6
    if "wiki" in lowered and "wikidata" not in lowered:
        return 0.5, 0.4
    return 0.55, 1.5


class _Side:
    """Spools of one side and the map from rows of the source to rows kept."""

    def __init__(self, folder: Path, name: str):
        self.spools = {
            "tokens": RaggedSpool(folder / f"{name}.tokens", np.int32),
            "images": RaggedSpool(folder / f"{name}.images", np.int64),
            "texts": RaggedSpool(folder / f"{name}.texts", np.uint8),
        }
        if name != "label":
            self.spools["labels"] = RaggedSpool(folder / f"{name}.labels", np.int32)
        self.kept: list[np.ndarray] = []
        self.rows_read = 0

    def row_map(self) -> np.ndarray:
        """int64 [rows read]: row kept as, -1 when dropped."""
        keep = np.concatenate(self.kept) if self.kept else np.zeros(0, bool)
        return np.where(keep, np.cumsum(keep) - 1, -1)


class DatasetBuilder:
    """Feed the sides in the order of SIDES, then the filter pairs, then finish(). Use as a context manager."""

    def __init__(self, out: Path, tokenizer: TextTokenizer, images: ImageStore, meta: DatasetMeta, policy: EmptyPolicy):
        self._out, self._tokenizer, self._images, self._meta, self._policy = out, tokenizer, images, meta, policy
        _check_meta(meta)
        # before anything long: what the tokenizer cannot encode is known at once
        self._prompts = tokenizer.encode_prompts(dict.fromkeys([*tokenizer.default_prompts(), *meta.prompts]))
        self._context = work_folder(out)
        self._sides: dict[str, _Side] = {}
        self._filter = np.zeros((0, 2), np.int64)
        self.dropped: dict[str, int] = {}

    def __enter__(self) -> DatasetBuilder:
        self._folder = self._context.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for side in self._sides.values():
            for spool in side.spools.values():
                spool.close()
        self._context.__exit__(kind, value, trace)

    def rows_read(self, side: str) -> int:
        """Rows of the source, dropped ones included: the range of its numbering."""
        return self._sides[side].rows_read

    def add_side(self, name: str, source: Path, items: Iterable[Item], fraction: Callable[[], float] | None = None) -> None:
        """Reads all items of a side. `source` is named in errors; fraction() says how far the reader is."""
        assert name == SIDES[len(self._sides)]
        side = self._sides[name] = _Side(self._folder, name)
        self._label_map = self._sides["label"].row_map() if name != "label" else np.zeros(0, np.int64)
        self._empty_texts, self._zero_labels, self._invisible = _Fault(), _Fault(), _Fault()
        with Progress(f"{source.name}: tokenised") as progress:
            for batch in _batches(items):
                self._add_batch(side, name, source, batch)
                progress.add(len(batch), fraction() if fraction else None)
        if not side.rows_read:
            raise UserError(f"{source}: is empty, expected at least one row")
        self._judge(name, source)
        if not side.spools["tokens"].rows:
            raise UserError(f"{source}: no row is left after dropping empty ones")

    def set_filter(self, pairs: np.ndarray) -> None:
        """Pairs int64 [n, 2] of (test row, label) in the source's numbering, already checked against its ranges."""
        rows, labels = self._sides["test"].row_map(), self._sides["label"].row_map()
        pairs = np.stack([rows[pairs[:, 0]], labels[pairs[:, 1]]], axis=1)
        self._filter = np.unique(pairs[(pairs >= 0).all(axis=1)], axis=0)

    def finish(self) -> dict[str, int]:
        """Writes the file and returns its counts."""
        temporary = self._folder / "data.h5"
        counts = {f"{name} rows": side.spools["tokens"].rows for name, side in self._sides.items()}
        n_images = self._images.close_uses()
        max_images = max(side.spools["images"].longest for side in self._sides.values())
        with hdf5_output(temporary, "w") as file:
            self._write_attributes(file, max_images)
            for name, side in self._sides.items():
                with waiting(f"{name}: written"):
                    hashes = [h for part, spool in side.spools.items() for h in self._write_ragged(file, f"{name}/{part}", spool)]
                if name == "test":
                    hashes += self._write_filter(file)
                file.attrs[f"content_{name}"] = hash_of(hashes)
            write_prompts(file, self._prompts)
            with Progress("pictures: written", n_images) as progress:
                content = write_contiguous(
                    file, "images/embeddings", (n_images, self._images.width()), np.float16, _counted(self._images.kept_blocks(), progress)
                )
            file.attrs["content_images"] = hash_of([content])
        publish(temporary, self._out)
        counts["pictures"] = n_images
        counts["filter pairs"] = len(self._filter)
        counts["prompts"] = len(self._prompts)
        return counts

    def _add_batch(self, side: _Side, name: str, source: Path, batch: list[Item]) -> None:
        keep = np.ones(len(batch), bool)
        for i, item in enumerate(batch):
            item.text = clean_text(item.text)
            if not item.text and not self._policy.keep_texts:
                self._empty_texts.add(item.line)
                keep[i] = False
            if name == "label":
                continue
            item.labels = self._map_labels(source, item)
            if name == "train" and not len(item.labels):
                if keep[i]:
                    self._zero_labels.add(item.line)
                keep[i] = False
        side.kept.append(keep)
        side.rows_read += len(batch)
        kept = [item for i, item in enumerate(batch) if keep[i]]
        side.spools["tokens"].append(*self._encode(source, kept))
        side.spools["texts"].append(*_ragged([np.frombuffer(item.text.encode(), np.uint8) for item in kept], np.uint8))
        lengths, images = _ragged([() if item.images is None else item.images for item in kept], np.int64)
        self._images.use(images)
        side.spools["images"].append(lengths, images)
        if name != "label":
            side.spools["labels"].append(*_ragged([item.labels for item in kept], np.int32))

    def _encode(self, source: Path, items: list[Item]) -> tuple[np.ndarray, np.ndarray]:
        lengths, ids = self._tokenizer.encode([item.text for item in items])
        for item, length in zip(items, lengths.tolist(), strict=True):
            if item.text and (length <= self._tokenizer.special or is_invisible(item.text)):
                self._invisible.add(item.line)
        if len(lengths) and not lengths.all():
            line = items[int(np.argmin(lengths))].line
            raise UserError(f"{source}:{line}: the tokenizer makes no token of this text, expected at least one")
        return lengths, ids

    def _map_labels(self, source: Path, item: Item) -> np.ndarray:
        labels = np.unique(np.asarray(item.labels, np.int64))
        if len(labels) and (labels[0] < 0 or labels[-1] >= len(self._label_map)):
            wrong = labels[0] if labels[0] < 0 else labels[-1]
            raise UserError(f"{source}:{item.line}: label {wrong} is out of range, expected 0..{len(self._label_map) - 1}")
        mapped = self._label_map[labels]
        return mapped[mapped >= 0]

    def _judge(self, name: str, source: Path) -> None:
        faults = ((self._empty_texts, "no text"), (self._zero_labels, "no label"))
        for fault, what in faults:
            if not fault.count:
                continue
            if not self._policy.drop:
                rows = "row" if fault.count == 1 else "rows"
                raise UserError(
                    f"{source}:{fault.first_line}: {fault.count:,} {rows} with {what}, this is the first; "
                    "expected none (--drop-empty leaves such rows out)"
                )
            self.dropped[f"{name} rows with {what}"] = fault.count
            print(f"{source}: dropped {fault.count:,} with {what}, the first at line {fault.first_line}", file=sys.stderr)
        if self._invisible.count:
            print(
                f"{source}: kept {self._invisible.count:,} whose text is of invisible characters alone, or nothing to the tokenizer, "
                f"the first at line {self._invisible.first_line}",
                file=sys.stderr,
            )

    def _write_attributes(self, file: h5py.File, max_images: int) -> None:
        tokenizer, meta = self._tokenizer, self._meta
        strings = {
            "format": FORMAT,
            "name": meta.name,
            "tokenizer": tokenizer.name,
            "tokenizer_sha256": tokenizer.sha256,
            "text": meta.text,
            "created_by": meta.created_by,
        }
        integers: dict[str, Any] = {
            "version": FORMAT_VERSION,
            "vocabulary": tokenizer.vocabulary,
            "max_length": tokenizer.max_length,
            "max_images": max_images,
            "bos_token": tokenizer.bos_token,
        }
        for key, text in strings.items():
            file.attrs[key] = text
        for key, number in integers.items():
            file.attrs[key] = np.int64(number)
        file.attrs["propensity_a"] = np.float64(meta.propensity_a)
        file.attrs["propensity_b"] = np.float64(meta.propensity_b)

    def _write_ragged(self, file: h5py.File, name: str, spool: RaggedSpool) -> tuple[int, int]:
        """Writes the pair and returns the hashes of offsets and values."""
        offsets = write_contiguous(file, f"{name}/offsets", (spool.rows + 1,), np.int64, [spool.offsets()])
        blocks: Iterable[np.ndarray] = spool.blocks()
        dtype = spool.dtype
        if name.endswith("/images"):
            blocks, dtype = map(self._images.renumber, blocks), np.dtype(np.int32)
        return offsets, write_contiguous(file, f"{name}/values", (spool.values,), dtype, blocks)

    def _write_filter(self, file: h5py.File) -> tuple[int, int]:
        rows = self._sides["test"].spools["tokens"].rows
        offsets = np.searchsorted(self._filter[:, 0], np.arange(rows + 1)).astype(np.int64)
        return (
            write_contiguous(file, "test/filter/offsets", (rows + 1,), np.int64, [offsets]),
            write_contiguous(file, "test/filter/values", (len(self._filter),), np.int32, [self._filter[:, 1]]),
        )


def _check_meta(meta: DatasetMeta) -> None:
    for name, value in (("--propensity-a", meta.propensity_a), ("--propensity-b", meta.propensity_b)):
        if not 0 <= value < math.inf:  # also a NaN
            raise UserError(f"{name} {value}: expected a finite number, 0 or more")
    try:
        meta.name.encode()
    except UnicodeEncodeError:
        raise UserError(f"name '{meta.name}' of the data set: not UTF-8, give another --name") from None


class _Fault:
    """How often, and the first line."""

    def __init__(self) -> None:
        self.count, self.first_line = 0, 0

    def add(self, line: int) -> None:
        self.first_line = self.first_line or line
        self.count += 1


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _ragged(rows: list, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    values: np.ndarray = np.concatenate(rows).astype(dtype) if int(lengths.sum()) else np.zeros(0, dtype)
    return lengths, values


def _counted(blocks: Iterator[np.ndarray], progress: Progress) -> Iterator[np.ndarray]:
    for block in blocks:
        yield block
        progress.add(len(block))
