"""What the answers of a run to a data set's test queries are worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .dataset_file import DatasetTexts
from .metrics import decile_metrics, inverse_propensity, ranking_metrics
from .ranking_file import read_ranking

SHOWN = ("P@1", "P@5", "PSP@1", "PSP@5", "R@100")
TAIL = "tail R@5"  # of the relevant pairs whose label is among the rarer half


@dataclass
class Answers:
    metrics: dict[str, float]
    deciles: list[dict[str, Any]]  # of label frequency, the rarest first

    @staticmethod
    def of(texts: DatasetTexts, ranking_file: Path) -> Answers:
        """Of what `vixen predict` wrote."""
        ranking, _ = read_ranking(ranking_file)
        weights = inverse_propensity(texts.label_counts, len(texts.train), *texts.propensity)
        deciles = decile_metrics(ranking, *texts.test_labels, texts.label_counts)
        metrics = ranking_metrics(ranking, *texts.test_labels, weights)
        tail = deciles[: len(deciles) // 2]
        pairs = sum(row["pairs"] for row in tail)
        metrics[TAIL] = sum(row["R@5"] * row["pairs"] for row in tail) / pairs if pairs else 0.0
        return Answers(metrics, deciles)

    def text(self) -> str:
        return ", ".join(f"{name} {self.metrics[name]:.2f}" for name in (*SHOWN, TAIL))
