#!/usr/bin/env python3
"""Shows a run: its metrics beside others on the terminal, a few predictions, and one self-contained HTML page.

The page holds the metrics table, the loss curve, test queries with their picture, true and predicted labels, and what
was mined (docs/mining.md); it needs no network and no other file. Queries are drawn at random (--seed), not chosen.
"""

from __future__ import annotations

import argparse
import codecs
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from vixen_tools.arguments import fraction, whole
from vixen_tools.errors import UserError, one_line, reading, reason, run_tool
from vixen_tools.files import read_json, write_text
from vixen_tools.hdf5_file import holds, open_hdf5, read_dataset, whole_dataset
from vixen_tools.mined_html import terminal_summary
from vixen_tools.mined_lists import newest_checkpoint, open_mined
from vixen_tools.mined_statistics import MinedStatistics, Survey, Thresholds, survey_lists
from vixen_tools.outputs import claim
from vixen_tools.progress import waiting
from vixen_tools.report_html import Page, render
from vixen_tools.report_pictures import data_uris, thumbnails
from vixen_tools.run_folder import read_settings

COLUMNS = ("P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSP@5", "R@100")


@dataclass
class Row:
    """One row of the metrics table. metrics: percentages by name; a name may be missing."""

    name: str
    metrics: dict[str, float]
    note: str = ""


@dataclass
class Example:
    """One query with its ranking: predicted = (label, is it true), best first; missed = true labels not in it."""

    row: int
    text: str
    predicted: list[tuple[str, bool]]
    missed: list[str] = field(default_factory=list)
    picture: str | None = None  # data URI


def numbers_of(content: object, path: Path) -> dict[str, float]:
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected one JSON object of metrics, found {type(content).__name__}")
    numbers = {}
    for key, value in content.items():
        if isinstance(value, (int, float)):
            number = finite(value)
            if number is None:
                raise UserError(f"{path}: {one_line(key, 80)} is {one_line(value, 40)}, expected a finite number")
            numbers[key] = number
    return numbers


def finite(value: object) -> float | None:
    """The value as a finite float; None where it is none."""
    try:
        number = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        number = math.inf
    return number if math.isfinite(number) else None


def read_rows(named: list[tuple[str, Path]], baselines: list[Path]) -> list[Row]:
    """Named metrics files in the order given; rows of --baselines files go in front of the last one (our run)."""
    rows = [Row(name, numbers_of(read_json(path), path)) for name, path in named]
    published = []
    for path in baselines:
        content = read_json(path)
        if not isinstance(content, list) or not all(
            isinstance(item, dict) and isinstance(item.get("name"), str) and "metrics" in item for item in content
        ):
            raise UserError(f"{path}: expected a JSON list of objects with name and metrics")
        published += [Row(item["name"], numbers_of(item["metrics"], path), str(item.get("note", ""))) for item in content]
    return rows[:-1] + published + rows[-1:]


def split_row(item: str) -> tuple[str, Path]:
    """NAME=METRICS.json."""
    name, separator, file = item.partition("=")
    if not separator:
        raise UserError(f"--row {item}: expected NAME=METRICS.json")
    return name, Path(file)


