"""Retrieval-augmented answers of the binary against a rendering of the formula in NumPy, which shares nothing with it but the embeddings
that `vixen embed` writes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from test_export import LABELS, VIXEN, mistake, place, train, vixen  # noqa: F401  (place, train: fixtures)

pytestmark = pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
K_LABELS, K_QUERIES, TEMPERATURE = 6, 4, 0.07


def embeddings(place: Path, out: Path, *side: str) -> np.ndarray:  # noqa: F811
    vixen("embed", "--data.path", place / "bert.h5", "--model.path", place / "models/bert", "--embed.dtype", "fp32", *side, "--out", out)
    with h5py.File(out) as file:
        return file["/embeddings"][:].astype(np.float64)


def answers(lam: float, prior: float, queries: np.ndarray, labels: np.ndarray, training: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Scores [queries, labels]; 0 where neither list reaches a label."""
    frequency = np.maximum(truth.sum(0), 1)
    scores = np.zeros((len(queries), len(labels)))
    for row, query in enumerate(queries):
        s, t = labels @ query, training @ query
        best, near = np.argsort(-s)[:K_LABELS], np.argsort(-t)[:K_QUERIES] if lam > 0 else np.arange(0)
        logits = np.concatenate([s[best] / TEMPERATURE + prior * np.log(frequency[best]), t[near] / TEMPERATURE])
        p = np.exp(logits - logits.max())
        p /= p.sum()
        scores[row, best] = (1 - lam) * p[: len(best)]
        scores[row] += lam * (p[len(best) :, None] * truth[near]).sum(0)
    return scores


@pytest.mark.parametrize("ranks", [0, 3])
@pytest.mark.parametrize("lam, prior", [(0.1, 0.0), (0.6, 0.0), (0.3, 0.5), (0.0, 0.5)])
def test_answers_are_the_formula(place, tmp_path, lam, prior, ranks):  # noqa: F811
    queries = embeddings(place, tmp_path / "q.h5", "--data.split", "test")
    training = embeddings(place, tmp_path / "t.h5", "--data.split", "train")
    labels = embeddings(place, tmp_path / "l.h5", "--embed.side", "labels")
    truth = np.zeros((len(training), len(labels)))
    with h5py.File(place / "bert.h5") as file:
        group = file["/train/labels"]
        offsets, values = group["offsets"][:], group["values"][:]
    for row in range(len(training)):
        truth[row, values[offsets[row] : offsets[row + 1]]] = 1
    expected = answers(lam, prior, queries, labels, training, truth)

    common = ["--data.path", place / "bert.h5", "--model.path", place / "models/bert", "--augment.lambda", lam, "--augment.prior", prior]
    common += ["--augment.labels", K_LABELS, "--augment.queries", K_QUERIES, "--augment.temperature", TEMPERATURE]
    vixen("predict", *common, "--predict.k", len(LABELS), "--out", tmp_path / "p.h5", ranks=ranks)
    with h5py.File(tmp_path / "p.h5") as file:
        ids, scores = file["/indices"][:], file["/scores"][:]
    assert np.all(np.diff(np.where(ids >= 0, scores, -1), axis=1) <= 0), "the best come first"
    for row in range(len(queries)):
        found = ids[row][ids[row] >= 0]
        assert set(found) == set(np.flatnonzero(expected[row])), "all labels that a list reaches, and no others"
        np.testing.assert_allclose(scores[row][: len(found)], expected[row][found], atol=1e-6)


def test_a_run_keeps_its_training_queries(train, place, tmp_path):  # noqa: F811
    run = train("bert")
    with h5py.File(run.folder / "model/query_embeddings.h5") as file:
        bank = file["embeddings"][:]
        assert bank.dtype == np.float16
    fresh = ["--embed.side", "queries", "--data.split", "train", "--embed.dtype", "fp32", "--out", tmp_path / "t.h5"]
    vixen("embed", "--run.dir", run.folder, *fresh)
    with h5py.File(tmp_path / "t.h5") as file:
        np.testing.assert_allclose(bank, file["embeddings"][:], atol=6e-4)

    def predict(ranks: int, *more) -> tuple[str, np.ndarray, np.ndarray]:
        settings = ["--augment.lambda", 0.4, "--predict.k", 5, "--out", tmp_path / "p.h5"]
        said = vixen("predict", "--run.dir", run.folder, *settings, *more, ranks=ranks)
        with h5py.File(tmp_path / "p.h5") as file:
            return said, file["/indices"][:], file["/scores"][:]

    said, ids, scores = predict(0)
    assert "training queries are encoded" not in said
    said, again, same = predict(3)
    np.testing.assert_array_equal(ids, again)
    np.testing.assert_allclose(scores, same, atol=1e-6)  # the queries that ask are encoded by as many threads as there are
    (run.folder / "model/query_embeddings.h5").rename(tmp_path / "moved.h5")
    said, encoded, near = predict(0)
    assert "training queries are encoded: the run has kept none" in said
    np.testing.assert_allclose(scores, near, atol=2e-3)
    assert np.mean(ids == encoded) > 0.9, "float16 rows change scores by their rounding"
    with h5py.File(tmp_path / "moved.h5", "a") as file:
        file.attrs["data_content"] = "of another data set"
    (tmp_path / "moved.h5").rename(run.folder / "model/query_embeddings.h5")
    assert "training queries are encoded: its training queries are others" in predict(0)[0]
    assert not (train("bert", "--run.query_bank", "false").folder / "model/query_embeddings.h5").exists()


def test_bad_settings_are_one_line(place, tmp_path):  # noqa: F811
    common = ["predict", "--data.path", place / "bert.h5", "--model.path", place / "models/bert", "--out", tmp_path / "p.h5"]
    assert "augment.lambda = 1.5: expected a number in [0, 1]" in mistake(*common, "--augment.lambda", 1.5)
    assert "augment.temperature" in mistake(*common, "--augment.temperature", 0)
    assert "augment.queries" in mistake(*common, "--augment.queries", 0)
    assert "--augment.lambda" in mistake("train", "--augment.lambda", 0.1)
