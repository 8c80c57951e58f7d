"""Ranking metrics of extreme classification in plain numpy: the reading beside which the program's own can be checked.

N: test queries; L: labels; K: predictions a query.
"""

from __future__ import annotations

import numpy as np

PLACES = (1, 2, 3, 4, 5)
RECALL_PLACES = (10, 100)
DECILES = 10


def inverse_propensity(counts: np.ndarray, n_train: int, a: float, b: float) -> np.ndarray:
    """float64 [L]: 1 + max(0, ln N - 1) (B+1)^A (n_l + B)^-A; no propensity is above 1, also below three queries."""
    c = max(0.0, np.log(n_train) - 1) * (b + 1) ** a
    return 1 + c * (counts.astype(np.float64) + b) ** -a


def find_hits(predicted: np.ndarray, offsets: np.ndarray, values: np.ndarray, n_labels: int) -> np.ndarray:
    """bool [N, K]: is predicted[i, j] (-1: none) among the ascending values of row i?"""
    rows = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
    keys = rows * n_labels + values
    if not len(keys):
        return np.zeros(predicted.shape, bool)
    wanted = np.arange(len(predicted), dtype=np.int64)[:, None] * n_labels + predicted
    place = np.searchsorted(keys, wanted)
    place[place == len(keys)] = 0
    return (keys[place] == wanted) & (predicted >= 0)


def ranking_metrics(predicted: np.ndarray, offsets: np.ndarray, values: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Percentages by name. predicted: int64 [N, K], best first, -1 where a list ends, already filtered; weights: inverse
    propensities [L]. A query without true labels counts as a row of zeros, as in the field's public code."""
    n, width = predicted.shape
    hits = find_hits(predicted, offsets, values, len(weights))
    truths = np.diff(offsets)
    gains = np.where(hits, weights[np.maximum(predicted, 0)], 0.0)
    discounts = 1 / np.log2(np.arange(2, max(width, PLACES[-1]) + 2))
    best = _best_weights(offsets, values, weights)
    out: dict[str, float] = {}
    for k in PLACES:
        found = hits[:, :k].sum(1)
        out[f"P@{k}"] = found.mean() / k
        ideal = np.concatenate([[0.0], np.cumsum(discounts[:k])])[np.minimum(truths, k)]
        gained = (hits[:, :k] * discounts[: min(k, width)]).sum(1)
        out[f"nDCG@{k}"] = np.divide(gained, ideal, out=np.zeros(n), where=ideal > 0).mean()
        out[f"PSP@{k}"] = _ratio(gains[:, :k].sum(), best[:, :k].sum())
        # the attainable PSnDCG divides by the same normaliser as the gained one
        scale = np.divide(1, ideal, out=np.zeros(n), where=ideal > 0)
        attained = ((gains[:, :k] * discounts[: min(k, width)]).sum(1) * scale).sum()
        out[f"PSnDCG@{k}"] = _ratio(attained, ((best[:, :k] * discounts[:k]).sum(1) * scale).sum())
    for k in (*PLACES, *RECALL_PLACES):
        out[f"R@{k}"] = np.divide(hits[:, :k].sum(1), truths, out=np.zeros(n), where=truths > 0).mean()
    first = np.where(hits.any(1), 1 / (hits.argmax(1) + 1), 0)
    out["MRR"] = first.mean()
    precision = np.cumsum(hits, axis=1) / np.arange(1, width + 1)
    out["MAP"] = np.divide((precision * hits).sum(1), truths, out=np.zeros(n), where=truths > 0).mean()
    return {key: 100 * float(value) for key, value in out.items()}


def deciles_of(counts: np.ndarray) -> np.ndarray:
    """int64 [L]: the tenth of the labels that each belongs to, rarest first, ties by number: as the program's tables have them.

    counts [L]: training queries of each label.
    """
    order = np.argsort(counts, kind="stable")
    decile = np.empty(len(counts), np.int64)
    decile[order] = np.arange(len(counts)) * DECILES // max(len(counts), 1)
    return decile


def decile_metrics(predicted: np.ndarray, offsets: np.ndarray, values: np.ndarray, counts: np.ndarray) -> list[dict[str, float]]:
    """Of each tenth of the labels by training frequency: labels, least and most count, true pairs, percent of these within the first 5
    and 100 (R@5, R@100), and the percent points of P@5 that it brings. predicted, offsets, values as ranking_metrics()."""
    hits, decile = find_hits(predicted, offsets, values, len(counts)), deciles_of(counts)
    pairs = np.bincount(decile[values], minlength=DECILES)

    def found(k: int) -> np.ndarray:
        return np.bincount(decile[predicted[:, :k][hits[:, :k]]], minlength=DECILES)

    five, hundred = found(5), found(100)
    rows = []
    for i in np.unique(decile).tolist():
        of = counts[decile == i]
        rows.append(
            {
                "labels": len(of),
                "least": int(of.min()),
                "most": int(of.max()),
                "pairs": int(pairs[i]),
                "R@5": 100 * _ratio(five[i], pairs[i]),
                "R@100": 100 * _ratio(hundred[i], pairs[i]),
                "P@5 part": 100 * _ratio(five[i], 5 * len(predicted)),
            }
        )
    return rows


def _best_weights(offsets: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float64 [N, 5]: the largest weights of a row's true labels, falling, 0 where there are fewer."""
    n, k = len(offsets) - 1, PLACES[-1]
    rows = np.repeat(np.arange(n), np.diff(offsets))
    order = np.lexsort((-weights[values], rows))
    rank = np.arange(len(values)) - offsets[rows]
    keep = rank < k
    best = np.zeros((n, k))
    best[rows[keep], rank[keep]] = weights[values[order]][keep]
    return best


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def format_table(rows: dict[str, dict[str, float]], columns: tuple[str, ...]) -> str:
    """A Markdown table: one row a method."""
    width = max(map(len, [*rows, "method"]))
    lines = [f"| {'method':<{width}} | " + " | ".join(f"{c:>7}" for c in columns) + " |"]
    lines.append(f"|{'-' * (width + 2)}|" + "|".join("-" * 8 + ":" for _ in columns) + "|")
    for name, metrics in rows.items():
        lines.append(f"| {name:<{width}} | " + " | ".join(f"{metrics[c]:7.2f}" for c in columns) + " |")
    return "\n".join(lines)
