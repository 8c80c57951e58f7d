"""What a scaling study's measurements say of step times and accuracy: fits, with intervals by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

REPEATS = 500
INTERVAL = (5.0, 95.0)  # percentiles


@dataclass(frozen=True)
class StepSample:
    """A run's mean step, and what `vixen plan` counts of it."""

    model: str
    ranks: int
    seconds: float
    flops: float  # of a rank
    bytes: float  # of a rank, through its links


@dataclass(frozen=True)
class StepModel:
    """seconds = flops / rate of the model + latency x log2(ranks) + bytes / bandwidth."""

    rates: dict[str, float]  # FLOP/s, by model
    latency: float  # seconds
    bandwidth: float  # bytes/s; infinite where no time was seen to go there

    def seconds(self, model: str, ranks: int, flops: float, moved: float) -> float:
        return flops / self.rates[model] + self.latency * math.log2(ranks) + moved / self.bandwidth


@dataclass(frozen=True)
class PowerLaw:
    """y = scale x^exponent, with the exponent's interval."""

    scale: float
    exponent: float
    low: float
    high: float


def fit_steps(samples: Sequence[StepSample], seed: int = 0) -> tuple[StepModel, list[StepModel]] | str:
    """The model of least relative error and as many of resampled runs; else why there is none."""
    models = sorted({sample.model for sample in samples})
    if len({sample.ranks for sample in samples}) < 2:
        return "not fitted: every run has as many ranks"
    parameters = len(models) + 2
    if len(samples) <= parameters:
        return f"not fitted: {len(samples)} runs for {parameters} parameters"
    found = _solve(samples, models)
    if found is None:
        return "not fitted: the runs of a model say nothing of its rate"
    generator = np.random.default_rng(seed)
    resampled = []
    for _ in range(REPEATS):
        drawn = _solve([samples[i] for i in generator.integers(0, len(samples), len(samples))], models)
        if drawn is not None:
            resampled.append(drawn)
    return found, resampled


def _solve(samples: Sequence[StepSample], models: list[str]) -> StepModel | None:
    rows = np.zeros((len(samples), len(models) + 2))
    for row, sample in zip(rows, samples, strict=True):
        row[models.index(sample.model)] = sample.flops
        row[-2:] = math.log2(sample.ranks), sample.bytes
        row /= sample.seconds  # relative errors
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1
    solution = nnls(rows / scale, np.ones(len(samples)))[0] / scale
    if (solution[: len(models)] <= 0).any():
        return None
    rates = {model: 1 / float(value) for model, value in zip(models, solution, strict=False)}
    return StepModel(rates, float(solution[-2]), 1 / float(solution[-1]) if solution[-1] > 0 else math.inf)


def interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(np.asarray(values), INTERVAL)
    return float(low), float(high)


def fit_power_law(x: Sequence[float], y: Sequence[float], seed: int = 0) -> PowerLaw | str:
    """Of runs (x, y), by least squares of logarithms; else why there is none."""
    different = len(set(x))
    if different < 3:
        return f"not fitted: {different} different value{'' if different == 1 else 's'} of x, a line has two parameters"
    if min(x) <= 0 or min(y) <= 0:
        return "not fitted: a value is not above 0"
    log_x, log_y = np.log(np.asarray(x)), np.log(np.asarray(y))
    exponent, offset = np.polyfit(log_x, log_y, 1)
    generator = np.random.default_rng(seed)
    exponents = []
    for _ in range(REPEATS):
        drawn = generator.integers(0, len(log_x), len(log_x))
        if len(set(log_x[drawn])) > 1:
            exponents.append(float(np.polyfit(log_x[drawn], log_y[drawn], 1)[0]))
    return PowerLaw(math.exp(offset), float(exponent), *interval(exponents))
