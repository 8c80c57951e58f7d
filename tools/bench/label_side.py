#!/usr/bin/env python3
"""What the label side costs at several world sizes: the same search and the same training steps with mining, seconds, and memory.

    tools/bench/label_side.py --corpus L.h5 --queries Q.h5 --out label_side.json --ranks 1 2 4 8 -- \\
        --data.path DATA.h5 --model.path MODEL --model.layers 1 --train.batch_size 1024

L.h5 and Q.h5 hold unit rows in /embeddings. Behind `--`: options of `vixen train`, which runs --steps steps from lists that it mines first.
For every world size: ids of the search (those of one rank, to the bit, or exit code 1), its seconds; what training says of its label
side, a rank's times W; the most that any rank and that all of them together had in memory (a page that ranks share counts once, in parts).
Prints a table; --out: the same as JSON. Runs go to a folder beside it that is removed in the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from vixen_tools import VERSION  # noqa: E402
from vixen_tools.arguments import whole  # noqa: E402
from vixen_tools.errors import UserError, run_tool  # noqa: E402
from vixen_tools.files import write_text  # noqa: E402
from vixen_tools.hdf5_file import open_hdf5, read_dataset  # noqa: E402
from vixen_tools.machine import describe_machine  # noqa: E402
from vixen_tools.outputs import claim  # noqa: E402
from vixen_tools.process_memory import memory_of, part_of  # noqa: E402
from vixen_tools.program import default_binary, failure, inputs_of, label_side_bytes, mpi_environment  # noqa: E402
from vixen_tools.progress import waiting  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

STOPPED_ON_REQUEST = 75
LOOK_SECONDS = 0.2


def processes_of(binary: Path, parent: int) -> Iterator[int]:
    """Running ranks: descendants of mpirun that run the program."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has ended
        parents[int(entry.name)] = int(fields[1])
    for pid in parents:
        above = pid
        while above in parents and above != parent:
            above = parents[above]
        try:
            if above == parent and Path(f"/proc/{pid}/exe").resolve() == binary:
                yield pid
        except OSError:
            continue


class MemoryWatch:
    """Looks at the ranks of a job until it ends: the highest peak of a rank, the most that all had together."""

    def __init__(self, binary: Path, launcher: int) -> None:
        self.peak_of_a_rank = self.most_together = 0
        self._binary, self._launcher = binary.resolve(), launcher
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            together = 0
            for pid in processes_of(self._binary, self._launcher):
                try:
                    peak, part = memory_of(pid).peak_bytes, part_of(pid)
                except (OSError, StopIteration, KeyError):
                    continue  # it ends just now
                self.peak_of_a_rank = max(self.peak_of_a_rank, peak)
                together += part
            self.most_together = max(self.most_together, together)

    def end(self) -> dict[str, int]:
        self._ended.set()
        self._thread.join()
        return {"peak_bytes_of_a_rank": self.peak_of_a_rank, "most_bytes_together": self.most_together}


