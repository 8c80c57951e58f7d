"""How many epochs fit into a number of seconds, and the curriculum of so many epochs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

SLACK = 0.03  # of a budget that a plan leaves free: machines are not always equally fast
PLAN_WARMUP, MOST_WARMUP = 0.1, 100  # share of the steps in which the learning rate rises, and how many at most


@dataclass(frozen=True)
class Cost:
    """Seconds: from the program's start to the first step, of an epoch with what comes between epochs, from the last step to the saved
    model. steps: of an epoch."""

    setup: float
    epoch: float
    last: float
    steps: int

    def epochs_within(self, budget: float) -> int:
        """The most epochs whose run ends within the budget, 0 where not one does."""
        return max(0, math.floor((budget * (1 - SLACK) - self.setup - self.last) / self.epoch))

    def measured(self, epochs: int, total: float, setup: float) -> Cost:
        """By a run of so many epochs that took `total` seconds: what the estimate of its end was wrong by counts as the epochs'."""
        return replace(self, setup=setup, epoch=max(total - setup - self.last, 1e-3) / epochs)


def with_columns(cost: Cost, batch: int, columns: int) -> Cost:
    """A first estimate for mined columns: they lengthen the label side of a step, and every mining is about as long as the first passes."""
    return replace(cost, epoch=cost.epoch * (2 * batch + columns) / (2 * batch) + cost.setup)


def curriculum(epochs: int, steps: int, mining: bool) -> dict[str, object]:
    """Keys that belong to a length: the shape of the quickstart's four epochs (neighbours from the first epoch's end, twice as many at half
    time), later where there are more; mined columns begin with the neighbours."""
    start = max(0, epochs // 4 - 1)
    keys: dict[str, object] = {
        "train.epochs": epochs,
        "train.warmup_steps": max(1, min(MOST_WARMUP, int(epochs * steps * PLAN_WARMUP))),
        "cluster.start_epoch": start,
        "cluster.update_epochs": 1,
        "cluster.double_at": max(1, epochs // 2),
    }
    return keys | ({"mining.start_epoch": start} if mining else {})
