#!/usr/bin/env python3
"""Shows a run: its metrics beside others on the terminal, a few predictions, and one self-contained HTML page.

The page holds the metrics table, the loss curve, and test queries with their picture, true and predicted labels; it
needs no network and no other file. Queries are drawn at random (--seed), not chosen.
"""

from __future__ import annotations

import argparse
import configparser
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vixen_tools.errors import UserError, run_tool
from vixen_tools.files import publish, work_folder
from vixen_tools.hdf5_file import open_hdf5
from vixen_tools.report_html import Page, render
from vixen_tools.report_pictures import data_uris

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


def read_json(path: Path) -> object:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {error.lineno}: not JSON ({error.msg})") from None


def numbers_of(content: object, path: Path) -> dict[str, float]:
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected one JSON object of metrics, found {type(content).__name__}")
    return {key: float(value) for key, value in content.items() if isinstance(value, (int, float))}


def read_rows(named: list[str], baselines: list[Path]) -> list[Row]:
    """--row NAME=FILE in the order given; rows of --baselines files go in front of the last one (our run)."""
    rows = []
    for item in named:
        name, separator, file = item.partition("=")
        if not separator:
            raise UserError(f"--row {item}: expected NAME=METRICS.json")
        rows.append(Row(name, numbers_of(read_json(Path(file)), Path(file))))
    published = []
    for path in baselines:
        content = read_json(path)
        if not isinstance(content, list) or not all(isinstance(item, dict) and {"name", "metrics"} <= item.keys() for item in content):
            raise UserError(f"{path}: expected a JSON list of objects with name and metrics")
        published += [Row(item["name"], numbers_of(item["metrics"], path), item.get("note", "")) for item in content]
    return rows[:-1] + published + rows[-1:]


def read_log(run: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl that carry a loss, by step."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            raise UserError(f"{path}: line {number}: not JSON") from None
        if isinstance(line.get("loss"), (int, float)) and "step" in line:
            lines.append(line)
    return sorted(lines, key=lambda line: line["step"])


def read_settings(run: Path) -> dict[str, str]:
    """The keys of config.ini as section.key; empty when the run has none."""
    path = run / "config.ini"
    if not path.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#", ";"))
    parser.read_string("[.]\n" + path.read_text(encoding="utf-8"))
    return {(key if section == "." else f"{section}.{key}"): value for section in parser.sections() for key, value in parser[section].items()}


def ragged_text(group, row: int) -> str:
    first, last = (int(value) for value in group["offsets"][row : row + 2])
    return bytes(group["values"][first:last]).decode("utf-8", errors="replace")


def read_examples(data: Path, split: str, predictions: Path, count: int, depth: int, seed: int) -> list[Example]:
    """`count` random queries of the split with their first `depth` predictions."""
    with open_hdf5(data) as dataset, open_hdf5(predictions) as ranked:
        if "indices" not in ranked:
            raise UserError(f"{predictions}: no /indices: expected a file written by `vixen predict`")
        side, label_texts = dataset[split], dataset["label/texts"]
        offsets = side["labels/offsets"][:]
        indices = ranked["indices"]
        rows = len(offsets) - 1
        if len(indices) != rows:
            raise UserError(f"{predictions}: /indices has {len(indices)} rows, {data} has {rows} {split} queries")
        eligible = np.flatnonzero(np.diff(offsets) > 0)
        picked = np.sort(np.random.default_rng(seed).choice(eligible, size=min(count, len(eligible)), replace=False))
        examples = []
        for row in picked.tolist():
            truth = set(side["labels/values"][int(offsets[row]) : int(offsets[row + 1])].tolist())
            ranking = [int(label) for label in indices[row][:depth] if label >= 0]
            examples.append(Example(
                row, ragged_text(side["texts"], row),
                [(ragged_text(label_texts, label).strip('"'), label in truth) for label in ranking],
                [ragged_text(label_texts, label).strip('"') for label in sorted(truth - set(ranking))]))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run folder: metrics.jsonl and config.ini are read")
    parser.add_argument("--row", action="append", default=[], metavar="NAME=METRICS.json", help="a row of the table; the last one is the run's own")
    parser.add_argument("--baselines", type=Path, action="append", default=[], help="JSON list of published rows (name, metrics, note)")
    parser.add_argument("--data", type=Path, help="the data set (HDF5): with --predictions, shows queries")
    parser.add_argument("--predictions", type=Path, help="file of `vixen predict` on that data set's split")
    parser.add_argument("--raw", type=Path, help="raw folder of the data set: its pictures are shown")
    parser.add_argument("--split", default="test", choices=("train", "test"))
    parser.add_argument("--examples", type=int, default=48, help="queries on the page (default 48)")
    parser.add_argument("--terminal-examples", type=int, default=8, help="queries on the terminal (default 8)")
    parser.add_argument("--depth", type=int, default=5, help="predictions shown of a query (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="draws the queries (default 0)")
    parser.add_argument("--out", type=Path, help="HTML page to write")
    options = parser.parse_args()
    if not options.run.is_dir():
        raise UserError(f"{options.run}: no such run folder")
    rows = read_rows(options.row or [f"{options.run.name}={options.run / 'metrics.json'}"], options.baselines)
    print(terminal_table(rows))
    examples: list[Example] = []
    if options.data and options.predictions:
        examples = read_examples(options.data, options.split, options.predictions, options.examples, options.depth, options.seed)
        shown = [examples[place] for place in np.random.default_rng(options.seed).permutation(len(examples))[: options.terminal_examples]]
        print(f"\nsome test queries and their first {options.depth} labels (+ right, - not among the true ones):")
        print(terminal_examples(shown))
        if options.raw:
            pictures = data_uris(options.raw, options.split, [example.row for example in examples])
            for example in examples:
                example.picture = pictures.get(example.row)
    if options.out:
        page = Page(title=f"vixen: {options.run.name}", rows=rows, columns=COLUMNS, best=best_of(rows), log=read_log(options.run),
                    settings=read_settings(options.run), examples=examples, depth=options.depth, seed=options.seed)
        with work_folder(options.out) as work:
            fresh = work / options.out.name
            fresh.write_text(render(page), encoding="utf-8")
            publish(fresh, options.out)
        print(f"\nreport: {options.out.resolve()}")


if __name__ == "__main__":
    run_tool(main)
