"""What a finished run folder says for a scaling study."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import UserError, reading
from .files import read_json
from .run_folder import read_settings
from .scaling_grid import Cell


@dataclass(frozen=True)
class Measured:
    cell: Cell
    plan: dict[str, Any]  # of `vixen plan --out`
    metrics: dict[str, float]
    seconds: float  # of the whole training
    step_seconds: float  # the median of the intervals but for the first
    queries_per_s: float
    tokens_per_s: float
    memory_bytes: float  # the most that rank 0 held
    compute: str  # model.compute
    #: (seconds of training, metrics) of every evaluation, the last one included
    evaluations: list[tuple[float, dict[str, float]]] = field(default_factory=list)

    @property
    def rank_hours(self) -> float:
        return self.seconds * self.cell.ranks / 3600


def is_done(run: Path) -> bool:
    return (run / "metrics.json").is_file()


def read_run(run: Path, cell: Cell, plan: dict[str, Any]) -> Measured:
    """Of a run that is_done(). UserError where its files do not say what they should."""
    metrics = read_json(run / "metrics.json")
    path = run / "metrics.jsonl"
    lines: list[dict[str, Any]] = []
    with reading(path, "lines of JSON objects"):
        lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines() if text]
    if not isinstance(metrics, dict) or "seconds" not in metrics:
        raise UserError(f"{run / 'metrics.json'}: no seconds in it, expected the metrics of a finished run")
    steps = [line for line in lines if "loss" in line]
    if not steps:
        raise UserError(f"{path}: no line of a step: give a smaller run.log_every_steps")
    steady = steps[1:] or steps  # the first interval warms up
    seconds = float(metrics["seconds"])
    evaluations, elapsed, before = [], 0.0, 0
    for line in lines:
        if "loss" in line:
            elapsed += line["seconds"]["step"] * (line["step"] - before)
            before = line["step"]
        elif "metrics" in line:
            evaluations.append((min(elapsed, seconds), line["metrics"]))
    quality = {key: float(value) for key, value in metrics.items() if key not in ("seconds", "queries") and isinstance(value, (int, float))}
    evaluations = [*evaluations[:-1], (seconds, quality)]  # the last line is of the finished model
    memory = "host_memory_bytes" if "host_memory_bytes" in steps[-1] else "gpu_memory_bytes"
    return Measured(
        cell,
        plan,
        quality,
        seconds,
        statistics.median(line["seconds"]["step"] for line in steady),
        statistics.median(line["queries_per_s"] for line in steady),
        statistics.median(line["tokens_per_s"] for line in steady),
        max(float(line[memory]) for line in steps),
        read_settings(run).get("model.compute", "fp32"),
        evaluations,
    )
