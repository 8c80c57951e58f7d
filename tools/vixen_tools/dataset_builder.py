"""Builds one HDF5 data set (docs/data-format.md) from streams of items, in bounded memory and atomically; goes on where it was killed.

N: queries of a split; L: labels; M: pictures; I: width of a picture embedding.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import h5py
import numpy as np

from .content_hash import hash_of
from .dataset_side import Side
from .errors import UserError
from .files import publish
from .hdf5_file import write_contiguous
from .hdf5_output import hdf5_output
from .image_rows import ImageStore
from .partial_work import OUTPUT, PartialWork
from .progress import Progress, waiting
from .prompts import write_prompts
from .ragged import RaggedSpool
from .texts import clean_text, is_invisible
from .tokens import TextTokenizer

BATCH_ROWS = 4096
SAVE_SECONDS = 20.0  # of work that a kill may cost
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
    missing_images: int = 0  # pictures that were named and not found


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


@dataclass
class _Batch:
    """What is known of the rows of a batch before they are tokenised."""

    items: list[Item]  # of the kept rows
    keep: np.ndarray  # bool, of all rows
    labels: tuple[np.ndarray, np.ndarray] | None  # lengths and labels of the kept rows
    last_line: int
    missing_images: int
    tokens: Future[tuple[np.ndarray, np.ndarray]] | None = None


class Source(Protocol):
    """Where the items of a side come from: a file, in its order."""

    @property
    def path(self) -> Path:
        """Named in errors."""

    def skip(self, lines: int) -> None:
        """Has the iteration begin behind line `lines` of the file."""

    def fraction(self) -> float:
        """The share of the file that was read."""

    def __iter__(self) -> Iterator[Item]: ...


class DatasetBuilder:
    """Feed the sides in the order of SIDES, then the filter pairs, then finish(). Use as a context manager.

    made_from: what decides the content of the sides (PartialWork): where a killed process left sides made from the same, they are gone
    on with.
    """

    def __init__(
        self,
        out: Path,
        tokenizer: TextTokenizer,
        images: ImageStore,
        meta: DatasetMeta,
        policy: EmptyPolicy,
        made_from: Mapping[str, str],
    ):
        self._out, self._tokenizer, self._images, self._meta, self._policy = out, tokenizer, images, meta, policy
        _check_meta(meta)
        # before anything long: what the tokenizer cannot encode is known at once
        self._prompts = tokenizer.encode_prompts(dict.fromkeys([*tokenizer.default_prompts(), *meta.prompts]))
        self._work = PartialWork(out, made_from)
        self._sides: dict[str, Side] = {}
        self._restored: set[str] = set()
        self._label_map = np.zeros(0, np.int32)
        self._filter = np.zeros((0, 2), np.int64)
        self._saved = time.monotonic()

    def __enter__(self) -> DatasetBuilder:
        self._work.__enter__()
        try:
            self._restore()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for side in self._sides.values():
            side.close()
        self._work.__exit__(kind, value, trace)

    def rows_read(self, side: str) -> int:
        """Rows of the source, dropped ones included: the range of its numbering."""
        return self._sides[side].rows_read

    def missing_images(self) -> int:
        """Names of pictures that were not found, of all sides."""
        return sum(side.missing_images for side in self._sides.values())

    def add_side(self, name: str, source: Source) -> None:
        """Reads all items of a side, or those behind the ones that were done before a kill."""
        path = source.path
        if name not in self._restored:
            assert name == SIDES[len(self._sides)]
            self._sides[name] = Side(self._work.folder, name)
        side = self._sides[name]
        self._label_map = self._sides["label"].row_map() if name != "label" else self._label_map
        if not side.done:
            if side.rows_read:
                print(f"{path}: going on after {side.rows_read:,} rows", file=sys.stderr)
            source.skip(side.last_line)
            with Progress(f"{path.name}: tokenised") as progress, ThreadPoolExecutor(1) as pool:
                # the tokenizer works on one batch while the next one is read
                before: _Batch | None = None
                batches = _batches(source)
                while True:
                    try:
                        items = next(batches, None)
                        batch = self._prepare(side, name, path, items) if items else None
                    except UserError:
                        if before:  # whose own mistakes come first
                            self._store(side, path, before)
                        raise
                    if batch:
                        batch.tokens = pool.submit(self._tokenizer.encode, [item.text for item in batch.items])
                    if before:
                        self._store(side, path, before)
                        progress.add(len(before.keep), source.fraction())
                    if not batch:
                        break
                    before = batch
        if not side.rows_read:
            raise UserError(f"{path}: is empty, expected at least one row")
        self._judge(side, path)
        if not side.spools["tokens"].rows:
            raise UserError(f"{path}: no row is left after dropping empty ones")
        if not side.done:
            side.done = True
            self._save()

    def set_filter(self, pairs: np.ndarray) -> None:
        """Pairs int64 [n, 2] of (test row, label) in the source's numbering, already checked against its ranges."""
        rows, labels = self._sides["test"].row_map(), self._label_map
        pairs = np.stack([rows[pairs[:, 0]], labels[pairs[:, 1]]], axis=1)
        self._filter = np.unique(pairs[(pairs >= 0).all(axis=1)], axis=0)

    def finish(self) -> dict[str, int]:
        """Writes the file and returns its counts."""
        temporary = self._work.folder / OUTPUT
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

    def _restore(self) -> None:
        """Opens the sides of the unfinished work, if there is any, and marks the pictures that they use."""
        states = self._work.note.get("sides", {})
        try:
            for name in SIDES[: len(states)]:
                self._sides[name] = Side(self._work.folder, name, states[name])
                self._restored.add(name)
                for rows in self._sides[name].spools["images"].blocks():
                    self._images.use(rows)
        except (OSError, EOFError, LookupError, TypeError, ValueError):  # files that somebody removed or cut
            print(f"{self._out}: starting over, unfinished work beside it is damaged", file=sys.stderr)
            for side in self._sides.values():
                side.close()
            self._sides, self._restored = {}, set()
            self._images.forget_uses()
            self._work.start_over()

    def _save(self) -> None:
        for name, side in self._sides.items():
            if name not in self._restored or not side.done:
                side.sync()
        self._work.save({"sides": {name: side.state() for name, side in self._sides.items()}})
        self._restored |= {name for name, side in self._sides.items() if side.done}
        self._saved = time.monotonic()

    def _prepare(self, side: Side, name: str, source: Path, items: list[Item]) -> _Batch:
        keep = np.ones(len(items), bool)
        labels = None if name == "label" else self._map_labels(source, items)
        for i, item in enumerate(items):
            item.text = clean_text(item.text)
            if not item.text and not self._policy.keep_texts:
                side.empty_texts.add(item.line)
                keep[i] = False
        if labels and name == "train":
            for i in np.flatnonzero(keep & (labels[0] == 0)).tolist():
                side.zero_labels.add(items[i].line)
                keep[i] = False
        missing, last_line = sum(item.missing_images for item in items), items[-1].line
        if not keep.all():
            items = [item for item, kept in zip(items, keep.tolist(), strict=True) if kept]
            labels = labels and (labels[0][keep], labels[1][np.repeat(keep, labels[0])])
        return _Batch(items, keep, labels, last_line, missing)

    def _store(self, side: Side, source: Path, batch: _Batch) -> None:
        assert batch.tokens is not None
        lengths, ids = batch.tokens.result()
        self._judge_tokens(side, source, batch.items, lengths)
        side.keep(batch.keep)
        side.spools["tokens"].append(lengths, ids)
        texts = [item.text.encode() for item in batch.items]
        side.spools["texts"].append(_lengths(texts), np.frombuffer(b"".join(texts), np.uint8))
        images = [item.images for item in batch.items if item.images is not None]
        rows = np.concatenate(images) if images else np.zeros(0, np.int64)
        self._images.use(rows)
        side.spools["images"].append(_lengths([() if item.images is None else item.images for item in batch.items]), rows)
        if batch.labels is not None:
            side.spools["labels"].append(*batch.labels)
        side.last_line = batch.last_line
        side.missing_images += batch.missing_images
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self._save()

    def _judge_tokens(self, side: Side, source: Path, items: list[Item], lengths: np.ndarray) -> None:
        for item, length in zip(items, lengths.tolist(), strict=True):
            if item.text and (length <= self._tokenizer.special or is_invisible(item.text)):
                side.invisible.add(item.line)
        if len(lengths) and not lengths.all():
            line = items[int(np.argmin(lengths))].line
            raise UserError(f"{source}:{line}: the tokenizer makes no token of this text, expected at least one")

    def _map_labels(self, source: Path, items: list[Item]) -> tuple[np.ndarray, np.ndarray]:
        """Lengths and labels int32 of all rows, renumbered, ascending and distinct within a row."""
        n_labels, n = len(self._label_map), len(items)
        lists = [() if item.labels is None else item.labels for item in items]
        lengths = _lengths(lists)
        labels = np.concatenate([np.zeros(0, np.int64), *lists], dtype=np.int64, casting="unsafe")
        rows = np.repeat(np.arange(n), lengths)
        wrong = (labels < 0) | (labels >= n_labels)
        if wrong.any():
            row = int(rows[np.argmax(wrong)])
            of_row = labels[rows == row]
            found = of_row.min() if of_row.min() < 0 else of_row.max()
            raise UserError(f"{source}:{items[row].line}: label {found} is out of range, expected 0..{n_labels - 1}")
        keys = np.sort(rows * n_labels + labels)  # by row, then label
        keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
        rows, labels = keys // max(n_labels, 1), self._label_map[keys % max(n_labels, 1)]
        kept = labels >= 0
        return np.bincount(rows[kept], minlength=n), labels[kept]

    def _judge(self, side: Side, source: Path) -> None:
        for fault, what in ((side.empty_texts, "no text"), (side.zero_labels, "no label")):
            if not fault.count:
                continue
            if not self._policy.drop:
                rows = "row" if fault.count == 1 else "rows"
                raise UserError(
                    f"{source}:{fault.first_line}: {fault.count:,} {rows} with {what}, this is the first; "
                    "expected none (--drop-empty leaves such rows out)"
                )
            print(f"{source}: dropped {fault.count:,} with {what}, the first at line {fault.first_line}", file=sys.stderr)
        if side.invisible.count:
            print(
                f"{source}: kept {side.invisible.count:,} whose text is of invisible characters alone, or nothing to the tokenizer, "
                f"the first at line {side.invisible.first_line}",
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
        offsets = write_contiguous(file, f"{name}/offsets", (spool.rows + 1,), np.int64, spool.offsets())
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


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _lengths(rows: Sequence[Sized]) -> np.ndarray:
    return np.fromiter(map(len, rows), np.int64, len(rows))


def _counted(blocks: Iterator[np.ndarray], progress: Progress) -> Iterator[np.ndarray]:
    for block in blocks:
        yield block
        progress.add(len(block))
