#!/usr/bin/env python3
"""What a user would try first: TF-IDF nearest training queries and TF-IDF similarity to the labels' own texts."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from vixen_tools import VERSION
from vixen_tools.arguments import finite, whole
from vixen_tools.dataset_file import DatasetTexts
from vixen_tools.errors import UserError, run_tool
from vixen_tools.files import write_text
from vixen_tools.metrics import format_table, inverse_propensity, ranking_metrics
from vixen_tools.outputs import claim
from vixen_tools.progress import Progress, waiting
from vixen_tools.ranking_file import top_k, write_ranking

METHODS = {"neighbours": (1.0, 0.0), "label-text": (0.0, 1.0), "combined": (1.0, None)}
LABEL_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
CREATED_BY = f"baselines.py {VERSION}"
COLUMNS = ("P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSP@5", "R@100")


class TfIdf:
    """The two scorers over one vocabulary of word 1-grams and 2-grams."""

    def __init__(self, texts: DatasetTexts, neighbours: int):
        from scipy.sparse import csr_matrix
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", dtype=np.float32)
        try:
            vectorizer.fit(texts.train + texts.label)
        except ValueError as error:  # not one word in all texts
            raise UserError(f"{texts.path}: {error}, expected words in the texts") from None
        self.train, self.test = vectorizer.transform(texts.train), vectorizer.transform(texts.test)
        self._label = vectorizer.transform(texts.label)
        self._train_t, self._label_t = self.train.T.tocsr(), self._label.T.tocsr()
        offsets, values = texts.train_labels
        self._truth = csr_matrix((np.ones(len(values), np.float32), values, offsets), (len(texts.train), len(texts.label)))
        self._neighbours = min(neighbours, len(texts.train))

    def scores(self, queries: Any, neighbour_weight: float, label_weight: float, hide_equal: bool = False) -> np.ndarray:
        """float32 [b, L]: share of the similar training queries that have the label, and cosine to its text, each weighted.

        queries: sparse [b, vocabulary]. hide_equal: training queries of the same words do not count as neighbours.
        """
        from scipy.sparse import csr_matrix

        total = np.zeros((queries.shape[0], self._label.shape[0]), np.float32)
        if neighbour_weight:
            similar = (queries @ self._train_t).toarray()
            if hide_equal:
                similar[similar > 1 - 1e-4] = 0
            near, similarity = top_k(similar, self._neighbours)
            similarity /= np.maximum(similarity.sum(1, keepdims=True), 1e-12)
            rows = np.repeat(np.arange(len(near)), near.shape[1])
            weights = csr_matrix((similarity.ravel(), (rows, near.ravel())), (len(near), self.train.shape[0]))
            total += neighbour_weight * (weights @ self._truth).toarray()
        if label_weight:
            total += label_weight * (queries @ self._label_t).toarray()
        return total


def choose_label_weight(texts: DatasetTexts, model: TfIdf, batch: int) -> float:
    """The weight of the label texts that is best for P@1 on up to 2,000 training queries, each without its equals."""
    rows = np.random.default_rng(0).permutation(len(texts.train))[:2000]
    hits = np.zeros(len(LABEL_WEIGHTS))
    offsets, values = texts.train_labels
    for first in range(0, len(rows), batch):
        some = rows[first : first + batch]
        near = model.scores(model.train[some], 1.0, 0.0, hide_equal=True)
        own = model.scores(model.train[some], 0.0, 1.0)
        for i, weight in enumerate(LABEL_WEIGHTS):
            best = (near + weight * own).argmax(1)
            hits[i] += sum(label in values[offsets[row] : offsets[row + 1]] for row, label in zip(some, best, strict=True))
    return LABEL_WEIGHTS[int(hits.argmax())]


def predict(
    texts: DatasetTexts, model: TfIdf, weights: tuple[float, float], k: int, batch: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Top k of every test query, filter pairs removed before the cut; -1 where fewer than k labels are left."""
    n, k = len(texts.test), min(k, len(texts.label))
    indices, scores = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    offsets, values = texts.filter
    with Progress(name, n, "queries") as progress:
        for first in range(0, n, batch):
            last = min(first + batch, n)
            dense = model.scores(model.test[first:last], *weights)
            for row in range(first, last):
                dense[row - first, values[offsets[row] : offsets[row + 1]]] = -np.inf
            indices[first:last], scores[first:last] = top_k(dense, k)
            progress.add(last - first)
    indices[np.isneginf(scores)] = -1
    return indices, scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data set of prepare_dataset.py")
    parser.add_argument("--out", type=Path, help="predictions of the last method (HDF5: /indices, /scores)")
    parser.add_argument("--metrics", type=Path, help="JSON to write: metrics by method")
    parser.add_argument("--method", choices=(*METHODS, "all"), default="combined", help="default combined")
    parser.add_argument("--neighbours", type=whole(), default=10, help="similar training queries a test query (default 10)")
    parser.add_argument(
        "--label-weight", type=finite, help="weight of the label texts in 'combined' (default: the best for some training queries)"
    )
    parser.add_argument("--k", type=whole(), default=100, help="predictions a query (default 100)")
    parser.add_argument("--batch", type=whole(), default=128, help="test queries at a time (default 128)")
    options = parser.parse_args()
    if min(options.neighbours, options.k, options.batch) < 1:
        raise UserError("--neighbours, --k and --batch: expected at least 1")
    inputs = {"--data": options.data}
    out = claim(options.out, inputs) if options.out else None
    metrics = claim(options.metrics, inputs, "--metrics", {"--out": options.out}) if options.metrics else None
    begin = time.monotonic()
    with waiting("TF-IDF: texts read and counted"):
        texts = DatasetTexts(options.data)
        model = TfIdf(texts, options.neighbours)
    weights = inverse_propensity(texts.label_counts, len(texts.train), *texts.propensity)
    rows: dict[str, dict[str, float]] = {}
    for method in METHODS if options.method == "all" else (options.method,):
        share, label_share = METHODS[method]
        if label_share is None:
            label_share = options.label_weight
            if label_share is None:
                with waiting("TF-IDF: weight of the label texts"):
                    label_share = choose_label_weight(texts, model, options.batch)
        parts = share, label_share
        indices, scores = predict(texts, model, parts, options.k, options.batch, f"TF-IDF {method}")
        rows[f"TF-IDF {method}"] = ranking_metrics(indices, *texts.test_labels, weights)
        rows[f"TF-IDF {method}"]["label_weight"] = label_share
        rows[f"TF-IDF {method}"]["seconds"] = time.monotonic() - begin
        begin = time.monotonic()
    if out:
        write_ranking(out, indices, scores, CREATED_BY)
    if metrics:
        write_text(metrics, json.dumps({"created_by": CREATED_BY, **rows}, indent=1) + "\n")
    print(format_table(rows, COLUMNS))


if __name__ == "__main__":
    run_tool(main)
