#!/usr/bin/env python3
"""Chooses the settings of retrieval-augmented inference (section [augment]) on held-out training queries, never on a test split.

    tools/split_dataset.py --data out/icontags.h5 --out out/icontags_held_out.h5
    vixen train --config configs/quickstart.ini --data.path out/icontags_held_out.h5 --model.path MODEL --run.dir runs/held-out
    tools/augment_grid.py --run runs/held-out --data out/icontags_held_out.h5 --out out/icontags_augment.json

Queries and labels are encoded and searched by the program once, at the largest numbers of the grid; what every setting makes of the two
lists is computed here by the formula (docs/algorithm.md section 7), and the chosen one is confirmed by `vixen evaluate`. With --model in
place of --run the backbone is taken as it is, and what is behind `--` goes to every command (--model.layers 3, --config FILE).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vixen_tools import VERSION
from vixen_tools.arguments import finite, fraction, whole
from vixen_tools.augmentation import Augmenter, Settings, grid
from vixen_tools.dataset_file import DatasetTexts
from vixen_tools.errors import UserError, reading, run_tool
from vixen_tools.files import read_json, write_text
from vixen_tools.hdf5_file import open_hdf5, read_attribute
from vixen_tools.metrics import format_table, inverse_propensity, ranking_metrics
from vixen_tools.outputs import claim
from vixen_tools.program import default_binary, run_vixen
from vixen_tools.progress import Progress, waiting
from vixen_tools.ranking_file import read_ranking, without_filtered

COLUMNS = ("P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSP@5", "R@100")
LONGEST = 100  # of a ranking: R@100
TOLERANCE = 0.1  # percent points between `vixen evaluate` and the formula here


@dataclass
class Cell:
    settings: Settings
    metrics: dict[str, float]


def check_held_out(data: Path, run: Path | None) -> None:
    """UserError unless the data set's test split is of held-out training queries, and the run was trained on the others alone."""
    with open_hdf5(data) as file:
        if read_attribute(file, "held_out", str) is None:
            raise UserError(
                f"{data}: its test split is not known to be held out of the training queries (no attribute held_out): settings are not "
                "chosen on test queries; make a data set with tools/split_dataset.py, and train on that"
            )
        content = read_attribute(file, "content_train", str)
    if run is None:
        return
    marker = run / "model" / ".vixen.json"
    if not marker.is_file():
        raise UserError(f"{run}: no finished model here (expected {marker}): let `vixen train` end first")
    with reading(marker, "what `vixen train` wrote"):
        trained = read_json(marker)["data"]["train"]
    if trained != content:
        raise UserError(
            f"{run}: was trained on other queries (content {trained}) than the training split of {data} ({content}), held-out ones maybe "
            "among them: train a run on this data set"
        )


def search_lists(options: argparse.Namespace, binary: Path, folder: Path, filtered: tuple[np.ndarray, np.ndarray]) -> tuple[tuple, tuple]:
    """Ids and scores of every held-out query's best labels, those left out that are filtered, and nearest training queries, at the
    grid's largest numbers."""
    source = origin(options)
    files = {name: folder / f"{name}.h5" for name in ("held-out", "train", "labels")}
    for name, split in (("held-out", "test"), ("train", "train")):
        with waiting(f"{name} queries: encoded"):
            run_vixen(binary, "embed", *source, "--data.split", split, "--embed.dtype", "fp32", "--out", files[name])
    if options.run:
        files["labels"] = options.run / "model" / "label_embeddings.h5"
    else:
        with waiting("labels: encoded"):
            run_vixen(binary, "embed", *source, "--embed.side", "labels", "--embed.dtype", "fp32", "--out", files["labels"])
    found = []
    most_labels = max(LONGEST, *options.labels)
    deeper = most_labels + int(np.diff(filtered[0]).max(initial=0))
    for name, most in (("labels", deeper), ("train", max(options.queries))):
        out = folder / f"nearest-{name}.h5"
        with waiting(f"{name}: searched"):
            search = [
                "--search.corpus",
                files[name],
                "--search.queries",
                files["held-out"],
                "--search.k",
                most,
                "--threads",
                options.threads,
            ]
            run_vixen(binary, "search", *search, "--out", out)
        found.append(read_ranking(out))
    return without_filtered(*found[0], filtered, most_labels), found[1]


def origin(options: argparse.Namespace) -> list[object]:
    model = ["--run.dir", options.run] if options.run else ["--model.path", options.model]
    return [*model, "--data.path", options.data, "--threads", options.threads, *options.vixen]


def evaluated(binary: Path, options: argparse.Namespace, folder: Path, settings: Settings | None) -> dict[str, float]:
    out = folder / "metrics.json"
    with waiting("vixen evaluate"):
        run_vixen(binary, "evaluate", *origin(options), *(settings.options() if settings else []), "--out", out)
    with reading(out, "metrics in JSON"):
        found = read_json(out)
        return {name: float(found[name]) for name in COLUMNS}


