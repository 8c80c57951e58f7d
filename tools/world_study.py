#!/usr/bin/env python3
"""Runs the same training steps and the same search at several world sizes and compares: losses, top-k ids, memory.

    tools/world_study.py --out runs/world --ranks 1 2 3 4 -- --config configs/icontags_minilm_l3_6epochs.ini \\
        --data.path DATA.h5 --model.path MODEL

Everything behind `--` goes to `vixen train`. Top-k ids and scores must be those of one rank to the bit, losses within 1e-6.
Exits with 1 when they do not.
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np

from vixen_tools.arguments import whole
from vixen_tools.errors import UserError, run_tool
from vixen_tools.files import write_text
from vixen_tools.hdf5_file import open_hdf5, read_dataset
from vixen_tools.outputs import MARKER, claim_collection, is_marked, marker_text
from vixen_tools.program import default_binary, inputs_of, label_side_bytes, mpi_environment
from vixen_tools.progress import waiting

STOPPED_ON_REQUEST = 75


def value_of(options: list[str], key: str) -> str:
    values = inputs_of(options)[key]
    if not values:
        raise UserError(f"{key}: missing, expected it behind --")
    return str(values[-1])


def run(binary: Path, ranks: int, *words: object, ok: tuple[int, ...] = (0,)) -> str:
    command = ["mpirun", "-n", str(ranks), str(binary), *map(str, words), "--threads", "1"]
    with waiting(f"{ranks} ranks: {words[0]}"):
        result = subprocess.run(command, env=mpi_environment(), capture_output=True, text=True)
    if result.returncode not in ok:
        reason = [line for line in result.stderr.splitlines() if line.strip()]
        raise UserError(f"{' '.join(command)}: ended with exit code {result.returncode}: {reason[-1] if reason else 'without a word'}")
    return result.stderr


def losses_at(binary: Path, ranks: int, steps: int, folder: Path, options: list[str]) -> tuple[list[float], float]:
    """Losses of the first steps, and megabytes of the label side on rank 0."""
    log = run(
        binary,
        ranks,
        "train",
        *options,
        "--run.dir",
        folder,
        "--run.stop_after_steps",
        steps,
        "--run.log_every_steps",
        1,
        "--run.resume",
        "false",
        ok=(STOPPED_ON_REQUEST,),
    )
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line], label_side_bytes(log) / 1e6


def top_at(binary: Path, ranks: int, k: int, folder: Path, options: list[str]) -> tuple[np.ndarray, np.ndarray]:
    sources = ["--data.path", value_of(options, "--data.path"), "--model.path", value_of(options, "--model.path")]
    files = {side: folder / f"{side}.h5" for side in ("queries", "labels")}
    for side, file in files.items():
        run(binary, ranks, "embed", *sources, "--embed.side", side, "--embed.dtype", "fp32", "--out", file)
    out = folder / "top.h5"
    run(binary, ranks, "search", "--search.corpus", files["labels"], "--search.queries", files["queries"], "--search.k", k, "--out", out)
    with open_hdf5(out) as file:
        return read_dataset(file, "indices", "i", 2), read_dataset(file, "scores", "f", 2)


def claim_ranks(folder: Path) -> None:
    """Makes the folder of one world size; one that is there must be a former study's."""
    if folder.is_dir() and any(folder.iterdir()) and not is_marked(folder):
        raise UserError(f"{folder}: exists and was not made by vixen (no {MARKER}): give another --out, or remove it")
    write_text(folder / MARKER, marker_text("world_study.py", "world study", []))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ranks", type=whole(1), nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--steps", type=whole(1), default=10)
    parser.add_argument("--k", type=whole(1), default=100)
    parser.add_argument("options", nargs="*", help="options of vixen train, behind --")
    arguments = parser.parse_args()
    binary = arguments.binary or default_binary()

    claim_collection(arguments.out, inputs_of(arguments.options))
    reference: tuple[list[float], np.ndarray, np.ndarray] | None = None
    worst = 0.0
    agree = True
    print(f"{'ranks':>5} {'largest loss gap':>17} {'ids equal':>10} {'scores equal':>13} {'label side MB on rank 0':>24}")
    for ranks in arguments.ranks:
        folder = arguments.out / f"ranks-{ranks}"
        claim_ranks(folder)
        losses, memory = losses_at(binary, ranks, arguments.steps, folder / "run", arguments.options)
        ids, scores = top_at(binary, ranks, arguments.k, folder, arguments.options)
        reference = reference or (losses, ids, scores)
        gap = max(abs(a - b) / b for a, b in zip(losses, reference[0], strict=True))
        same_ids, same_scores = np.array_equal(ids, reference[1]), np.array_equal(scores, reference[2])
        print(f"{ranks:>5} {gap:>17.2e} {same_ids!s:>10} {same_scores!s:>13} {memory:>24.1f}", flush=True)
        worst = max(worst, gap)
        agree = agree and same_ids and same_scores
    return 0 if agree and worst <= 1e-6 else 1


if __name__ == "__main__":
    run_tool(main)
