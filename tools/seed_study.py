#!/usr/bin/env python3
"""Trains one configuration with several seeds and prints the mean of each metric: how published figures are compared.

    tools/seed_study.py --out runs/l3 --seeds 0 1 2 -- --config configs/icontags_minilm_l3_6epochs.ini \\
        --data.path DATA.h5 --model.path MODEL

Everything behind `--` goes to `vixen train`. A seed whose metrics.json is there is not trained again.
"""

import argparse
import statistics
import subprocess
from pathlib import Path

from vixen_tools.arguments import whole
from vixen_tools.errors import reading, run_tool
from vixen_tools.files import read_json
from vixen_tools.outputs import claim_collection
from vixen_tools.program import default_binary, inputs_of

SHOWN = ["P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSP@5", "R@100", "seconds"]


def row(name: str, values: list[float]) -> str:
    return f"{name:>10} " + " ".join(f"{value:9.2f}" for value in values)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs: OUT/seed-S")
    parser.add_argument("--seeds", type=whole(0), nargs="+", default=[0, 1, 2])
    parser.add_argument("options", nargs="*", help="options of vixen train, behind --")
    arguments = parser.parse_args()
    binary = arguments.binary or default_binary()

    claim_collection(arguments.out, inputs_of(arguments.options))
    results = {}
    for seed in arguments.seeds:
        run = arguments.out / f"seed-{seed}"
        metrics = run / "metrics.json"
        if not metrics.exists():
            print(f"seed {seed}: training into {run}", flush=True)
            command = [str(binary), "train", *arguments.options, "--run.dir", str(run), "--train.seed", str(seed)]
            code = subprocess.run(command).returncode
            if code != 0:
                return code
        with reading(metrics, "a run's metrics in JSON"):
            found = read_json(metrics)
            results[seed] = {name: float(found[name]) for name in SHOWN}

    print(f"{'seed':>10} " + " ".join(f"{name:>9}" for name in SHOWN))
    for seed, found in results.items():
        print(row(str(seed), [found[name] for name in SHOWN]))
    columns = [[found[name] for found in results.values()] for name in SHOWN]
    print(row("mean", [statistics.mean(column) for column in columns]))
    if len(results) > 1:
        print(row("deviation", [statistics.stdev(column) for column in columns]))
    return 0


if __name__ == "__main__":
    run_tool(main)
