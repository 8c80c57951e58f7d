"""baselines.py and its metrics: against definitions written out row by row, and on a data set whose answer is known."""

from __future__ import annotations

import json
import math

import h5py
import numpy as np
import pytest
from conftest import query, write_lines

pytest.importorskip("sklearn")


def slow_metrics(predicted, truth, weights) -> dict[str, float]:
    """The definitions of the field, one row at a time."""
    out = {}
    n = len(truth)
    discount = [1 / math.log2(i + 2) for i in range(200)]
    for k in (1, 2, 3, 4, 5):
        precision, ndcg, gain, best, dcg_gain, dcg_best = [], [], 0.0, 0.0, 0.0, 0.0
        for row, true in zip(predicted, truth, strict=True):
            hits = [i for i, label in enumerate(row[:k]) if label in true]
            precision.append(len(hits) / k)
            ideal = sum(discount[: min(k, len(true))])
            ndcg.append(sum(discount[i] for i in hits) / ideal if true else 0.0)
            heaviest = sorted((weights[label] for label in true), reverse=True)[:k]
            gain += sum(weights[row[i]] for i in hits)
            best += sum(heaviest)
            if true:
                dcg_gain += sum(weights[row[i]] * discount[i] for i in hits) / ideal
                dcg_best += sum(w * d for w, d in zip(heaviest, discount, strict=False)) / ideal
        out[f"P@{k}"], out[f"nDCG@{k}"] = sum(precision) / n, sum(ndcg) / n
        out[f"PSP@{k}"], out[f"PSnDCG@{k}"] = gain / best, dcg_gain / dcg_best
    for k in (1, 2, 3, 4, 5, 10, 100):
        out[f"R@{k}"] = sum(len(set(row[:k]) & true) / len(true) for row, true in zip(predicted, truth, strict=True) if true) / n
    ranks = [[i for i, label in enumerate(row) if label in true] for row, true in zip(predicted, truth, strict=True)]
    out["MRR"] = sum(1 / (found[0] + 1) for found in ranks if found) / n
    averages = [sum((j + 1) / (i + 1) for j, i in enumerate(found)) / len(true) for found, true in zip(ranks, truth, strict=True) if true]
    out["MAP"] = sum(averages) / n
    return {key: 100 * value for key, value in out.items()}


@pytest.mark.parametrize("width", [3, 12])
def test_metrics(width):
    from vixen_tools.metrics import inverse_propensity, ranking_metrics

    generator = np.random.default_rng(0)
    labels, n = 30, 50
    truth = [set(generator.choice(labels, generator.integers(0, 9), replace=False).tolist()) for _ in range(n)]
    predicted = np.stack([generator.permutation(labels)[:width] for _ in range(n)])
    predicted[3, 1:] = -1  # a list that ends early
    weights = inverse_propensity(generator.integers(0, 40, labels), 500, 0.55, 1.5)
    offsets = np.cumsum([0, *map(len, truth)])
    values = np.array([label for true in truth for label in sorted(true)])
    found = ranking_metrics(predicted, offsets, values, weights)
    expected = slow_metrics(predicted.tolist(), truth, weights)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-9), key


def test_inverse_propensity():
    from vixen_tools.metrics import inverse_propensity

    expected = 1 + (math.log(1000) - 1) * (1.5 + 1) ** 0.55 * (7 + 1.5) ** -0.55
    assert inverse_propensity(np.array([7]), 1000, 0.55, 1.5)[0] == pytest.approx(expected, rel=1e-12)


def test_top_k_breaks_ties_by_index():
    from vixen_tools.ranking_file import top_k

    indices, scores = top_k(np.array([[1, 3, 3, 0, 3], [0, 0, 0, 0, 0]], np.float32), 3)
    assert indices.tolist() == [[1, 2, 4], [0, 1, 2]] and scores.tolist() == [[3, 3, 3], [0, 0, 0]]


def test_predictions(tools, raw, model, tmp_path):
    write_lines(raw / "trn.json.gz", [query("red car", [0]), query("big house", [1]), query("green tree", [2]), query("blue tree", [2])])
    write_lines(raw / "tst.jsonl", [query("left tree", [2]), query("red big car", [0])])
    write_lines(raw / "lbl.json", [{"title": "car"}, {"title": "house"}, {"title": "tree"}])
    (raw / "filter_labels_test.txt").write_text("1 1\n")
    tools.run("prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "data.h5")
    result = tools.run(
        "baselines.py",
        "--data",
        tmp_path / "data.h5",
        "--method",
        "all",
        "--neighbours",
        2,
        "--out",
        tmp_path / "p.h5",
        "--metrics",
        tmp_path / "m.json",
    )
    with h5py.File(tmp_path / "p.h5") as file:
        indices, scores = file["indices"][:], file["scores"][:]
        assert indices.dtype == np.int64 and scores.dtype == np.float32 and file["indices"].chunks is None
        metrics = json.loads((tmp_path / "m.json").read_text())
        assert file.attrs["created_by"] == metrics["created_by"] == "baselines.py 0.1.0"
    assert indices[:, 0].tolist() == [2, 0]
    assert indices[1].tolist() == [0, 2, -1]  # the filtered label is gone, the list ends
    assert (np.diff(scores, axis=1) <= 0).all()
    assert metrics["TF-IDF combined"]["P@1"] == 100 and metrics["TF-IDF neighbours"]["P@1"] == 100
    assert "| TF-IDF combined" in result.stdout

    def fails() -> str:
        return tools.fails("baselines.py", "--data", tmp_path / "data.h5")

    for name, place, value, expected in (
        ("train/labels/values", 0, 3, "/train/labels/values holds label 3, expected 0..2"),
        ("test/filter/values", 0, -1, "/test/filter/values holds label -1, expected 0..2"),
        ("test/labels/offsets", 1, 9, "/test/labels/offsets do not divide the 2 values"),
        ("label/texts/values", 0, 255, "/label/texts/values: not UTF-8 text: 'utf-8' codec can't decode byte 0xff"),
    ):
        with h5py.File(tmp_path / "data.h5", "r+") as file:
            kept, file[name][place] = file[name][place], value
        assert f"data.h5: {expected}" in fails()
        with h5py.File(tmp_path / "data.h5", "r+") as file:
            file[name][place] = kept
    (tmp_path / "data.h5").write_bytes(b"nothing")
    assert "data.h5: not a readable HDF5 file" in fails()


def test_texts_without_a_word(tools, raw, model, tmp_path):
    for name in ("trn.json.gz", "tst.jsonl", "lbl.json"):
        write_lines(raw / name, [query("!?", [0])])
    (raw / "filter_labels_test.txt").write_text("")
    tools.run("prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "data.h5")
    assert "data.h5: empty vocabulary" in tools.fails("baselines.py", "--data", tmp_path / "data.h5")


def test_arguments_that_no_array_takes(tools, tmp_path):
    for option, value in (
        ("--k", 10**30),
        ("--batch", "1.5"),
        ("--neighbours", "x"),
        ("--label-weight", "nan"),
        ("--label-weight", "1e999"),
    ):
        result = tools.run("baselines.py", "--data", tmp_path / "data.h5", option, value, code=2)
        assert result.stderr.splitlines()[-1].startswith(f"baselines.py: error: argument {option}: ") and "Traceback" not in result.stderr
    assert "--neighbours, --k and --batch: expected at least 1" in tools.fails("baselines.py", "--data", tmp_path / "data.h5", "--k", "0")
