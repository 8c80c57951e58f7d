#!/usr/bin/env python3
"""Accuracy after 60, 120, 300 and 600 seconds of training, every run planned for its budget: vixen and what a user would try instead.

    tools/bench/time_to_accuracy.py --out runs/time --model out/models/all-MiniLM-L6-v2 \\
        --set icontags=out/icontags.h5,configs/quickstart.ini,configs/text_only.ini --augment icontags=out/icontags_augment.json \\
        --plot docs/images/time_to_accuracy.svg

For every data set (--set NAME=DATA.h5[,CONFIG.ini...]) and budget: vixen without and with mined columns (--mining), each answered without
and with retrieval-augmented inference (RAI, settings of tools/augment_grid.py), and sentence-transformers. Beside them the backbone as it
is, TF-IDF (tools/baselines.py), PECOS XR-Linear (--pecos), and figures of other programs (--references). Epochs are chosen from the first
steps' time, then from the time that the run took: it is trained again where it took longer than its budget, or where another epoch would
have fitted. A budget is the seconds from the program's start to the saved model (vixen), or from the first batch (sentence-transformers);
answering is not in it. The backbone has as many layers as leave --least-epochs.

Every result is a line of OUT/results.jsonl with the machine it was measured on; a study that is started again does what is missing. The
table is printed, the plot written at the end. What is behind `--` goes to `vixen train`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from vixen_tools import VERSION  # noqa: E402
from vixen_tools.answers import SHOWN, TAIL, Answers  # noqa: E402
from vixen_tools.arguments import finite, whole  # noqa: E402
from vixen_tools.budget import Cost, curriculum, with_columns  # noqa: E402
from vixen_tools.dataset_file import DatasetTexts  # noqa: E402
from vixen_tools.errors import UserError, reading, run_tool  # noqa: E402
from vixen_tools.files import read_json, sha256, write_text  # noqa: E402
from vixen_tools.hdf5_file import open_hdf5, read_attribute  # noqa: E402
from vixen_tools.line_plot import Panel, render_plot  # noqa: E402
from vixen_tools.machine import describe_machine, has_bf16  # noqa: E402
from vixen_tools.outputs import claim, claim_collection  # noqa: E402
from vixen_tools.program import default_binary, failure, inputs_of, run_vixen  # noqa: E402
from vixen_tools.progress import waiting  # noqa: E402
from vixen_tools.result_lines import ResultLines  # noqa: E402
from vixen_tools.study_sets import StudySet, begin_study, parse_mining_columns, parse_sets  # noqa: E402
from vixen_tools.timed_run import Pilot, pilot, remove_run, train  # noqa: E402

TOOL = "time_to_accuracy.py"
PLOTTED = ("P@1", "PSP@1", "R@100")
LONGEST, TRIES = 100, 3


@dataclass
class DataSet(StudySet):
    augment: Path | None = None
    augment_backbone: Path | None = None
    references: Path | None = None


@dataclass
class Trained:
    """A run within its budget, in its folder until its answers are measured."""

    run: Path
    layers: int
    epochs: int
    setup: float
    total: float
    last: float
    epoch: float
    steps_per_epoch: int


def give(sets: list[DataSet], items: list[str], option: str, attribute: str) -> None:
    """Gives NAME=FILE to the set of that name."""
    for item in items:
        name, separator, file = item.partition("=")
        found = next((one for one in sets if one.name == name), None)
        if not separator or found is None:
            raise UserError(f"{option} {item}: expected NAME=FILE.json, the name of a --set")
        setattr(found, attribute, Path(file))


def chosen_settings(path: Path) -> list[str]:
    """Options of the settings that tools/augment_grid.py chose."""
    with reading(path, "what tools/augment_grid.py wrote"):
        settings = read_json(path)["chosen"]["settings"]
        return [word for key, value in settings.items() for word in (f"--{key}", f"{float(value):g}")]


class Study:
    def __init__(self, options: argparse.Namespace, sets: list[DataSet], binary: Path):
        self.options, self.sets, self.binary = options, sets, binary
        self.compute = options.compute or ("bf16" if has_bf16() else "fp32")
        self.machine: dict[str, Any] = describe_machine(options.threads) | {"compute": self.compute}
        self.results = ResultLines(options.out / "results.jsonl", TOOL)
        self._settings = {data.name: self.settings(data) for data in sets}
        for number, line in enumerate(self.results.lines, 1):
            here = {"machine": self.machine, "settings": self._settings.get(line["set"], line["settings"])}
            for what, value in here.items():
                if line[what] != value:
                    found = f"line {number} was measured with another {what} ({line[what]}, here {value})"
                    raise UserError(f"{self.results.path}: {found}: give another --out")
        self._texts: dict[str, DatasetTexts] = {}
        self._pilots: dict[tuple[str, int], Pilot] = {}

    def settings(self, data: DataSet) -> dict[str, Any]:
        """What decides a set's figures besides the keys of a line."""
        with open_hdf5(data.data) as file:
            content = [read_attribute(file, f"content_{part}", str, "") for part in ("train", "test", "label", "images")]
        return {
            "data": content,
            "configs": [sha256(path) for path in data.configs],
            "model": sha256(self.options.model / "config.json"),
            "mining": self.options.mining,
            "layers": self.options.layers,
            "least_epochs": self.options.least_epochs,
            "batch": self.options.sentence_transformers_batch,
            "vixen": self.options.vixen,
        }

    # --- what is measured ---

    def run(self) -> None:
        for data in self.sets:
            self.backbone(data)
            self.tf_idf(data)
            self.pecos(data)
            for seed in self.options.seeds:
                for budget in self.options.budgets:
                    self.vixen(data, budget, seed, mined=False)
                    if self.options.mining and budget in self.budgets_of(self.options.mined_budgets):
                        self.vixen(data, budget, seed, mined=True)
                    for rate in self.options.sentence_transformers_lr:
                        if budget in self.budgets_of(self.options.sentence_transformers_budgets):
                            self.sentence_transformers(data, budget, seed, rate)

    def budgets_of(self, chosen: list[int] | None) -> list[int]:
        return self.options.budgets if chosen is None else chosen

    def backbone(self, data: DataSet) -> None:
        """As it is: text alone, for its map of pictures is not trained."""
        source = [*data.source(), "--model.path", self.options.model, "--model.layers", 0, "--data.images", "false"]
        for system, augment in self.answers("backbone", data.augment_backbone):
            key = {"set": data.name, "system": system, "budget": 0, "seed": 0}
            if self.missing(key, augment):
                self.answer(data, key, [*source, *augment], {"seconds": {"training": 0.0}, "augment": augment})

    def vixen(self, data: DataSet, budget: int, seed: int, mined: bool) -> None:
        wanted = [
            (key, augment)
            for system, augment in self.answers("vixen, mined" if mined else "vixen", data.augment)
            if self.missing(key := {"set": data.name, "system": system, "budget": budget, "seed": seed}, augment)
        ]
        if not wanted:
            return
        folder = self.folder(data) / f"{'mined' if mined else 'plain'}-{budget}-seed-{seed}"
        trained = self.trained(data, budget, seed, mined, folder)
        for key, augment in wanted:
            if trained is None:
                self.add(key, {"fits": False, "augment": augment})
                continue
            facts = {
                "augment": augment,
                "seconds": {"training": trained.total, "setup": trained.setup, "last": trained.last, "epoch": trained.epoch},
                "epochs": trained.epochs,
                "steps_per_epoch": trained.steps_per_epoch,
                "layers": trained.layers,
                "mined": mined,
            }
            self.answer(data, key, ["--run.dir", trained.run, "--data.path", data.data, *augment], facts)
        if trained and not self.options.keep_runs:
            shutil.rmtree(folder)

    def missing(self, key: dict[str, Any], augment: list[str] | None = None) -> bool:
        """Whether there is no such line. UserError where there is one of other settings of RAI."""
        found = self.results.find(**key)
        if found and augment is not None and found["augment"] != augment:
            raise UserError(f"{self.results.path}: {key} was answered with {found['augment']}, expected {augment}: give another --out")
        return found is None

    def add(self, key: dict[str, Any], facts: dict[str, Any]) -> None:
        self.results.add({**key, **facts, "machine": self.machine, "settings": self._settings[key["set"]]})

    def answers(self, system: str, settings: Path | None) -> list[tuple[str, list[str]]]:
        """A model's two ways to answer; the second where its settings were chosen."""
        return [(system, []), *([(f"{system} + RAI", chosen_settings(settings))] if settings else [])]

    def answer(self, data: DataSet, key: dict[str, Any], source: list, facts: dict[str, Any]) -> None:
        out = self.folder(data) / "answers.h5"
        begin = time.monotonic()
        with waiting(f"{data.name}, {key['system']}: answers"):
            words = [*source, *self.precision(source), "--threads", self.options.threads, "--predict.k", LONGEST, "--out", out]
            run_vixen(self.binary, "predict", *words)
        facts["seconds"]["answers"] = time.monotonic() - begin
        self.record(data, key, out, facts)

    def precision(self, source: list) -> list[str]:
        return [] if "--run.dir" in source else ["--model.compute", self.compute]  # a run has its own

    def tf_idf(self, data: DataSet) -> None:
        key = {"set": data.name, "system": "TF-IDF", "budget": 0, "seed": 0}
        if self.options.tf_idf == "no" or not self.missing(key):
            return
        out, metrics = self.folder(data) / "answers.h5", self.folder(data) / "tf-idf.json"
        self.call(
            [ROOT / "tools" / "baselines.py", "--data", data.data, "--out", out, "--metrics", metrics, "--k", LONGEST],
            f"{data.name}, TF-IDF",
        )
        with reading(metrics, "metrics of baselines.py"):
            seconds = float(read_json(metrics)["TF-IDF combined"]["seconds"])
        self.record(data, key, out, {"seconds": {"training": seconds}})

    def pecos(self, data: DataSet) -> None:
        key = {"set": data.name, "system": "PECOS XR-Linear", "budget": 0, "seed": 0}
        if not self.options.pecos or not self.missing(key):
            return
        out = self.folder(data) / "answers.h5"
        words: list[object] = [Path(__file__).with_name("pecos_run.py"), "--data", data.data, "--out", out, "--k", LONGEST]
        words += ["--threads", self.options.threads]
        report = json.loads(self.call(words, f"{data.name}, PECOS XR-Linear", self.options.pecos).splitlines()[-1])
        seconds = {"training": report["seconds"], "answers": report["answer_seconds"]}
        self.record(data, key, out, {"seconds": seconds, "version": report["libpecos"]})

    def sentence_transformers(self, data: DataSet, budget: int, seed: int, rate: float) -> None:
        key = {"set": data.name, "system": f"sentence-transformers, lr {rate:g}", "budget": budget, "seed": seed}
        if not self.missing(key):
            return
        out = self.folder(data) / "answers.h5"
        words: list[object] = [Path(__file__).with_name("sentence_transformers_run.py"), "--data", data.data, "--model", self.options.model]
        words += [
            "--seconds",
            budget,
            "--lr",
            rate,
            "--batch-size",
            self.options.sentence_transformers_batch,
            "--seed",
            seed,
            "--k",
            LONGEST,
        ]
        words += ["--threads", self.options.threads, "--compute", self.compute, "--out", out]
        report = json.loads(self.call(words, f"{data.name}, sentence-transformers {budget} s").splitlines()[-1])
        seconds = {"training": report["seconds"], "answers": report["answer_seconds"]}
        self.record(data, key, out, {"seconds": seconds, "steps": report["steps"], "version": report["sentence_transformers"]})

    def call(self, words: list[object], title: str, python: Path = Path(sys.executable)) -> str:
        """Standard output of another tool."""
        command = [str(python), *map(str, words)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.options.threads), "TOKENIZERS_PARALLELISM": "false"}
        with waiting(title):
            result = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
        if result.returncode != 0:
            raise failure(command, result.returncode, result.stderr)
        return result.stdout

    def record(self, data: DataSet, key: dict[str, Any], answers: Path, facts: dict[str, Any]) -> None:
        found = Answers.of(self.texts(data), answers)
        self.add(key, {**facts, "metrics": found.metrics, "deciles": found.deciles, "fits": True})
        answers.unlink()
        print(f"{data.name}, {key['system']}, {key['budget']} s: {found.text()}", file=sys.stderr, flush=True)

    def texts(self, data: DataSet) -> DatasetTexts:
        if data.name not in self._texts:
            self._texts = {data.name: DatasetTexts(data.data)}
        return self._texts[data.name]

    def folder(self, data: DataSet) -> Path:
        folder = self.options.out / data.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # --- training within a budget ---

    def command(self, data: DataSet, layers: int, seed: int) -> list[str]:
        words = [self.binary, "train", *data.source(), "--model.path", self.options.model, "--model.layers", layers]
        words += ["--model.compute", self.compute, "--threads", self.options.threads, "--train.seed", seed, "--run.keep_last", 1]
        return [*map(str, words), *self.options.vixen]

    def trained(self, data: DataSet, budget: int, seed: int, mined: bool, folder: Path) -> Trained | None:
        """A run of as many epochs as the budget holds; one that a killed study left is taken as it is. None: not one epoch fits."""
        done = folder / "trained.json"
        if done.is_file():
            with reading(done, "what this tool wrote"):
                found = read_json(done)["trained"]
                return Trained(**{**found, "run": Path(found["run"])})
        left = list(self.options.layers)
        layers, cost = self.plan(data, budget, seed, mined, folder, left)
        best: Trained | None = None
        tried: set[int] = set()
        while len(tried) < TRIES:
            epochs = min(cost.epochs_within(budget), self.options.most_epochs)
            if tried and best is None:
                epochs = min(epochs, min(tried) - 1)  # all that were tried took too long
                shallower = left[left.index(layers) + 1 :]
                if epochs < self.options.least_epochs and shallower:
                    left = shallower
                    layers, cost = self.plan(data, budget, seed, mined, folder, left)
                    tried.clear()
                    continue
            if epochs < 1 or epochs in tried:
                break
            tried.add(epochs)
            run = folder / f"epochs-{epochs}"
            keys = curriculum(epochs, cost.steps, mined) | (self.options.mining if mined else {})
            words = [word for key, value in keys.items() for word in (f"--{key}", str(value))]
            with waiting(f"{data.name}, {budget} s{', mined' if mined else ''}: {layers} layers, {epochs} epochs"):
                times = train([*self.command(data, layers, seed), *words], run)
            cost = cost.measured(epochs, times.total, times.setup)
            print(f"{data.name}, {budget} s: {layers} layers, {epochs} epochs took {times.total:.1f} s", file=sys.stderr, flush=True)
            if times.total <= budget and (best is None or epochs > best.epochs):
                if best:
                    remove_run(best.run)
                best = Trained(run, layers, epochs, times.setup, times.total, cost.last, cost.epoch, cost.steps)
            else:
                remove_run(run)
            if best and min(cost.epochs_within(budget), self.options.most_epochs) <= best.epochs:
                break
        if best:
            record = {"created_by": f"{TOOL} {VERSION}", "trained": {**asdict(best), "run": str(best.run)}}
            write_text(done, json.dumps(record) + "\n")
        return best

    def plan(self, data: DataSet, budget: int, seed: int, mined: bool, folder: Path, choice: list[int]) -> tuple[int, Cost]:
        """The first of `choice`, deepest first, that leaves --least-epochs, else the last; and what a run of so many layers costs."""
        for layers in choice:
            cost = self.known_cost(data, layers, mined) or self.first_cost(data, seed, layers, mined, folder)
            if cost.epochs_within(budget) >= self.options.least_epochs:
                return layers, cost
        return layers, cost

    def first_cost(self, data: DataSet, seed: int, layers: int, mined: bool, folder: Path) -> Cost:
        if (data.name, layers) not in self._pilots:
            with waiting(f"{data.name}: first steps, {layers} layers"):
                self._pilots[data.name, layers] = pilot(self.command(data, layers, seed), folder / "pilot")
        found = self._pilots[data.name, layers]
        if not mined:
            return found.cost
        plain = self.known_cost(data, layers, False) or found.cost
        return with_columns(plain, found.batch, int(self.options.mining["mining.columns"]))

    def known_cost(self, data: DataSet, layers: int, mined: bool) -> Cost | None:
        """By the last run of so many layers; None where there was none."""
        for line in reversed(self.results.lines):
            if line["set"] == data.name and line.get("layers") == layers and line.get("mined") == mined:
                seconds = line["seconds"]
                return Cost(seconds["setup"], seconds["epoch"], seconds["last"], line["steps_per_epoch"])
        return None


