"""Lists of mined negatives, block by block: the HDF5 file of `vixen mine`, or the lists that a run's newest checkpoint holds.

N: queries; k: negatives of a query at most.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import UserError, one_line, reading
from .files import read_json
from .hdf5_file import holds, open_hdf5, read_attribute, whole_dataset

RANKS = ("ranks", "places")  # the dataset's name now, and in files of older programs
RULES = ("relevant", "skipped", "same_text", "margin")
CHECKPOINT_FORMAT = "vixen checkpoint"
BLOCK_ROWS = 1 << 16


@dataclass
class MinedBlock:
    """Consecutive queries from row `first` on; what a source does not hold is None."""

    first: int
    negatives: np.ndarray  # int32 [n, k], -1 where fewer are left
    scores: np.ndarray | None  # float32 [n, k]
    ranks: np.ndarray | None  # int32 [n, k], from 1: the place in what the search found
    dropped: np.ndarray | None  # int32 [n, rules]


@dataclass
class MinedLists:
    """What was mined, and of what. dropped: labels that each rule took out, over all queries, where it is known without the blocks."""

    path: Path
    rows: int
    width: int
    n_labels: int | None  # None: the source does not say
    queries_content: str | None
    labels_content: str | None
    corpus_is_another: bool
    depth: int | None
    rules: tuple[str, ...]
    dropped: dict[str, int] | None
    made_by: str

    def blocks(self) -> Iterator[MinedBlock]:
        raise NotImplementedError


class _MinedFile(MinedLists):
    def blocks(self) -> Iterator[MinedBlock]:
        with open_hdf5(self.path) as file:
            ranks = next((name for name in RANKS if holds(file, name)), None)
            ids = whole_dataset(file, "negatives", "i", 2)
            others = [
                whole_dataset(file, name, kind, 2) if name and holds(file, name) else None
                for name, kind in (("scores", "f"), (ranks, "i"), ("dropped", "i"))
            ]
            for first in range(0, self.rows, BLOCK_ROWS):
                rows = slice(first, first + BLOCK_ROWS)
                with reading(self.path, "a readable HDF5 file of `vixen mine`"):
                    scores, places, dropped = (None if source is None else source[rows] for source in others)
                    block = MinedBlock(first, ids[rows], scores, places, dropped)
                yield block


class _MinedTables(MinedLists):
    """Of a checkpoint: shards of whole rows, in order."""

    shards: list[tuple[Path, int]]

    def blocks(self) -> Iterator[MinedBlock]:
        from safetensors import safe_open

        row = 0
        for path, rows in self.shards:
            with reading(path, "a readable part of a checkpoint"), safe_open(path, "numpy") as file:
                names = set(file.keys())
                ids = file.get_slice("mined")
                scores = file.get_slice("mined.scores") if "mined.scores" in names else None
            for first in range(0, rows, BLOCK_ROWS):
                last = min(first + BLOCK_ROWS, rows)
                with reading(path, "a readable part of a checkpoint"):
                    found = None if scores is None else scores[first:last].astype(np.float32)
                    block = MinedBlock(row + first, ids[first:last], found, None, None)
                yield block
            row += rows


def open_mined(path: Path) -> MinedLists:
    """The lists of a file of `vixen mine`, or of a run folder's newest checkpoint. UserError: neither, or damaged."""
    return _of_checkpoint(path) if path.is_dir() else _of_file(path)


def _of_file(path: Path) -> MinedLists:
    with open_hdf5(path) as file:
        if not holds(file, "negatives"):
            raise UserError(f"{path}: no /negatives: expected a file written by `vixen mine`")
        shape = whole_dataset(file, "negatives", "i", 2).shape
        rules = RULES
        listed = read_attribute(file, "dropped_columns", str)
        if listed:
            rules = tuple(name.strip() for name in listed.split(","))
        expected: dict[str, tuple[str, tuple[int, ...]]] = {"scores": ("f", shape), "dropped": ("i", (shape[0], len(rules)))}
        expected |= dict.fromkeys(RANKS, ("i", shape))
        for name, (kinds, wanted) in expected.items():
            if not holds(file, name):
                continue
            found = whole_dataset(file, name, kinds, 2).shape
            if found != wanted:
                raise UserError(f"{path}: /{name} has the shape {found}, expected {wanted} beside /negatives {shape}")
        depth = re.search(r"^mining\.depth = (\d+)$", read_attribute(file, "settings", str, ""), re.MULTILINE)
        return _MinedFile(
            path,
            int(shape[0]),
            int(shape[1]),
            n_labels=None,
            queries_content=read_attribute(file, "queries_content", str),
            labels_content=read_attribute(file, "labels_content", str),
            corpus_is_another=read_attribute(file, "relevant_labels_content", str) is not None,
            depth=int(depth.group(1)) if depth else None,
            rules=rules,
            dropped=None,
            made_by=read_attribute(file, "created_by", str, ""),
        )


