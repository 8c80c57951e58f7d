"""search.method of search, evaluate, predict and train: every index answers, and what an approximate one misses is said."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import TinyRun

APPROXIMATE = ["faiss_ivf_pq", "faiss_hnsw"]
METHODS = ["exact", "faiss_flat", *APPROXIMATE]
RECALL = re.compile(r"recall of the exact top (\d+): (\d+\.\d\d)% \((\d+) of (\d+) queries compared\)")


def unit_rows(count: int, width: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def save(path: Path, rows: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["embeddings"] = rows
    return path


def found_ids(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["indices"][()]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ranks", [0, 2])
def test_search(tiny: TinyRun, tmp_path: Path, method: str, ranks: int) -> None:
    corpus = save(tmp_path / "corpus.h5", unit_rows(3000, 24, 1))
    queries = save(tmp_path / "queries.h5", unit_rows(1200, 24, 2))
    done = tiny.run(
        "search",
        "--search.corpus",
        corpus,
        "--search.queries",
        queries,
        "--search.k",
        10,
        "--search.method",
        method,
        "--out",
        tmp_path / "found.h5",
        "--run.log_level",
        "debug",
        ranks=ranks,
    )
    assert done.returncode == 0, done.stderr
    report = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert report["method"] == method and report["index_bytes"] > 3000 * 24 and report["build_seconds"] >= 0
    ids = found_ids(tmp_path / "found.h5")
    truth = np.argsort(-(unit_rows(1200, 24, 2).astype(np.float64) @ unit_rows(3000, 24, 1).T.astype(np.float64)), axis=1)[:, :10]
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids, truth, strict=True)])
    line = RECALL.search(done.stderr)
    if method in APPROXIMATE:
        # Measured by the command on 1,000 of the queries, here on all of them.
        assert line and line.groups()[0] == "10" and line.groups()[2:] == ("1000", "1200")
        assert report["recall"] == pytest.approx(share, abs=0.01) and float(line.group(2)) == pytest.approx(
            100 * report["recall"], abs=0.01
        )
        assert 0.5 < share <= 1 and f"{float(line.group(2)):.2f}% of the exact answer" in done.stdout
    else:
        assert share == 1 and line is None and "recall" not in report


@pytest.mark.parametrize("method", METHODS)
def test_evaluate_and_predict(tiny: TinyRun, tmp_path: Path, method: str) -> None:
    common = ["--data.path", tiny.data, "--model.path", tiny.model, "--threads", 1]
    metrics = {}
    for name in ("exact", method):
        done = tiny.run("evaluate", *common, "--search.method", name, "--out", tmp_path / f"{name}.json")
        assert done.returncode == 0, done.stderr
        metrics[name] = json.loads((tmp_path / f"{name}.json").read_text())
        assert bool(RECALL.search(done.stderr)) == (name in APPROXIMATE)
    measured = {key for key in metrics[method] if key.startswith("search_")}
    assert measured == (
        {"search_recall", "search_recall_queries", "search_index_bytes", "search_build_seconds"} if method in APPROXIMATE else set()
    )
    # Forty labels: every index sees them all, so that the answer is the exact one, and the recall says so.
    same = {key: value for key, value in metrics[method].items() if key not in measured | {"seconds"}}
    assert same == {key: value for key, value in metrics["exact"].items() if key != "seconds"}
    if method in APPROXIMATE:
        assert metrics[method]["search_recall"] == 100

    done = tiny.run("predict", *common, "--search.method", method, "--predict.k", 4, "--out", tmp_path / "found.h5")
    assert done.returncode == 0 and bool(RECALL.search(done.stderr)) == (method in APPROXIMATE), done.stderr
    assert tiny.run("predict", *common, "--predict.k", 4, "--out", tmp_path / "expected.h5").returncode == 0
    assert (found_ids(tmp_path / "found.h5") == found_ids(tmp_path / "expected.h5")).all()
    with h5py.File(tmp_path / "found.h5") as file:
        assert file.attrs.get("search_method", "") == (method if method in APPROXIMATE else "")


def test_evaluation_in_training(tiny: TinyRun, tmp_path: Path) -> None:
    options = tiny.train_options(tmp_path / "run", **{"train.epochs": 2, "train.evaluate_every_epochs": 1, "search.method": "faiss_hnsw"})
    done = tiny.run("train", *options)
    assert done.returncode == 0, done.stderr
    assert len(RECALL.findall(done.stderr)) == 2
    assert json.loads((tmp_path / "run/metrics.json").read_text())["search_recall"] == 100


def test_settings_that_no_index_can_have(tiny: TinyRun, tmp_path: Path) -> None:
    rows = save(tmp_path / "rows.h5", unit_rows(1500, 16, 3))
    done = tiny.run(
        "search",
        "--search.corpus",
        rows,
        "--search.queries",
        rows,
        "--search.method",
        "faiss_ivf_pq",
        "--search.pq_bytes",
        17,
        "--out",
        tmp_path / "found.h5",
        ranks=2,
    )
    assert done.returncode == 2
    assert "search.pq_bytes = 17: labels are 16 wide; expected at most that" in done.stderr
    done = tiny.run(
        "search", "--search.corpus", rows, "--search.queries", rows, "--search.method", "faiss_ivf", "--out", tmp_path / "found.h5"
    )
    assert done.returncode == 2
    assert (
        "search.method = faiss_ivf: expected one of exact, faiss_flat, faiss_ivf_pq, faiss_hnsw (did you mean faiss_ivf_pq?)" in done.stderr
    )


@pytest.mark.parametrize("cosine", ["true", "false"])
@pytest.mark.parametrize("ranks", [0, 2])
def test_float16_rows_answer_like_the_same_rows_in_float32(tiny: TinyRun, tmp_path: Path, cosine: str, ranks: int) -> None:
    """They stay float16 in memory; with cosine, each is divided by its length where it is used."""
    lengths = 10.0 ** np.random.default_rng(3).uniform(-3, 3, (2500, 1))
    rows = (unit_rows(2500, 40, 1) * lengths).astype(np.float16)
    rows[7] = 0
    queries = save(tmp_path / "queries.h5", unit_rows(300, 40, 2))
    answers = []
    for dtype in (np.float32, np.float16):
        corpus = save(tmp_path / f"{np.dtype(dtype).name}.h5", rows.astype(dtype))
        for method, prefilter in [("exact", "fp32"), ("exact", "bf16"), ("exact", "int8"), ("faiss_flat", "auto")]:
            out = tmp_path / "found.h5"
            words = ["--search.corpus", corpus, "--search.queries", queries, "--search.k", 12, "--search.cosine", cosine, "--out", out]
            done = tiny.run("search", *words, "--search.method", method, "--search.prefilter", prefilter, ranks=ranks)
            assert done.returncode == 0, done.stderr
            with h5py.File(out) as file:
                answers.append((file["indices"][()], file["scores"][()]))
    for ids, scores in answers[1:]:
        np.testing.assert_array_equal(ids, answers[0][0])
        np.testing.assert_array_equal(scores, answers[0][1])