def read_log(run: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl that carry a finite loss, by step. A last line without its end is still being written."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = []
    # read once: a run that goes on writes meanwhile
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    for number, text in enumerate(content.split(b"\n")[:-1], 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: line {number}: not JSON: {reason(error, 100)}") from None
        if not isinstance(line, dict):
            raise UserError(f"{path}: line {number}: is a JSON {type(line).__name__}, expected an object")
        step, loss = finite(line.get("step")), finite(line.get("loss"))
        if step is not None and loss is not None:
            lines.append({"step": step, "loss": loss})
    return sorted(lines, key=lambda line: line["step"])


def ragged_text(texts: tuple[h5py.Dataset, h5py.Dataset], row: int) -> str:
    """Row of a pair of datasets (offsets, values)."""
    offsets, values = texts
    with reading(f"{offsets.file.filename}:{offsets.name}", "readable"):
        first, last = (int(value) for value in offsets[row : row + 2])
        return bytes(values[first:last]).decode("utf-8", errors="replace")


@contextmanager
def open_pair(data: Path, predictions: Path) -> Iterator[tuple]:
    """Both files; what h5py finds amiss in one names it."""
    with open_hdf5(data) as dataset, open_hdf5(predictions) as ranked:
        if not holds(ranked, "indices"):
            raise UserError(f"{predictions}: no /indices: expected a file written by `vixen predict`")
        indices = whole_dataset(ranked, "indices", "iu", 2)
        scores = whole_dataset(ranked, "scores", "f", 2)
        if scores.shape != indices.shape:
            raise UserError(f"{predictions}: /scores has the shape {scores.shape}, expected {indices.shape} as /indices has")
        yield dataset, indices, scores


def check_ranking(labels: np.ndarray, scores: np.ndarray, n_labels: int, predictions: Path, row: int) -> None:
    """UserError unless a row of /indices names labels, each once, -1 only behind them, and their scores are finite and do not rise."""
    named = labels[labels != -1]
    if (labels[: len(named)] == -1).any():
        raise UserError(f"{predictions}: /indices row {row} holds -1 before a label, expected -1 only where the list ends")
    if len(named) and not (named.min() >= 0 and named.max() < n_labels):
        wrong = named.min() if named.min() < 0 else named.max()
        raise UserError(f"{predictions}: /indices row {row} names label {wrong}, expected -1..{n_labels - 1}")
    values, counts = np.unique(named, return_counts=True)
    if len(values) < len(named):
        raise UserError(
            f"{predictions}: /indices row {row} names label {values[int(counts.argmax())]} {counts.max()} times, expected each once"
        )
    ranked = scores[: len(named)].astype(np.float64)
    if not np.isfinite(ranked).all():
        raise UserError(f"{predictions}: /scores row {row} holds {ranked[~np.isfinite(ranked)][0]}, expected finite numbers")
    if (np.diff(ranked) > 0).any():
        raise UserError(f"{predictions}: /scores row {row} rises, expected the best label first (of distances, write the negative)")


def read_examples(data: Path, split: str, predictions: Path, count: int, depth: int, seed: int) -> list[Example]:
    """`count` random queries of the split with their first `depth` predictions."""
    with open_pair(data, predictions) as (dataset, indices, scores):
        texts, label_texts = (
            (whole_dataset(dataset, f"{side}/texts/offsets", "i", 1), whole_dataset(dataset, f"{side}/texts/values", "u", 1))
            for side in (split, "label")
        )
        true_labels = whole_dataset(dataset, f"{split}/labels/values", "i", 1)
        offsets, n_labels = read_dataset(dataset, f"{split}/labels/offsets", "i", 1), len(label_texts[0]) - 1
        rows = len(offsets) - 1
        if len(indices) != rows:
            raise UserError(f"{predictions}: /indices has {len(indices)} rows, {data} has {rows} {split} queries")
        eligible = np.flatnonzero(np.diff(offsets) > 0)
        picked = (
            np.sort(np.random.default_rng(seed).choice(eligible, size=min(count, len(eligible)), replace=False))
            if len(eligible)
            else eligible
        )
        examples = []
        for row in picked.tolist():
            with reading(data, "a readable HDF5 data set"):
                truth = set(true_labels[int(offsets[row]) : int(offsets[row + 1])].tolist())
            with reading(predictions, "a readable HDF5 file of predictions"):
                labels, row_scores = np.asarray(indices[row]), np.asarray(scores[row])
            check_ranking(labels, row_scores, n_labels, predictions, row)
            ranking = [int(label) for label in labels[:depth] if label >= 0]
            examples.append(
                Example(
                    row,
                    ragged_text(texts, row),
                    [(ragged_text(label_texts, label).strip('"'), label in truth) for label in ranking],
                    [ragged_text(label_texts, label).strip('"') for label in sorted(truth - set(ranking))],
                )
            )
    return examples


def best_of(rows: list[Row]) -> dict[str, float]:
    return {column: max((row.metrics[column] for row in rows if column in row.metrics), default=float("nan")) for column in COLUMNS}


def terminal_table(rows: list[Row]) -> str:
    width = max(len(row.name) for row in rows)
    lines = [" " * width + "".join(f"{column:>9}" for column in COLUMNS)]
    for row in rows:
        cells = "".join(f"{row.metrics[column]:9.2f}" if column in row.metrics else f"{'':>9}" for column in COLUMNS)
        lines.append(f"{row.name:<{width}}{cells}")
    lines += [f"  {row.name}: {row.note}" for row in rows if row.note]
    return "\n".join(lines)


def terminal_examples(examples: list[Example]) -> str:
    lines = []
    for example in examples:
        marks = ", ".join(f"{'+' if right else '-'}{label}" for label, right in example.predicted)
        lines.append(f"  {example.text[:40]:<40}  {marks}")
    return "\n".join(lines)


MOST_PICTURES = 3  # of a query beside its mined negatives


def add_mined_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("mined negatives (docs/mining.md), with --data")
    group.add_argument("--mined", type=Path, metavar="FILE", help="file of `vixen mine`, or a run folder whose checkpoint holds lists")
    group.add_argument(
        "--query-embeddings",
        type=Path,
        help="of the queries, by `vixen embed`: with --label-embeddings, compares scores and embeddings too",
    )
    group.add_argument("--label-embeddings", type=Path, help="of the labels that were searched")
    group.add_argument("--mined-near", type=fraction, default=0.6, help="likeness of texts that is marked (default 0.6)")
    group.add_argument("--mined-close", type=fraction, default=0.95, help="factor of the weakest relevant label's score (default 0.95)")
    group.add_argument("--mined-cosine", type=fraction, default=0.9, help="cosine with a relevant label that is marked (default 0.9)")
    group.add_argument("--mined-sample", type=whole(1), default=20000, help="queries whose negatives are compared (default 20000)")
    group.add_argument("--mined-examples", type=whole(0), default=24, help="queries on the page (default 24)")


def mined_of(options: argparse.Namespace) -> MinedStatistics:
    """What was mined, with the pictures of its examples."""
    limits = Thresholds(options.mined_near, options.mined_close, options.mined_cosine)
    embeddings = (options.query_embeddings, options.label_embeddings) if options.query_embeddings else None
    survey = Survey(options.mined_sample, options.mined_examples, options.seed)
    found = survey_lists(open_mined(options.mined), options.data, options.split, limits, survey, embeddings)
    if options.raw:
        with waiting(f"{options.raw}: pictures read"):
            pictures = thumbnails(options.raw, found.split, [example.row for example in found.examples], MOST_PICTURES)
        for example in found.examples:
            example.pictures = pictures.get(example.row, [])
    return found


def check_options(options: argparse.Namespace) -> None:
    if not options.run.is_dir():
        raise UserError(f"{options.run}: no such run folder")
    if options.predictions and not options.data:
        raise UserError("--data and --predictions belong together: queries are shown with both")
    if options.data and not options.predictions and not options.mined:
        raise UserError("--data and --predictions belong together: queries are shown with both (or --data with --mined)")
    if options.mined and not options.data:
        raise UserError("--mined: lists are of a data set's queries, which need --data")
    if bool(options.query_embeddings) != bool(options.label_embeddings):
        raise UserError("--query-embeddings and --label-embeddings belong together: scores are products of both")
    if options.query_embeddings and not options.mined:
        raise UserError("--query-embeddings and --label-embeddings: are compared with the lists of --mined, which is missing")
    if options.raw and not options.data:
        raise UserError("--raw: the pictures are shown of queries, which need --data and --predictions (or --mined)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run folder: metrics.jsonl and config.ini are read")
    parser.add_argument(
        "--row", action="append", default=[], metavar="NAME=METRICS.json", help="a row of the table; the last one is the run's own"
    )
    parser.add_argument("--baselines", type=Path, action="append", default=[], help="JSON list of published rows (name, metrics, note)")
    parser.add_argument("--data", type=Path, help="the data set (HDF5): with --predictions, shows queries")
    parser.add_argument("--predictions", type=Path, help="file of `vixen predict` on that data set's split")
    parser.add_argument("--raw", type=Path, help="raw folder of the data set: its pictures are shown")
    parser.add_argument("--split", default="test", choices=("train", "test"))
    parser.add_argument("--examples", type=whole(0), default=48, help="queries on the page (default 48)")
    parser.add_argument("--terminal-examples", type=whole(0), default=8, help="queries on the terminal (default 8)")
    parser.add_argument("--depth", type=whole(1), default=5, help="predictions shown of a query (default 5)")
    parser.add_argument("--seed", type=whole(0), default=0, help="draws the queries (default 0)")
    parser.add_argument("--out", type=Path, help="HTML page to write")
    add_mined_options(parser)
    options = parser.parse_args()
    check_options(options)
    named = [split_row(item) for item in options.row] or [(options.run.name, options.run / "metrics.json")]
    # the page may lie in the run's folder, among what else was made of it
    inputs = {
        "--run": [options.run / name for name in ("metrics.json", "metrics.jsonl", "config.ini")],
        "--row": [path for _, path in named],
        "--baselines": options.baselines,
        "--data": options.data,
        "--predictions": options.predictions,
        "--raw": options.raw,
        "--mined": newest_checkpoint(options.mined) if options.mined and options.mined.is_dir() else options.mined,
        "--query-embeddings": options.query_embeddings,
        "--label-embeddings": options.label_embeddings,
    }
    out = claim(options.out, inputs, shared=("--raw",)) if options.out else None
    rows = read_rows(named, options.baselines)
    print(terminal_table(rows))
    examples: list[Example] = []
    if options.data and options.predictions:
        examples = read_examples(options.data, options.split, options.predictions, options.examples, options.depth, options.seed)
        shown = [examples[place] for place in np.random.default_rng(options.seed).permutation(len(examples))[: options.terminal_examples]]
        print(f"\nsome test queries and their first {options.depth} labels (+ right, - not among the true ones):")
        print(terminal_examples(shown))
        if options.raw:
            with waiting(f"{options.raw}: pictures read"):
                pictures = data_uris(options.raw, options.split, [example.row for example in examples])
            for example in examples:
                example.picture = pictures.get(example.row)
    mined = mined_of(options) if options.mined else None
    if mined:
        print(f"\n{terminal_summary(mined)}")
    if out:
        page = Page(
            title=f"vixen: {options.run.name}",
            rows=rows,
            columns=COLUMNS,
            best=best_of(rows),
            log=read_log(options.run),
            settings=read_settings(options.run),
            examples=examples,
            depth=options.depth,
            seed=options.seed,
            mined=mined,
        )
        write_text(out, render(page))
        print(f"\nreport: {options.out.resolve()}")


if __name__ == "__main__":
    run_tool(main)