def counted(number: int, things: str) -> str:
    return f"{number} {things if number != 1 else things.removesuffix('s')}"


def rows_of(study: Study, data: DataSet) -> list[dict[str, Any]]:
    """Lines of the set in the order of systems, means over seeds, and other programs' figures."""
    lines = [line for line in study.results.lines if line["set"] == data.name]
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["system"], line["budget"]), []).append(line)
    rows = []
    for (system, budget), found in groups.items():
        fitting = [line for line in found if line["fits"]]
        row: dict[str, Any] = {"system": system, "budget": budget, "metrics": {}, "seconds": None, "fits": len(fitting) == len(found)}
        if row["fits"]:
            row["metrics"] = {name: sum(line["metrics"][name] for line in found) / len(found) for name in (*SHOWN, TAIL)}
            row["seconds"] = sum(line["seconds"]["training"] for line in found) / len(found)
            row["what"] = ", ".join(counted(found[0][name], name) for name in ("layers", "epochs", "steps") if name in found[0])
        rows.append(row)
    if data.references:
        with reading(data.references, "a list of other programs' figures"):
            for item in read_json(data.references):
                rows.append({"system": item["name"], "budget": 0, "metrics": item["metrics"], "seconds": item.get("seconds"), "fits": True})
    first = {system: i for i, system in reversed(list(enumerate(row["system"] for row in rows)))}
    return sorted(rows, key=lambda row: (first[row["system"]], row["budget"]))


