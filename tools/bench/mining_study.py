#!/usr/bin/env python3
"""Whether mined hard negatives help: the same runs with and without them, at the same epochs and at the same time, by several seeds.

    tools/bench/mining_study.py --out runs/mining --model out/models/all-MiniLM-L6-v2 --seeds 0 1 2 \\
        --set msdocs=out/msdocs_seealso_titles.h5,configs/msdocs_seealso_titles.ini --ablate msdocs -- --model.compute bf16

For every set (--set NAME=DATA.h5[,CONFIG.ini...]) and seed: `plain`, without mining; `mined`, with --mining; `plain, longer`, without
mining for as many epochs as take the time of `mined`. Of --ablate, with the first seed: `mined` with one key changed at a time. What is
behind `--` goes to `vixen train`. Time is the CPU time of the run until its model is saved and tested, which other work on the machine
changes little; seconds are recorded beside it.

Every result is a line of OUT/results.jsonl with the machine it was measured on, deciles of label frequency included; a study that is
started again does what is missing. The table (means and, behind ±, standard deviations of the seeds) is printed as it grows.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from vixen_tools.answers import SHOWN, TAIL, Answers  # noqa: E402
from vixen_tools.arguments import whole  # noqa: E402
from vixen_tools.dataset_file import DatasetTexts  # noqa: E402
from vixen_tools.errors import UserError, run_tool  # noqa: E402
from vixen_tools.machine import describe_machine  # noqa: E402
from vixen_tools.outputs import claim_collection  # noqa: E402
from vixen_tools.program import default_binary, inputs_of, run_vixen  # noqa: E402
from vixen_tools.progress import waiting  # noqa: E402
from vixen_tools.result_lines import ResultLines  # noqa: E402
from vixen_tools.run_folder import read_settings  # noqa: E402
from vixen_tools.study_sets import StudySet, begin_study, parse_mining, parse_mining_columns, parse_sets  # noqa: E402
from vixen_tools.timed_run import remove_run, train  # noqa: E402

TOOL = "mining_study.py"
MINING = "columns=512,depth=50,relative_margin=0.95"
ABLATIONS = ("relative_margin=0", "relative_margin=0.9", "columns=256", "columns=1024", "every_epochs=2", "draw=uniform")
K = 100


class Study:
    def __init__(self, options: argparse.Namespace, binary: Path):
        self.options, self.binary = options, binary
        self.machine = describe_machine(options.threads)
        self.mining = options.mining
        self.results = ResultLines(options.out / "results.jsonl", TOOL)
        self.common = {"mining": self.mining, "options": options.vixen}
        for number, line in enumerate(self.results.lines, 1):
            if line["common"] != self.common:
                raise UserError(f"{self.results.path}: line {number} has other settings ({line['common']}): give another --out")

    def run(self) -> None:
        for seed in self.options.seeds:
            for data in self.options.set:
                plain = self.measure(data, seed, "plain", {})
                mined = self.measure(data, seed, "mined", self.mining)
                epochs = round(plain["epochs"] * mined["cpu_seconds"] / plain["cpu_seconds"])
                if epochs > plain["epochs"]:
                    self.measure(data, seed, "plain, longer", {"train.epochs": str(epochs)})
                if data.name in self.options.ablate and seed == self.options.seeds[0]:
                    for change in self.options.ablations:
                        self.measure(data, seed, f"mined, {change}", self.mining | parse_mining(change, "--ablations"))
                print(self.table(), flush=True)

    def measure(self, data: StudySet, seed: int, variant: str, keys: dict[str, str]) -> dict[str, Any]:
        key = {"set": data.name, "variant": variant, "seed": seed}
        found = self.results.find(**key)
        if found is not None:
            return found
        run = self.options.out / f"{data.name}-run"
        words = [self.binary, "train", *data.source(), "--model.path", self.options.model, "--train.seed", seed]
        words += ["--threads", self.options.threads, "--run.keep_last", 1, "--run.query_bank", "false", *self.options.vixen]
        words += [word for name, value in keys.items() for word in (f"--{name}", value)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with waiting(f"{data.name}, seed {seed}, {variant}"):
            times = train([str(word) for word in words], run)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        out = run.with_name("answers.h5")
        run_vixen(self.binary, "predict", "--run.dir", run, "--data.path", data.data, "--predict.k", K, "--threads", self.options.threads,
                  "--out", out)  # fmt: skip
        answers = Answers.of(DatasetTexts(data.data), out)
        out.unlink()
        line = {
            **key,
            "keys": keys,
            "common": self.common,
            "machine": self.machine,
            "epochs": int(read_settings(run)["train.epochs"]),
            "seconds": times.total,
            "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "metrics": answers.metrics,
            "deciles": answers.deciles,
        }
        remove_run(run)
        run.with_name(f"{run.name}.log").unlink()
        self.results.add(line)
        print(f"{data.name}, seed {seed}, {variant}: {answers.text()}; {line['cpu_seconds']:.0f} CPU s", file=sys.stderr, flush=True)
        return line

    def table(self) -> str:
        """Markdown: a row for every set and variant."""
        columns = [*SHOWN, TAIL]
        rows = [f"| | seeds | epochs | CPU s | {' | '.join(columns)} |", "|---" * (len(columns) + 4) + "|"]
        for data in self.options.set:
            lines = [line for line in self.results.lines if line["set"] == data.name]
            for variant in dict.fromkeys(line["variant"] for line in lines):
                of = [line for line in lines if line["variant"] == variant]
                cells = [
                    f"{data.name}, {variant}",
                    str(len(of)),
                    "/".join(sorted({str(line["epochs"]) for line in of})),
                    f"{statistics.mean(line['cpu_seconds'] for line in of):.0f}",
                ]
                for name in columns:
                    values = [line["metrics"][name] for line in of]
                    cells.append(f"{statistics.mean(values):.2f}" + (f" ±{statistics.stdev(values):.2f}" if len(values) > 1 else ""))
                rows.append(f"| {' | '.join(cells)} |")
        return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--model", type=Path, required=True, help="backbone")
    parser.add_argument(
        "--set", action="append", required=True, metavar="NAME=DATA.h5[,CONFIG.ini...]", help="a data set, and its settings"
    )
    parser.add_argument("--seeds", type=whole(0), nargs="+", default=[0, 1, 2])
    parser.add_argument("--mining", default=MINING, help="keys of section [mining] (%(default)s)")
    parser.add_argument("--ablate", nargs="*", default=[], help="sets whose first seed is trained with one key changed at a time")
    parser.add_argument("--ablations", nargs="*", default=list(ABLATIONS), help="those changes (%(default)s)")
    parser.add_argument("--threads", type=whole(1), default=describe_machine(0)["cores"])
    parser.add_argument("vixen", nargs="*", help="options of vixen train, behind --")
    options = parser.parse_args()
    options.set = parse_sets(options.set)
    for name in options.ablate:
        if name not in [data.name for data in options.set]:
            raise UserError(f"--ablate {name}: expected the name of a --set")
    options.mining = parse_mining_columns(options.mining)
    if not options.mining:
        raise UserError("--mining: expected KEY=VALUE,... of section [mining]")
    for change in options.ablations:
        parse_mining(change, "--ablations")
    inputs = [path for data in options.set for path in (data.data, *data.configs)]
    options.out = claim_collection(options.out, {**inputs_of(options.vixen), "--set": inputs, "--model": options.model})
    begin_study(options.out, TOOL, "mining study")
    study = Study(options, options.binary or default_binary())
    study.run()
    return 0


if __name__ == "__main__":
    run_tool(main)
