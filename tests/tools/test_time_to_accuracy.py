"""time_to_accuracy.py: plans within budgets, lines that last, and a whole study of a tiny backbone."""

from __future__ import annotations

import json
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

import h5py
import numpy as np
import pytest
from test_export import VIXEN, place  # noqa: F401  (place: the fixture)


def test_epochs_within_a_budget():
    from vixen_tools.budget import Cost

    cost = Cost(setup=5.0, epoch=10.0, last=3.0, steps=40)
    # 97 of 100 seconds, less 8, are 8 epochs and 9 seconds
    assert cost.epochs_within(100) == 8 and cost.epochs_within(18) == 0 and cost.epochs_within(19) == 1 and cost.epochs_within(1) == 0
    slower = cost.measured(8, total=130.0, setup=2.0)
    assert slower == Cost(2.0, (130 - 2 - 3) / 8, 3.0, 40)
    assert slower.epochs_within(130) == 7


def test_mined_columns_are_estimated():
    from vixen_tools.budget import Cost, with_columns

    cost = with_columns(Cost(5.0, 10.0, 3.0, 40), batch=256, columns=256)
    assert cost == Cost(5.0, 10 * 1.5 + 5, 3.0, 40)  # 768 sequences in place of 512


@pytest.mark.parametrize(
    "epochs, steps, expected",
    [(1, 3, (0, 1, 1)), (4, 69, (0, 27, 2)), (6, 69, (0, 41, 3)), (15, 35, (2, 52, 7)), (40, 69, (9, 100, 20))],
)
def test_the_curriculum(epochs, steps, expected):
    from vixen_tools.budget import curriculum

    keys = curriculum(epochs, steps, mining=True)
    assert (keys["cluster.start_epoch"], keys["train.warmup_steps"], keys["cluster.double_at"]) == expected
    assert keys["mining.start_epoch"] == keys["cluster.start_epoch"] and keys["train.epochs"] == epochs
    assert "mining.start_epoch" not in curriculum(epochs, steps, mining=False)


def test_lines_last(tmp_path):
    from vixen_tools.errors import UserError
    from vixen_tools.result_lines import ResultLines

    path = tmp_path / "results.jsonl"
    results = ResultLines(path, "time_to_accuracy.py")
    results.add({"set": "a", "budget": 60})
    results.add({"set": "a", "budget": 120})
    path.write_bytes(path.read_bytes() + b'{"created_by": "time_to_acc')  # killed
    again = ResultLines(path, "time_to_accuracy.py")
    assert len(again.lines) == 2 and again.find(set="a", budget=120) and not again.find(set="a", budget=300)
    again.add({"set": "b"})
    assert [line["set"] for line in ResultLines(path, "time_to_accuracy.py").lines] == ["a", "a", "b"]
    for content, expected in (
        (b"mine\n", "line 1: not JSON"),
        (b'{"a": 1}\n', "line 1 was not written by vixen"),
        (b"mine", "was not made by"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=expected):
            ResultLines(path, "time_to_accuracy.py")
        assert path.read_bytes() == content


def test_deciles_are_counted():
    from vixen_tools.metrics import decile_metrics

    counts = np.array([5, 1, 1, 9, 0])  # rarest first: 4, 1, 2, 0, 3
    predicted = np.array([[3, 0, 1, 2, 4, -1], [3, 1, 0, 2, -1, -1], [0, 3, 1, 2, 4, -1]])
    truth = [[1, 3], [2], [4]]
    rows = decile_metrics(predicted, np.array([0, 2, 3, 4]), np.concatenate(truth), counts)
    assert [(row["least"], row["pairs"], row["R@5"]) for row in rows] == [(0, 1, 100), (1, 1, 100), (1, 1, 100), (5, 0, 0), (9, 1, 100)]
    assert rows[0]["P@5 part"] == pytest.approx(100 / 15)
    cut = decile_metrics(np.array([[3, 0, 2, 4, 0, 1]]), np.array([0, 1]), np.array([1]), counts)
    assert (cut[1]["R@5"], cut[1]["R@100"]) == (0, 100)


def test_the_plot():
    from vixen_tools.line_plot import Panel, render_plot

    panels = [[Panel("a: P@1", {"vixen": [(60, 40.0), (600, 50.0)], "a <b>": [(0, 20.0)]}), Panel("a: R@100", {"vixen": [(60, 70.0)]})]]
    text = render_plot(panels, "accuracy")
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.get("viewBox", "").startswith("0 0 660 ")
    assert len(root.findall(f"{space}polyline")) == 1
    assert {"a <b>", "vixen", "a: P@1"} <= {node.text for node in root.findall(f"{space}text")}
    (line,) = root.findall(f"{space}polyline")
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in line.get("points", "").split())
    assert x1 < x2 and y1 > y2, "later is further right, better is higher"
    assert text.startswith('<svg data-generator="vixen') and "http" not in text.replace("http://www.w3.org/2000/svg", "")


