"""Runs of `vixen train` against the clock.

Seconds count from the start of the program to the saved model: reading, first passes over queries and labels, steps, clusterings, minings,
checkpoints and the last pass are in them, the evaluation behind them is not.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .budget import Cost
from .errors import UserError, reading
from .program import failure
from .run_folder import is_run, read_settings

POLL_SECONDS = 0.02
PILOT_STEPS, PILOT_WARMUP = 10, 4
STOPPED_ON_REQUEST = 75


@dataclass
class Pilot:
    """What a run costs by its first steps, and the queries of a batch."""

    cost: Cost
    batch: int


@dataclass
class Times:
    """setup: until the first step; total: until the model is saved."""

    setup: float
    total: float


def remove_run(folder: Path) -> None:
    """Removes a run's folder; UserError where vixen did not make it."""
    if not folder.exists():
        return
    if not is_run(folder):
        raise UserError(f"{folder}: exists and is no run of vixen's: give another --out, or remove it")
    shutil.rmtree(folder)


def train(command: list[str], run: Path, ok: tuple[int, ...] = (0,)) -> Times:
    """Trains anew into a run folder. The program's standard error goes to RUN.log."""
    remove_run(run)
    run.parent.mkdir(parents=True, exist_ok=True)
    log = run.with_name(run.name + ".log")
    words = [*command, "--run.dir", str(run)]
    with open(log, "w", encoding="utf-8") as errors:
        begin, setup = time.time(), None
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            while process.poll() is None:
                if setup is None and (run / "metrics.jsonl").exists():  # opened right before the first step
                    setup = time.time() - begin
                time.sleep(POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
    if process.returncode not in ok:
        raise failure(words, process.returncode, log.read_text(errors="replace"))
    marker = run / "model" / ".vixen.json"  # the last file of a finished model
    total = marker.stat().st_mtime - begin if marker.is_file() else time.time() - begin
    return Times(total if setup is None else setup, total)


def pilot(command: list[str], run: Path) -> Pilot:
    """The cost by the first steps of a run, which is stopped behind them and removed."""
    more = ["--run.log_every_steps", "1", "--run.stop_after_steps", str(PILOT_STEPS), "--train.epochs", "1000"]
    times = train([*command, *more], run, ok=(STOPPED_ON_REQUEST,))
    path = run / "metrics.jsonl"
    with reading(path, "a run's metrics"):
        lines = [line for line in map(json.loads, path.read_text().splitlines()) if "loss" in line]
        step = statistics.median(line["seconds"]["step"] for line in lines[PILOT_WARMUP:])
        steps = round(lines[-1]["step"] / lines[-1]["epoch"])
        batch = int(read_settings(run)["train.batch_size"])
    remove_run(run)
    # the last pass embeds what the first ones did; what comes between epochs is small beside one
    return Pilot(Cost(times.setup, step * steps, times.setup, steps), batch)