def run(binary: Path, ranks: int, *words: object, ok: int = 0) -> tuple[str, str, float, dict[str, int]]:
    """Standard output and error of a job, its seconds, its memory."""
    command = ["mpirun", "-n", str(ranks), "--oversubscribe", str(binary), *map(str, words), "--threads", "1" if ranks > 1 else "2"]
    begin = time.monotonic()
    with waiting(f"{ranks} ranks: {words[0]}"):
        job = subprocess.Popen(command, env=mpi_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        watch = MemoryWatch(binary, job.pid)
        try:
            out, errors = job.communicate()
        finally:
            memory = watch.end()
    if job.returncode != ok:
        raise failure(command, job.returncode, errors)
    return out, errors, time.monotonic() - begin, memory


def search_at(binary: Path, ranks: int, arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    found = folder / f"found-{ranks}.h5"
    out, _, seconds, memory = run(
        binary, ranks, "search", "--search.corpus", arguments.corpus, "--search.queries", arguments.queries, "--search.k", arguments.k,
        "--search.cosine", "false", "--run.log_level", "debug", "--out", found,
    )  # fmt: skip
    report = next(json.loads(line) for line in out.splitlines() if line.startswith("{"))
    with open_hdf5(found) as file:
        ids = read_dataset(file, "indices", "i", 2)
    found.unlink()
    return {"search_seconds": report["search_seconds"], "seconds": seconds, **memory}, ids


def train_at(binary: Path, ranks: int, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    _, log, seconds, memory = run(
        binary, ranks, "train", *arguments.options, "--run.dir", folder / f"run-{ranks}", "--run.resume", "false",
        "--run.stop_after_steps", arguments.steps, "--run.log_every_steps", 1, ok=STOPPED_ON_REQUEST,
    )  # fmt: skip
    lines = [json.loads(line) for line in (folder / f"run-{ranks}" / "metrics.jsonl").read_text().splitlines()]
    return {
        "label_side_bytes_of_a_rank": label_side_bytes(log),
        "losses": [line["loss"] for line in lines if "loss" in line],
        "seconds": seconds,
        **memory,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=None)
    parser.add_argument("--corpus", type=Path, help="HDF5 file with /embeddings of unit length; without it nothing is searched")
    parser.add_argument("--queries", type=Path, help="HDF5 file with /embeddings")
    parser.add_argument("--k", type=whole(1), default=100)
    parser.add_argument("--ranks", type=whole(1), nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--steps", type=whole(1), default=5)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("options", nargs="*", help="options of vixen train, behind --; without them nothing is trained")
    arguments = parser.parse_args()
    if (arguments.corpus is None) != (arguments.queries is None):
        raise UserError("--corpus and --queries: expected both or neither")
    binary = arguments.binary or default_binary()
    inputs = {**inputs_of(arguments.options), "--corpus": [arguments.corpus] * (arguments.corpus is not None)}
    out = claim(arguments.out, inputs)

    first: np.ndarray | None = None
    agree = True
    cells = []
    print(f"{'':>26} {'search: GB of a':>24} {'label side,':>18} {'train: GB of a':>23}")
    print(f"{'ranks':>5} {'search s':>9} {'ids equal':>10} {'rank, of all':>24} {'MB x W':>18} {'rank, of all':>23}")
    work = tempfile.TemporaryDirectory(prefix=".label_side.", dir=out.parent)
    for ranks in arguments.ranks:
        cell: dict[str, Any] = {"ranks": ranks}
        search: dict[str, Any] = {}
        train: dict[str, Any] = {}
        same: bool | None = None
        if arguments.corpus is not None:
            search, ids = search_at(binary, ranks, arguments, Path(work.name))
            first = ids if first is None else first
            same = bool(np.array_equal(ids, first))
            agree = agree and same
            cell |= {"search": search, "ids_equal": same}
        if arguments.options:
            train = train_at(binary, ranks, arguments, Path(work.name))
            cell |= {"train": train}
        pair = lambda part: f"{part['peak_bytes_of_a_rank'] / 1e9:.2f}, {part['most_bytes_together'] / 1e9:.2f}" if part else "-"  # noqa: E731
        side = f"{train['label_side_bytes_of_a_rank'] * ranks / 1e6:.1f}" if train else "-"
        taken = f"{search['search_seconds']:.1f}" if search else "-"
        print(f"{ranks:>5} {taken:>9} {same!s:>10} {pair(search):>24} {side:>18} {pair(train):>23}", flush=True)
        cells.append(cell)
    work.cleanup()
    report = {"created_by": f"label_side.py {VERSION}", "machine": describe_machine(max(arguments.ranks)), "cells": cells}
    write_text(out, json.dumps(report, indent=1) + "\n")
    return 0 if agree else 1


if __name__ == "__main__":
    run_tool(main)