def study(place, out, *more) -> list:  # noqa: F811
    command = [
        "bench/time_to_accuracy.py",
        "--binary",
        VIXEN,
        "--out",
        out,
        "--model",
        place / "models/bert",
        "--set",
        f"tiny={place}/bert.h5",
    ]
    command += ["--budgets", 60, "--layers", 2, 1, "--least-epochs", 2, "--most-epochs", 3, "--threads", 1, "--compute", "fp32"]
    command += ["--mining", "columns=2,depth=6", "--sentence-transformers-lr", "--sentence-transformers-batch", 3]
    options = ["--data.images", "false", "--train.batch_size", 12, "--loss.negatives", 2, "--prototype.free_vectors", 2]
    return [*command, *more, "--", *options]


@pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
def test_a_whole_study(tools, place, tmp_path):  # noqa: F811
    (tmp_path / "rai.json").write_text(
        json.dumps({"chosen": {"settings": {"augment.lambda": 0.3, "augment.labels": 6, "augment.queries": 4, "augment.prior": 0}}})
    )
    reference = [{"name": "another <program>", "seconds": 1.4, "metrics": {"P@1": 58.9, "R@100": 72.4}}]
    (tmp_path / "references.json").write_text(json.dumps(reference))
    more = ["--augment", f"tiny={tmp_path}/rai.json", "--augment-backbone", f"tiny={tmp_path}/rai.json"]
    more += ["--references", f"tiny={tmp_path}/references.json", "--plot", tmp_path / "plot.svg"]
    command = study(place, tmp_path / "out", *more)
    result = tools.run(*command)
    lines = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert [(line["system"], line["budget"]) for line in lines] == [
        ("backbone", 0),
        ("backbone + RAI", 0),
        ("TF-IDF", 0),
        ("vixen", 60),
        ("vixen + RAI", 60),
        ("vixen, mined", 60),
        ("vixen, mined + RAI", 60),
    ]
    by_name = {line["system"]: line for line in lines}
    for name in ("vixen", "vixen, mined"):
        line = by_name[name]
        assert line["fits"] and line["seconds"]["training"] <= 60 and 0 < line["seconds"]["setup"] < line["seconds"]["training"]
        assert 1 <= line["epochs"] <= 3 and line["layers"] == 2 and line["steps_per_epoch"] == 2
        assert by_name[name + " + RAI"]["epochs"] == line["epochs"] and by_name[name + " + RAI"]["augment"]
        assert len(line["deciles"]) == 8 and sum(row["pairs"] for row in line["deciles"]) == pairs(place)
    assert lines[0]["machine"]["cores"] >= 1 and lines[0]["machine"]["compute"] == "fp32"
    assert not list((tmp_path / "out/tiny").glob("*/epochs-*")), "runs are gone when they are measured"
    assert re.search(r"^\| another <program> \|  \| 1\.4 \|  \| 58\.90 \|  \|  \|  \| 72\.40 \|  \|$", result.stdout, re.M), result.stdout
    ElementTree.parse(tmp_path / "plot.svg")

    before = (tmp_path / "out/results.jsonl").read_bytes()
    again = tools.run(*command)  # nothing is measured twice
    assert (tmp_path / "out/results.jsonl").read_bytes() == before and again.stdout == result.stdout
    # what was killed behind its training is answered from the run that is there; what is missing is done alone
    kept = [line for line in before.splitlines(True) if b'"vixen + RAI"' not in line]
    (tmp_path / "out/results.jsonl").write_bytes(b"".join(kept))
    tools.run(*command)
    added = (tmp_path / "out/results.jsonl").read_bytes().removeprefix(b"".join(kept)).splitlines()
    assert len(added) == 1 and json.loads(added[0])["system"] == "vixen + RAI"
    # another budget, and a system more
    another = ["--budgets", 1, 2, "--mined-budgets", 60, "--sentence-transformers-budgets", 2, "--sentence-transformers-lr", 1e-3]
    tools.run(*study(place, tmp_path / "out", *more, *another))
    lines = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert {line["budget"] for line in lines if "mined" in line["system"]} == {60}
    assert [line["budget"] for line in lines if line["system"].startswith("sentence")] == [2]
    line = lines[-1]
    assert line["system"] == "sentence-transformers, lr 0.001" and line["budget"] == 2 and line["steps"] > 1
    assert 0 < line["seconds"]["training"] < 4 and 0 < line["metrics"]["R@100"] <= 100
    (tmp_path / "rai.json").write_text(json.dumps({"chosen": {"settings": {"augment.lambda": 0.5}}}))
    assert "was answered with" in tools.fails(*command)
    assert "was measured with another settings" in tools.fails(*study(place, tmp_path / "out", *more[4:], "--mining", "columns=3,depth=6"))