def table(study: Study) -> str:
    columns = (*SHOWN, TAIL)
    parts = []
    for data in study.sets:
        lines = [f"### {data.name}\n", f"| system | budget, s | trained, s | | {' | '.join(columns)} |", "|---" * (len(columns) + 4) + "|"]
        for row in rows_of(study, data):
            cells = [f"{row['metrics'][name]:.2f}" if name in row["metrics"] else "" for name in columns]
            seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
            what = row.get("what", "") if row["fits"] else "does not fit"
            lines.append(f"| {row['system']} | {row['budget'] or ''} | {seconds} | {what} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    machine = study.machine
    instructions = " ".join(study.machine["instructions"])
    words = "{cpu}, {cores} cores, {threads} threads, {compute}, ".format(**machine) + instructions
    return "\n\n".join([*parts, words])


def plot(study: Study) -> str:
    rows = []
    for data in study.sets:
        found = [row for row in rows_of(study, data) if row["fits"]]
        panels = []
        for metric in PLOTTED:
            panel = Panel(f"{data.name}: {metric}")
            for row in found:
                if metric in row["metrics"]:
                    panel.points.setdefault(row["system"], []).append((row["seconds"] or 0.0, row["metrics"][metric]))
            panels.append(panel)
        rows.append(panels)
    return render_plot(rows, "accuracy by seconds of training")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the study: results.jsonl, and runs while they last")
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder of the backbone")
    parser.add_argument(
        "--set", action="append", required=True, metavar="NAME=DATA.h5[,CONFIG.ini...]", help="a data set, and its settings"
    )
    parser.add_argument(
        "--augment", action="append", default=[], metavar="NAME=FILE.json", help="of augment_grid.py --run: answers with RAI too"
    )
    parser.add_argument("--augment-backbone", action="append", default=[], metavar="NAME=FILE.json", help="of augment_grid.py --model")
    parser.add_argument(
        "--references", action="append", default=[], metavar="NAME=FILE.json", help="list of name, metrics, seconds: other programs"
    )
    parser.add_argument("--budgets", type=whole(1), nargs="+", default=[60, 120, 300, 600], help="seconds (default 60 120 300 600)")
    parser.add_argument("--mined-budgets", type=whole(1), nargs="+", help="those of --budgets with mined columns (default: all)")
    parser.add_argument("--sentence-transformers-budgets", type=whole(1), nargs="+", help="its part of --budgets (default: all)")
    parser.add_argument("--mining", default="columns=256,depth=50,relative_margin=0.95", help="keys of [mining]; empty: no such runs")
    parser.add_argument("--layers", type=whole(1), nargs="+", default=[6, 3, 1], help="of the backbone, deepest first (default 6 3 1)")
    parser.add_argument("--least-epochs", type=whole(1), default=3, help="fewer: a backbone of fewer layers (default 3)")
    parser.add_argument("--most-epochs", type=whole(1), default=100, help="no run has more (default 100)")
    parser.add_argument("--seeds", type=whole(0), nargs="+", default=[0])
    parser.add_argument("--sentence-transformers-lr", type=finite, nargs="*", default=[5e-5, 5e-4], help="a row each; none: left out")
    parser.add_argument("--sentence-transformers-batch", type=whole(2), default=512)
    parser.add_argument("--tf-idf", choices=("yes", "no"), default="yes")
    parser.add_argument("--pecos", type=Path, metavar="PYTHON", help="of an environment that has libpecos (pecos_run.py --help): PECOS too")
    parser.add_argument("--threads", type=whole(1), default=len(os.sched_getaffinity(0)))
    parser.add_argument("--compute", choices=("fp32", "bf16"), help="default: bf16 where the CPU has it, else fp32")
    parser.add_argument("--binary", type=Path, help="the program (default: as built here)")
    parser.add_argument("--keep-runs", action="store_true", help="leave the runs in their folders")
    parser.add_argument("--show", action="store_true", help="measure nothing: table and plot of what is there")
    parser.add_argument("--plot", type=Path, help="SVG to write")
    parser.add_argument("vixen", nargs="*", metavar="-- OPTIONS", help="options of vixen train, behind --")
    options = parser.parse_args()
    sets = [DataSet(one.name, one.data, one.configs) for one in parse_sets(options.set)]
    for items, option, attribute in (
        (options.augment, "--augment", "augment"),
        (options.augment_backbone, "--augment-backbone", "augment_backbone"),
        (options.references, "--references", "references"),
    ):
        give(sets, items, option, attribute)
    options.mining = parse_mining_columns(options.mining)
    files = [path for one in sets for path in (one.data, *one.configs, one.augment, one.augment_backbone, one.references) if path]
    inputs = {**inputs_of(options.vixen), "--set": files, "--model": options.model}
    options.out = claim_collection(options.out, inputs)
    picture = claim(options.plot, inputs, "--plot", {"--out": options.out / "results.jsonl"}) if options.plot else None
    binary = options.binary or default_binary()
    for path in files:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
    begin_study(options.out, TOOL, "time to accuracy")
    study = Study(options, sets, binary)
    if not options.show:
        study.run()
    print(table(study))
    if picture:
        write_text(picture, plot(study))


if __name__ == "__main__":
    run_tool(main)