def measure(options: argparse.Namespace, texts: DatasetTexts, augmenter: Augmenter) -> list[Cell]:
    weights = inverse_propensity(texts.label_counts, len(texts.train), *texts.propensity)
    cells = []
    groups = list(grid(options.weight, options.labels, options.queries, options.temperature, options.prior))
    with Progress("settings", sum(map(len, groups)), "settings") as progress:
        for group in filter(None, groups):
            for settings, ranking in zip(group, augmenter.rankings(group, LONGEST), strict=True):
                cells.append(Cell(settings, ranking_metrics(ranking, *texts.test_labels, weights)))
                progress.add(1)
    return cells


def at_the_edge(options: argparse.Namespace, settings: Settings) -> list[str]:
    """Keys whose chosen value is the largest of several that were tried: larger ones may be better."""
    tried = (options.weight, options.labels, options.queries, options.temperature, options.prior)
    return [key for (key, value), values in zip(settings.keys().items(), tried, strict=True) if min(values) < value == max(values)]


def title(settings: Settings) -> str:
    return (
        f"lambda {settings.weight:g}, {settings.labels} labels, {settings.queries} queries, temperature {settings.temperature:g}, "
        f"prior {settings.prior:g}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="finished run, trained on the training split of --data")
    source.add_argument("--model", type=Path, help="Hugging Face folder: the backbone as it is")
    parser.add_argument("--data", type=Path, required=True, help="data set of split_dataset.py")
    parser.add_argument("--out", type=Path, help="JSON to write: the chosen settings and all others with their metrics")
    parser.add_argument("--binary", type=Path, help="the program (default: as built here)")
    parser.add_argument("--threads", type=whole(0), default=0, help="CPU threads (default: all)")
    parser.add_argument("--metric", nargs="+", choices=COLUMNS, default=["P@1"], help="what is best has the largest sum of (default P@1)")
    parser.add_argument("--weight", type=fraction, nargs="+", default=[0, 0.01, 0.03, 0.1, 0.3, 0.5], help="augment.lambda")
    parser.add_argument("--labels", type=whole(1), nargs="+", default=[100, 500], help="augment.labels")
    parser.add_argument("--queries", type=whole(1), nargs="+", default=[20, 50, 100], help="augment.queries")
    parser.add_argument("--temperature", type=finite, nargs="+", default=[0.02, 0.05, 0.1], help="augment.temperature")
    parser.add_argument("--prior", type=finite, nargs="+", default=[0, 0.1, 0.3], help="augment.prior")
    parser.add_argument("--shown", type=whole(1), default=10, help="settings in the table (default 10)")
    parser.add_argument("vixen", nargs="*", metavar="-- OPTIONS", help="options of every command, behind --")
    options = parser.parse_args()
    if min(options.temperature) <= 0:
        raise UserError(f"--temperature {min(options.temperature):g}: expected numbers above 0")
    out = claim(options.out, {"--data": options.data, "--run": options.run, "--model": options.model}) if options.out else None
    binary = options.binary or default_binary()
    check_held_out(options.data, options.run)
    texts = DatasetTexts(options.data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels, queries = search_lists(options, binary, folder, texts.filter)
        cells = measure(options, texts, Augmenter(labels, queries, texts.train_labels, texts.label_counts, texts.filter))
        # the first of equals: smaller numbers stand first
        best = max(cells, key=lambda cell: sum(cell.metrics[name] for name in options.metric))
        plain, confirmed = evaluated(binary, options, folder, None), evaluated(binary, options, folder, best.settings)
    shown = sorted(cells, key=lambda cell: -sum(cell.metrics[name] for name in options.metric))[: options.shown]
    print(format_table({"none": plain, **{title(cell.settings): cell.metrics for cell in shown}}, COLUMNS))
    print(f"\nchosen by {' + '.join(options.metric)} on {len(texts.test):,} held-out queries: {title(best.settings)}")
    print("\n[augment]\n" + "".join(f"{key.partition('.')[2]} = {value:g}\n" for key, value in best.settings.keys().items()), end="")
    for key in at_the_edge(options, best.settings):
        print(f"note: {key} is the largest that was tried")
    if out:
        record = {
            "created_by": f"augment_grid.py {VERSION}",
            "data": str(options.data),
            "of": str(options.run or options.model),
            "metric": options.metric,
            "held_out_queries": len(texts.test),
            "none": plain,
            "chosen": {"settings": best.settings.keys(), "metrics": confirmed},
            "settings": [{**cell.settings.keys(), **{name: cell.metrics[name] for name in COLUMNS}} for cell in cells],
        }
        write_text(out, json.dumps(record, indent=1) + "\n")
    gap = max(abs(confirmed[name] - best.metrics[name]) for name in COLUMNS)
    if gap > TOLERANCE:
        print(f"`vixen evaluate` differs by {gap:.2f} percent points from the formula with the chosen settings")
        return 1
    return 0


if __name__ == "__main__":
    run_tool(main)
