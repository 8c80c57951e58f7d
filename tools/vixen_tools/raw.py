"""The XMC repository's raw layout: {trn,tst,lbl}.json[l][.gz], one JSON object a line, and filter_labels_test.txt."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from .dataset_builder import Item
from .errors import UserError, one_line
from .files import LineReader, find_variant

ENDINGS = (".json.gz", ".jsonl.gz", ".json", ".jsonl")
TEXT_CHOICES = ("title", "title+content")
_INTEGERS = frozenset({int})
_LOOKUP_ROWS = 1024


def find_raw(folder: Path, stem: str) -> Path:
    """The file of a side (stem trn, tst or lbl)."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    path = find_variant(folder, stem, ENDINGS)
    if path is None:
        raise UserError(f"{folder}: has no {stem}.json.gz (nor {', '.join(stem + e for e in ENDINGS[1:])})")
    return path


class PictureNames(Protocol):
    """Where the names of pictures are looked up, as in an ImagesFile."""

    path: Path

    def find(self, names: list[str]) -> np.ndarray:
        """Row of each name, -1 where it is unknown."""

    def similar(self, name: str) -> str | None:
        """A known name that differs by writing only."""


class RawSide:
    """Items of one file, read line by line. `pictures`: where the picture names of the rows are looked up."""

    def __init__(
        self,
        path: Path,
        text: str,
        queries: bool,
        pictures: PictureNames | None = None,
        max_images: int | None = None,
        ignore_missing: bool = False,
    ):
        self.path, self._text, self._queries = path, text, queries
        self._pictures, self._max_images, self._ignore_missing = pictures, max_images, ignore_missing
        self._lines = LineReader(path)

    def fraction(self) -> float:
        return self._lines.fraction()

    def skip(self, lines: int) -> None:
        self._lines.skip(lines)

    def __iter__(self) -> Iterator[Item]:
        # names of pictures are looked up by the block, in a tenth of the time
        items: list[Item] = []
        names: list[list[str]] = []
        try:
            for line, content in self._lines:
                if not content.strip():
                    continue
                item, of_row = self._parse(line, content)
                items.append(item)
                names.append(of_row)
                if len(items) == _LOOKUP_ROWS:
                    yield from self._with_images(items, names)
                    items, names = [], []
        except UserError:
            yield from self._with_images(items, names)  # whose own mistakes come first
            raise
        yield from self._with_images(items, names)

    def _parse(self, line: int, content: str) -> tuple[Item, list[str]]:
        """The item without its pictures, and their names."""
        where = f"{self.path}:{line}"
        try:
            row = json.loads(content)
        except ValueError as error:
            raise UserError(f"{where}: not JSON: {one_line(error)}") from None
        except RecursionError:
            raise UserError(f"{where}: not JSON: nested too deeply") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: is a JSON {type(row).__name__}, expected an object")
        text = _string(where, row, "title")
        if self._text == "title+content":
            text = f"{text} {_string(where, row, 'content', optional=True)}"
        labels = relevant_labels(where, row) if self._queries else None
        return Item(text=text, line=line, labels=labels), self._names(where, row)

    def _names(self, where: str, row: dict) -> list[str]:
        names = row.get("images")
        if self._pictures is None or not names:
            return []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{where}: 'images' is {one_line(names, 80)}, expected a list of file names")
        return names[: self._max_images]

    def _with_images(self, items: list[Item], names: list[list[str]]) -> Iterator[Item]:
        if self._pictures is None:
            yield from items
            return
        found = self._pictures.find([name for of_row in names for name in of_row])
        first = 0
        for item, of_row in zip(items, names, strict=True):
            rows = found[first : first + len(of_row)]
            first += len(of_row)
            missing = rows < 0
            if missing.any():
                if not self._ignore_missing:
                    raise UserError(f"{self.path}:{item.line}: {self._missing(self._pictures, of_row[int(np.argmax(missing))])}")
                item.missing_images = int(missing.sum())
                rows = rows[~missing]
            item.images = rows if of_row else None
            yield item

    @staticmethod
    def _missing(pictures: PictureNames, name: str) -> str:
        similar = pictures.similar(name)
        if similar is None:
            return f"picture '{one_line(name, 200)}' is not in {pictures.path} (--ignore-missing-images goes on without)"
        # in ASCII, so that two names that look alike can be told apart
        wanted, found = (one_line(ascii(text)[1:-1], 200) for text in (name, similar))
        return f"picture '{wanted}' is not in {pictures.path}, but '{found}' is: expected the very same characters"


