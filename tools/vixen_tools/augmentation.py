"""Retrieval-augmented inference (docs/algorithm.md section 7) in NumPy, for many settings over the same two searches.

N: queries; k: labels found for a query; j: training queries found; L: labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .ranking_file import pair_keys


@dataclass(frozen=True)
class Settings:
    """The keys of section [augment]. weight: lambda."""

    weight: float
    labels: int
    queries: int
    temperature: float
    prior: float

    def keys(self) -> dict[str, float]:
        return {
            "augment.lambda": self.weight,
            "augment.labels": self.labels,
            "augment.queries": self.queries,
            "augment.temperature": self.temperature,
            "augment.prior": self.prior,
        }

    def options(self) -> list[str]:
        """For a command line of the program."""
        return [word for key, value in self.keys().items() for word in (f"--{key}", f"{value:g}")]


def grid(
    weights: list[float], labels: list[int], queries: list[int], temperatures: list[float], priors: list[float]
) -> Iterator[list[Settings]]:
    """All settings, those that share both numbers together; with lambda 0 no training query takes part, so one number of them will do."""
    for kept, near in itertools.product(labels, queries):
        chosen = [weight for weight in weights if weight > 0 or near == queries[0]]
        yield [Settings(weight, kept, near, t, prior) for weight, t, prior in itertools.product(chosen, temperatures, priors)]


class Augmenter:
    """The best labels and nearest training queries of every query, and what the training queries' labels are.

    label_ids, label_scores [N, k] and query_ids, query_scores [N, j]: best first, -1 and -infinity where a list ends; offsets, values:
    ragged labels of the training queries; counts [L]: training queries of each label; filtered: ragged labels that must not count for a
    query, which are in no list of labels any more.
    """

    def __init__(
        self,
        labels: tuple[np.ndarray, np.ndarray],
        queries: tuple[np.ndarray, np.ndarray],
        truth: tuple[np.ndarray, np.ndarray],
        counts: np.ndarray,
        filtered: tuple[np.ndarray, np.ndarray],
    ):
        self._label_ids, self._label_scores = labels[0], labels[1].astype(np.float64)
        self._query_ids, self._query_scores = queries[0], queries[1].astype(np.float64)
        self._offsets, self._values = truth
        self._n_labels = len(counts)
        self._log_counts = np.log(np.maximum(np.append(counts, 1), 1))  # the last is that of -1
        self._filtered = filtered

    def rankings(self, settings: list[Settings], top: int) -> Iterator[np.ndarray]:
        """Labels int64 [N, top] by each of the settings, which share both numbers; best first, ties by number, -1 where a list ends."""
        assert len({(one.labels, one.queries) for one in settings}) == 1
        ids, scores = self._label_ids[:, : settings[0].labels], self._label_scores[:, : settings[0].labels]
        near, near_scores = self._query_ids[:, : settings[0].queries], self._query_scores[:, : settings[0].queries]
        votes = _Votes(ids, near, self._offsets, self._values, self._n_labels, self._filtered)
        for one in settings:
            if one.weight == 0 and one.prior == 0:  # the program's answers without section [augment], however many labels take part
                found = self._label_ids[:, :top]
                yield np.pad(found, ((0, 0), (0, top - found.shape[1])), constant_values=-1)
                continue
            logits = scores / one.temperature + one.prior * self._log_counts[ids]
            if one.weight > 0:
                logits = np.concatenate([logits, near_scores / one.temperature], axis=1)
            p = np.exp(logits - logits.max(axis=1, keepdims=True, initial=np.finfo(np.float64).min))
            p /= np.maximum(p.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
            voting = one.weight * p[:, ids.shape[1] :] if one.weight > 0 else None
            yield votes.ranking((1 - one.weight) * p[:, : ids.shape[1]], voting, top)


class _Votes:
    """Entries (query, label) of both lists, sorted once, so that each setting is a sum over runs of them. Votes for filtered labels, which
    would bring them back, are none of them."""

    def __init__(
        self,
        ids: np.ndarray,
        near: np.ndarray,
        offsets: np.ndarray,
        values: np.ndarray,
        n_labels: int,
        filtered: tuple[np.ndarray, np.ndarray],
    ):
        self._n, self._n_labels = len(ids), n_labels
        lengths = np.diff(offsets)[near].ravel()
        begins = np.cumsum(lengths) - lengths
        voted = values[np.repeat(offsets[near].ravel() - begins, lengths) + np.arange(lengths.sum())]
        self._voter = np.repeat(np.arange(near.size), lengths)
        width = near.shape[1]
        stride = n_labels + 1  # places behind a list's end are of a label of their own
        own_keys = np.repeat(np.arange(self._n), ids.shape[1]) * stride + np.where(ids < 0, n_labels, ids).ravel()
        voted_keys = self._voter // max(width, 1) * stride + voted
        counted = ~np.isin(voted_keys, pair_keys(filtered, stride))
        self._voter = self._voter[counted]
        keys = np.concatenate([own_keys, voted_keys[counted]])
        self._orders = {alone: self._sorted(own_keys if alone else keys, stride) for alone in (True, False)}

    @staticmethod
    def _sorted(keys: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Order of the entries, where each run begins, its query and its label."""
        order = np.argsort(keys, kind="stable")
        found = keys[order]
        begins = np.flatnonzero(np.concatenate([[True], found[1:] != found[:-1]])) if len(found) else np.zeros(0, np.int64)
        return order, begins, found[begins] // stride, found[begins] % stride

    def ranking(self, own: np.ndarray, voting: np.ndarray | None, top: int) -> np.ndarray:
        """own [N, k]: what the labels have themselves; voting [N, j]: what each training query gives to all its labels."""
        order, begins, rows, labels = self._orders[voting is None]
        amounts = own.ravel() if voting is None else np.concatenate([own.ravel(), voting.ravel()[self._voter]])
        sums = np.add.reduceat(amounts[order], begins).astype(np.float32) if len(begins) else np.zeros(0, np.float32)
        best = np.lexsort((labels, -sums, rows))
        best = best[labels[best] < self._n_labels]
        of = rows[best]
        place = np.arange(len(of)) - np.searchsorted(of, np.arange(self._n))[of]
        kept = place < top
        out = np.full((self._n, top), -1, np.int64)
        out[of[kept], place[kept]] = labels[best][kept]
        return out