def newest_checkpoint(run: Path) -> Path:
    """The folder of the newest complete checkpoint of a run; UserError where there is none."""
    found = sorted(path.parent for path in (run / "checkpoints").glob("step-*/manifest.json") if path.parent.name[5:].isdigit())
    if not found:
        raise UserError(f"{run}: has no checkpoint (checkpoints/step-*/manifest.json), expected one, or give the file of `vixen mine`")
    return found[-1]


def _of_checkpoint(run: Path) -> MinedLists:
    folder = newest_checkpoint(run)
    path = folder / "manifest.json"
    manifest = read_json(path)
    with reading(path, "a checkpoint's manifest"):
        if manifest["format"] != CHECKPOINT_FORMAT:
            raise UserError(f"{path}: its format is {one_line(manifest['format'], 40)}, expected '{CHECKPOINT_FORMAT}'")
        table, world_size = manifest["tables"].get("mined"), int(manifest["world_size"])
        scalars = manifest["scalars"]
        mined_at, content = scalars.get("mined_at", -1), scalars["dataset"]
    if table is None:
        raise UserError(f"{run}: its checkpoint holds no mined lists: the run does not mine (mining.columns)")
    if mined_at < 0:
        raise UserError(f"{folder}: nothing had been mined when this checkpoint was made (mining.start_epoch)")
    with reading(path, "a checkpoint's manifest"):
        lists = _MinedTables(
            path,
            int(table["rows"]),
            int(table["row_shape"][0]),
            n_labels=int(content["labels"]),
            queries_content=content["content_train"] or None,
            labels_content=content["content_label"] or None,
            corpus_is_another=False,
            depth=int(table["row_shape"][0]),
            rules=RULES,
            dropped=_dropped_at(run, mined_at),
            made_by=f"checkpoint of step {manifest['step']}, mined at step {mined_at}",
        )
        lists.shards = [
            (folder / f"shard-{rank:05d}-of-{world_size:05d}.safetensors", int(last) - int(first))
            for rank, (first, last) in enumerate(table["shards"])
            if last > first
        ]
    return lists


def _dropped_at(run: Path, step: int) -> dict[str, int] | None:
    """What the rules dropped in the mining at a step, as metrics.jsonl says; None where it does not."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return None
    found = None
    for text in path.read_bytes().split(b"\n")[:-1]:
        if b'"mining"' not in text:
            continue
        with reading(path, "lines of JSON"):
            line = json.loads(text)
            if line.get("step") == step and isinstance(line.get("mining"), dict):
                found = {rule: int(line["mining"][rule]) for rule in RULES}
    return found


def check_block(lists: MinedLists, block: MinedBlock, n_labels: int) -> None:
    """UserError unless negatives are labels or -1, -1 only behind them, with finite scores where there are labels."""
    ids, there = block.negatives, block.negatives >= 0
    wrong = (ids < -1) | (ids >= n_labels)
    if wrong.any():
        row, place = np.argwhere(wrong)[0]
        raise UserError(f"{lists.path}: the list of query {block.first + row} names label {ids[row, place]}, expected -1..{n_labels - 1}")
    gaps = (there[:, 1:] & ~there[:, :-1]).any(axis=1)
    if gaps.any():
        raise UserError(f"{lists.path}: the list of query {block.first + int(gaps.argmax())} holds -1 before a label")
    if block.scores is not None:
        odd = (there & ~np.isfinite(block.scores)).any(axis=1)
        if odd.any():
            raise UserError(f"{lists.path}: a score of query {block.first + int(odd.argmax())} is not finite, expected a number")