def _string(where: str, row: dict, key: str, optional: bool = False) -> str:
    value = row.get(key)
    if value is None and (optional or key in row):
        return ""
    if not isinstance(value, str):
        found = "is missing" if key not in row else f"is a {type(value).__name__}"
        raise UserError(f"{where}: '{key}' {found}, expected a string")
    return value


def relevant_labels(where: str, row: dict) -> np.ndarray:
    """The row's labels int64 [n] as they stand there, without those of relevance 0."""
    indices, relevance = row.get("target_ind"), row.get("target_rel")
    if not isinstance(indices, list):
        found = "is missing" if "target_ind" not in row else f"is {one_line(indices, 40)}"
        raise UserError(f"{where}: 'target_ind' {found}, expected a list of label numbers")
    if not _INTEGERS.issuperset(map(type, indices)):
        wrong = next(value for value in indices if type(value) is not int)
        raise UserError(f"{where}: 'target_ind' holds {_found(wrong)}, expected whole numbers")
    try:
        labels = np.array(indices, np.int64)
    except OverflowError:
        wrong = max(indices, key=abs)
        raise UserError(f"{where}: label {_found(wrong)} is out of range, expected the line of a label") from None
    if "target_rel" not in row:
        return labels
    if not isinstance(relevance, list) or len(relevance) != len(indices):
        found = f"{len(relevance)} entries" if isinstance(relevance, list) else one_line(relevance, 40)
        raise UserError(f"{where}: 'target_rel' is {found}, expected a list of {len(indices)} as in 'target_ind'")
    if relevance.count(1.0) == len(relevance):
        return labels
    for weight in relevance:
        if not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:  # also a NaN
            raise UserError(f"{where}: 'target_rel' holds {_found(weight)}, expected numbers, 0 or more")
    return labels[[weight != 0 for weight in relevance]]


def _found(value: object) -> str:
    """A value as JSON would write it, cut."""
    if isinstance(value, int) and abs(value) > 1 << 256:
        return f"a number of {value.bit_length():,} bits"
    return one_line(json.dumps(value), 40)


def read_filter(path: Path | None, n_rows: int, n_labels: int) -> np.ndarray:
    """Pairs int64 [n, 2] (test row, label) of filter_labels_test.txt; none when there is no file or it is empty."""
    pairs: list[np.ndarray] = []
    block: list[tuple[int, int]] = []
    for line, content in LineReader(path) if path else ():
        if not content.strip():
            continue
        numbers = content.split()
        if len(numbers) != 2 or not all(is_number(number) for number in numbers):
            raise UserError(f"{path}:{line}: is '{one_line(content, 40)}', expected 'row label'")
        row, label = map(int, numbers)
        if not (0 <= row < n_rows and 0 <= label < n_labels):
            raise UserError(
                f"{path}:{line}: pair {row} {label} is out of range, expected rows 0..{n_rows - 1} and labels 0..{n_labels - 1}"
            )
        block.append((row, label))
        if len(block) == 65536:
            pairs.append(np.array(block, np.int64))
            block = []
    pairs.append(np.array(block, np.int64).reshape(-1, 2))
    return np.concatenate(pairs)


def is_number(text: str) -> bool:
    """Whether it is a whole number in plain digits: int() also takes underscores and the digits of other scripts."""
    return len(text) < 20 and text.removeprefix("-").isdigit() and text.isascii()


def find_filter(folder: Path) -> Path | None:
    return find_variant(folder, "filter_labels_test", (".txt", ".txt.gz"))