FAKE_PECOS = {
    "libpecos-1.2.8.dist-info/METADATA": "Metadata-Version: 2.1\nName: libpecos\nVersion: 1.2.8\n",
    "pecos/__init__.py": "",
    "pecos/xmc/__init__.py": """
class LabelEmbeddingFactory:
    create = staticmethod(lambda truth, rows, method: (truth.shape[1], method))
class Indexer:
    gen = staticmethod(lambda labels, seed, threads: labels)
""",
    # the label of number 1 and the last one are best and equal, each of the others is worth its number; rows stand out of order
    "pecos/xmc/xlinear/__init__.py": "",
    "pecos/xmc/xlinear/model.py": """
import numpy as np
from scipy.sparse import csr_matrix
class XLinearModel:
    @classmethod
    def train(cls, rows, truth, C, threads):
        assert C == (truth.shape[1], "pifa") and rows.shape[0] == truth.shape[0] and rows.has_sorted_indices
        model = cls()
        model.labels = truth.shape[1]
        return model
    def predict(self, rows, beam_size, only_topk, threads):
        n, labels = rows.shape[0], self.labels
        values = np.arange(labels, dtype=np.float32)
        values[[1, labels - 1]] = labels
        best = np.lexsort((np.arange(labels), -values))[:only_topk][::-1]
        return csr_matrix((np.tile(values[best], n), np.tile(best, n), np.arange(n + 1) * len(best)), (n, labels))
""",
}


@pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
def test_pecos_answers_without_filtered_labels(tools, place, tmp_path, monkeypatch):  # noqa: F811
    for name, content in FAKE_PECOS.items():
        (tmp_path / "fake" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fake" / name).write_text(content)
    words = ["bench/pecos_run.py", "--data", tmp_path / "data.h5", "--out", tmp_path / "p.h5", "--k", 4]
    shutil.copy(place / "bert.h5", tmp_path / "data.h5")
    assert "cannot load PECOS (No module named 'pecos'), expected an environment as --help makes it" in tools.fails(*words)
    monkeypatch.syspath_prepend(tmp_path / "fake")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    with h5py.File(tmp_path / "data.h5", "r+") as file:
        labels, rows = (len(file[f"{side}/tokens/offsets"]) - 1 for side in ("label", "test"))
        del file["test/filter/offsets"], file["test/filter/values"]
        file["test/filter/offsets"] = np.minimum(np.arange(rows + 1), 1)
        file["test/filter/values"] = np.array([1], np.int32)
    tools.run(*words)
    with h5py.File(tmp_path / "p.h5") as file:
        found = file["indices"][:].tolist()
    last = labels - 1
    assert found == [[last, last - 1, last - 2, last - 3], *[[1, last, last - 1, last - 2]] * (rows - 1)]

    more = ["--mining", "", "--tf-idf", "no", "--budgets", 3, "--most-epochs", 1, "--pecos", sys.executable]
    said = tools.run(*study(place, tmp_path / "out", *more)).stdout
    (line,) = (line for line in map(json.loads, (tmp_path / "out/results.jsonl").open()) if line["system"].startswith("PECOS"))
    assert line["version"] == "1.2.8" and line["seconds"]["training"] > 0 and "| PECOS XR-Linear |" in said


def pairs(place) -> int:  # noqa: F811
    with h5py.File(place / "bert.h5") as file:
        return len(file["test/labels/values"])


@pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
def test_a_budget_that_holds_no_epoch(tools, place, tmp_path, monkeypatch):  # noqa: F811
    from vixen_tools import timed_run
    from vixen_tools.budget import Cost

    slow = timed_run.Pilot(Cost(10.0, 5.0, 10.0, 2), 12)
    monkeypatch.setattr(timed_run, "pilot", lambda command, run: slow)
    said = tools.run(*study(place, tmp_path / "out", "--mining", "", "--tf-idf", "no", "--budgets", 3)).stdout
    assert "| vixen | 3 |  | does not fit |" in said


@pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
def test_layers_that_turn_out_too_slow(tools, place, tmp_path, monkeypatch):  # noqa: F811
    """What looked like enough epochs is not, once it is measured: a backbone of fewer layers takes the budget, not fewer epochs."""
    from vixen_tools import timed_run
    from vixen_tools.budget import Cost

    real, trained = timed_run.train, []

    def slow(command, run, **more):
        layers = command[command.index("--model.layers") + 1]
        trained.append((layers, command[command.index("--train.epochs") + 1]))
        times = real(command, run, **more)
        return timed_run.Times(times.setup, 500.0) if layers == "2" else times

    monkeypatch.setattr(timed_run, "pilot", lambda command, run: timed_run.Pilot(Cost(5.0, 15.0, 5.0, 2), 12))
    monkeypatch.setattr(timed_run, "train", slow)
    said = tools.run(*study(place, tmp_path / "out", "--mining", "", "--tf-idf", "no")).stdout
    assert [layers for layers, _ in trained[:2]] == ["2", "1"] and "2" not in [layers for layers, _ in trained[1:]]
    assert trained[0] == ("2", "3") and re.search(r"\| vixen \| 60 \| [\d.]+ \| 1 layer, \d epoch", said)


def test_mistakes_are_one_line(tools, tmp_path):
    (tmp_path / "data.h5").write_bytes(b"")
    common = ["bench/time_to_accuracy.py", "--binary", "/bin/false", "--out", tmp_path / "out", "--model", tmp_path / "model"]
    data = ["--set", f"a={tmp_path}/data.h5"]
    for words, expected in (
        (["--set", "data.h5"], "--set data.h5: expected NAME=DATA.h5[,CONFIG.ini...]"),
        ([*data, *data], "--set: two data sets have one name"),
        ([*data, "--augment", "b=x.json"], "--augment b=x.json: expected NAME=FILE.json, the name of a --set"),
        ([*data, "--mining", "depth=5"], "--mining depth=5: expected columns=NUMBER among them"),
        ([*data, "--mining", "columns"], "--mining columns: expected KEY=VALUE,... of section [mining]"),
        ([*data, "--references", f"a={tmp_path}/nothing.json"], "nothing.json: no such file"),
    ):
        assert expected in tools.fails(*common, *words)


def test_batches_hold_no_query_and_no_label_twice():
    from sentence_transformers_run import batches, factor

    class Texts:
        path = "data.h5"
        train = [""] * 6
        train_labels = np.array([0, 2, 4, 6, 8, 9, 10]), np.array([0, 1, 0, 2, 0, 3, 1, 2, 3, 4])

    texts: Any = Texts()
    source = batches(texts, 3, 0)
    seen = set()
    for queries, labels in (next(source) for _ in range(40)):
        assert len(set(queries)) == len(queries) == len(set(labels)) == len(labels) == 3
        for query, label in zip(queries, labels, strict=True):
            offsets, values = Texts.train_labels
            assert label in values[offsets[query] : offsets[query + 1]]
            seen.add((query, label))
    assert len(seen) == 10
    from vixen_tools.errors import UserError

    with pytest.raises(UserError, match="has not 6 pairs without"):
        next(batches(texts, 6, 0))
    assert [factor(share) for share in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0, 0.5, 1, 0.5, 0])
