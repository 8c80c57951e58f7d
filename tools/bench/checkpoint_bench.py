#!/usr/bin/env python3
"""What checkpoints cost the steps: the same steps without any, with checkpoints that training waits for, and with those behind it.

    tools/bench/checkpoint_bench.py --out checkpoints.json --ranks 2 --steps 60 --every 10 -- --data.path DATA.h5 --model.path MODEL

Behind `--`: options of `vixen train`. The three take turns, --repeats times. Printed, and with --out written as JSON: seconds of a step
(mean of all steps but the first ones; what training stood still for is in them, the last checkpoint of a run, which is waited for, is
not), what a checkpoint adds to the steps between two, and of each: seconds of its snapshot, seconds that it waited for the one before,
seconds of its writing, bytes. Runs go to a folder beside --out, on the disk to be measured, that is removed in the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from vixen_tools import VERSION  # noqa: E402
from vixen_tools.arguments import whole  # noqa: E402
from vixen_tools.errors import UserError, run_tool  # noqa: E402
from vixen_tools.files import write_text  # noqa: E402
from vixen_tools.machine import describe_machine  # noqa: E402
from vixen_tools.outputs import claim  # noqa: E402
from vixen_tools.program import default_binary, failure, inputs_of, mpi_environment  # noqa: E402
from vixen_tools.progress import waiting  # noqa: E402

STOPPED_ON_REQUEST = 75
WARMUP = 5
WAYS = {
    "none": ["--run.checkpoint_every_steps", "0"],
    "waited for": ["--run.checkpoint_async", "false"],
    "behind the training": ["--run.checkpoint_async", "true"],
}
EVENT = ("snapshot_seconds", "waited_seconds", "write_seconds", "bytes")


def measure(binary: Path, way: str, options: argparse.Namespace, run: Path) -> dict[str, Any]:
    """Seconds of every step, and the checkpoints' events, of one run."""
    words: list[object] = [binary, "train", *options.options, "--run.dir", run, "--run.resume", "false", "--run.log_every_steps", 1]
    words += ["--run.keep_last", 1, "--run.stop_after_steps", options.steps, "--train.epochs", 1000]
    words += ["--run.checkpoint_every_steps", options.every] if way != "none" else []
    if options.ranks > 1:
        words = ["mpirun", "-n", options.ranks, "--oversubscribe", *words]
    command = [str(word) for word in [*words, *WAYS[way]]]
    done = subprocess.run(command, capture_output=True, text=True, env=mpi_environment())
    if done.returncode != STOPPED_ON_REQUEST:
        raise failure(command, done.returncode, done.stderr)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    # The last checkpoint, of the stop, is not one of those between steps.
    events = [line["checkpoint"] for line in lines if "checkpoint" in line][:-1]
    return {"step_seconds": [line["seconds"]["step"] for line in lines if "loss" in line][WARMUP:], "checkpoints": events}


def summary(runs: list[dict[str, Any]], every: int) -> dict[str, Any]:
    seconds = [statistics.mean(run["step_seconds"]) for run in runs]
    events = [event for run in runs for event in run["checkpoints"]]
    of_steps = {"step_seconds": statistics.median(seconds), "step_seconds_of_runs": seconds}
    of_events = {name: statistics.mean(event[name] for event in events) for name in EVENT if events}
    return {**of_steps, "checkpoints": len(events), "every": every, **of_events}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=None)
    parser.add_argument("--ranks", type=whole(1), default=1)
    parser.add_argument("--steps", type=whole(2 * WARMUP), default=60, help="of a run")
    parser.add_argument("--every", type=whole(1), default=10, help="steps between two checkpoints")
    parser.add_argument("--repeats", type=whole(1), default=3)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("options", nargs="+", help="options of vixen train, behind --")
    options = parser.parse_args()
    if options.every >= options.steps:
        raise UserError(f"--every {options.every}: expected less than --steps, {options.steps}")
    binary = options.binary or default_binary()
    out = claim(options.out, inputs_of(options.options))
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix=".checkpoint_bench.", dir=out.parent) as work:
        for repeat in range(options.repeats):
            for way in WAYS:
                with waiting(f"checkpoints {way}, {repeat + 1} of {options.repeats}"):
                    runs[way].append(measure(binary, way, options, Path(work) / f"{len(runs[way])}-{way.replace(' ', '-')}"))
    cells = {way: summary(of_way, options.every) for way, of_way in runs.items()}
    plain = cells["none"]["step_seconds"]
    print(f"{'checkpoints':<20} {'s/step':>8} {'a checkpoint adds, s':>21} {'snapshot s':>11} {'waited s':>9} {'write s':>8} {'MB':>9}")
    for way, cell in cells.items():
        cell["added_seconds"] = (cell["step_seconds"] - plain) * options.every
        texts = [f"{cell[name]:.3f}" if name in cell else "-" for name in EVENT[:-1]]
        texts.append(f"{cell['bytes'] / 1e6:.1f}" if "bytes" in cell else "-")
        added = "-" if way == "none" else f"{cell['added_seconds']:.3f}"
        print(f"{way:<20} {cell['step_seconds']:>8.4f} {added:>21} {texts[0]:>11} {texts[1]:>9} {texts[2]:>8} {texts[3]:>9}")
    report: dict[str, Any] = {"created_by": f"checkpoint_bench.py {VERSION}", "machine": describe_machine(options.ranks)}
    report |= {"ranks": options.ranks, "steps": options.steps, "ways": cells}
    write_text(out, json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    run_tool(main)
