"""`vixen mine` against a rendering of its rules in NumPy, which shares nothing with it but the embeddings that `vixen embed` writes: lists
of both splits, of another corpus, of a run's prototypes; JSON lines; and what `vixen inspect` says of them."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_export import LABELS, VIXEN, WIDTH, mistake, place, train, vixen  # noqa: F401  (place, train: the fixtures)

pytestmark = pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
DEPTH, K, SKIP, MARGIN = 7, 3, 1, 0.02
RULES = ["--mining.skip_first", SKIP, "--mining.absolute_margin", MARGIN]
COLUMNS = ("negatives", "scores", "ranks", "dropped")


class Files:
    """data.h5: that of the exports with filter pairs; corpus.h5: some of its labels read like those, one reads like a query."""

    def __init__(self, place: Path, folder: Path):  # noqa: F811
        self.model, self.data, self.corpus = place / "models/bert", folder / "data.h5", folder / "corpus.h5"
        shutil.copytree(place / "raw", folder / "raw")
        self.queries = {name: self.lines(folder / f"raw/{name}.json") for name in ("trn", "tst")}
        self.filter = [(row, (3 * row + 1) % len(LABELS)) for row in range(0, 11, 2)]
        (folder / "raw/filter_labels_test.txt").write_text("".join(f"{row} {label}\n" for row, label in self.filter))
        shutil.copytree(place / "raw", folder / "other")
        self.corpus_texts = [*LABELS[::-2], "big car", "blue house", self.queries["trn"][3]["title"], "icon", LABELS[1], "small arrow"]
        rows = [json.dumps({"uid": str(i), "title": text, "content": ""}) + "\n" for i, text in enumerate(self.corpus_texts)]
        (folder / "other/lbl.json").write_text("".join(rows))
        for name in ("trn", "tst"):  # whose labels must be among those of the corpus
            rows = [json.dumps(line | {"target_ind": [0], "target_rel": [1.0]}) + "\n" for line in self.queries[name]]
            (folder / f"other/{name}.json").write_text("".join(rows))
        for raw, out in (("raw", self.data), ("other", self.corpus)):
            tool = [sys.executable, Path(__file__).resolve().parents[2] / "tools/prepare_dataset.py", "--max-length", 10]
            tool += ["--raw", folder / raw, "--images", place / "images.h5", "--model", self.model, "--out", out]
            subprocess.run(list(map(str, tool)), check=True, capture_output=True)

    @staticmethod
    def lines(path: Path) -> list[dict]:
        return [json.loads(line) for line in path.read_text().splitlines()]

    def mine(self, out: Path, *more, ranks: int = 0) -> str:
        common = ["--data.path", self.data, "--mine.k", K, "--mining.depth", DEPTH]
        by = [] if "--run.dir" in more else ["--model.path", self.model]
        return vixen("mine", *common, *by, *more, "--out", out, ranks=ranks)

    def embeddings(self, out: Path, *what) -> np.ndarray:
        by = [] if "--run.dir" in what else ["--model.path", self.model]
        data = [] if "--data.path" in what else ["--data.path", self.data]
        vixen("embed", *data, *by, "--embed.dtype", "fp32", *what, "--out", out)
        with h5py.File(out) as file:
            return file["/embeddings"][:].astype(np.float64)


@pytest.fixture(scope="module")
def files(place, tmp_path_factory) -> Files:  # noqa: F811
    return Files(place, tmp_path_factory.mktemp("mine"))


def rows_of(path: Path, group: str) -> list[list[int]]:
    with h5py.File(path) as file:
        offsets, values = file[group + "/offsets"][:], file[group + "/values"][:]
    return [values[begin:end].tolist() for begin, end in itertools.pairwise(offsets)]


def read(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][:] for name in COLUMNS}


def check_lists(found: dict, scores: np.ndarray, relevant, weakest, same_text, removed=None) -> None:
    """found: of the command. scores [N, L]; relevant, same_text, removed: sets of labels of each query; weakest: scores of positives.
    Queries whose order or limit hangs on the last bits are left out, and are few."""
    scores, sure = np.round(scores, 10), 0  # labels of the same text tie
    for row in range(len(scores)):
        order = [label for label in np.argsort(-scores[row], kind="stable") if removed is None or label not in removed[row]][: DEPTH + 1]
        limit, gaps = weakest[row] - MARGIN, np.abs(np.diff(scores[row][order]))
        if np.any((gaps < 1e-6) & (gaps > 0)) or np.any(np.abs(scores[row][order] - limit) < 1e-6):
            continue
        sure += 1
        ids, ranks, dropped, passed = [], [], [0, 0, 0, 0], 0
        for rank, label in enumerate(order[:DEPTH], 1):
            if label in relevant[row]:
                dropped[0] += 1
            elif (passed := passed + 1) <= SKIP:
                dropped[1] += 1
            elif label in same_text[row]:
                dropped[2] += 1
            elif scores[row][label] > limit:
                dropped[3] += 1
            else:
                ids.append(int(label))
                ranks.append(rank)
        assert found["negatives"][row].tolist() == (ids + [-1] * K)[:K], row
        assert found["ranks"][row].tolist() == (ranks + [0] * K)[:K], row
        assert found["dropped"][row].tolist() == dropped, row
        np.testing.assert_allclose(found["scores"][row][: len(ids)], scores[row][ids][:K], atol=1e-5)
        assert np.all(np.isneginf(found["scores"][row][len(ids) :]))
    assert sure > 0.8 * len(scores) and len(found["negatives"]) == len(scores)
    assert np.all(found["dropped"].sum(0)[[0, 1, 3]] > 0), "every rule is seen"


def same_texts(texts: list[list[int]], of: list[list[list[int]]]) -> list[set[int]]:
    """For each list of token rows the labels that read like one of them."""
    return [{label for label, text in enumerate(texts) if text in rows} for rows in of]


@pytest.mark.parametrize("split", ["train", "test"])
def test_lists_are_what_the_rules_say(files, tmp_path, split):
    queries = files.embeddings(tmp_path / "q.h5", "--data.split", split)
    scores = queries @ files.embeddings(tmp_path / "l.h5", "--embed.side", "labels").T
    relevant, tokens, own = (rows_of(files.data, group) for group in (f"{split}/labels", "label/tokens", f"{split}/tokens"))
    same = same_texts(tokens, [[own[row], *(tokens[label] for label in labels)] for row, labels in enumerate(relevant)])
    removed = [{label for row, label in files.filter if row == query and split == "test"} for query in range(len(queries))]
    weakest = [scores[row][labels].min() for row, labels in enumerate(relevant)]
    for ranks in (0, 3):
        files.mine(tmp_path / "m.h5", *RULES, "--data.split", split, ranks=ranks)
        check_lists(read(tmp_path / "m.h5"), scores, relevant, weakest, same, removed)


@pytest.mark.parametrize("split", ["train", "test"])
def test_lists_of_another_corpus(files, tmp_path, split):
    queries = files.embeddings(tmp_path / "q.h5", "--data.split", split)
    labels = files.embeddings(tmp_path / "l.h5", "--embed.side", "labels")
    scores = queries @ files.embeddings(tmp_path / "c.h5", "--data.path", files.corpus, "--embed.side", "labels").T
    relevant, tokens, own = (rows_of(files.data, group) for group in (f"{split}/labels", "label/tokens", f"{split}/tokens"))
    there = rows_of(files.corpus, "label/tokens")
    twins = same_texts(there, [[tokens[label] for label in row] for row in relevant])
    assert max(map(len, twins)) > 1 and min(map(len, twins)) == 0
    filtered = [[tokens[label] for row, label in files.filter if row == query and split == "test"] for query in range(len(queries))]
    weakest = [(labels[row] @ query).min() for row, query in zip(relevant, queries, strict=True)]
    same = same_texts(there, [[text] for text in own])
    assert split == "test" or any(same)
    files.mine(tmp_path / "m.h5", *RULES, "--data.split", split, "--mine.corpus", files.corpus, ranks=3)
    check_lists(read(tmp_path / "m.h5"), scores, twins, weakest, same, same_texts(there, filtered))
    with h5py.File(tmp_path / "m.h5") as file, h5py.File(files.corpus) as corpus, h5py.File(files.data) as data:
        assert file.attrs["labels_content"] == corpus.attrs["content_label"]
        assert file.attrs["relevant_labels_content"] == data.attrs["content_label"]
        assert file.attrs["queries_content"] == data.attrs[f"content_{split}"]


def test_lists_of_a_runs_prototypes(files, train, tmp_path):  # noqa: F811
    of_run = ["--run.dir", train("bert").folder]
    queries = files.embeddings(tmp_path / "q.h5", *of_run, "--data.split", "train")
    scores = queries @ files.embeddings(tmp_path / "l.h5", *of_run, "--embed.side", "labels", "--embed.prototypes").T
    relevant, tokens, own = (rows_of(files.data, group) for group in ("train/labels", "label/tokens", "train/tokens"))
    same = same_texts(tokens, [[own[row], *(tokens[label] for label in labels)] for row, labels in enumerate(relevant)])
    weakest = [scores[row][labels].min() for row, labels in enumerate(relevant)]
    files.mine(tmp_path / "m.h5", *of_run, *RULES, "--data.split", "train", "--mining.against", "prototypes")
    check_lists(read(tmp_path / "m.h5"), scores, relevant, weakest, same)


def test_all_that_are_left(files, tmp_path):
    files.mine(tmp_path / "some.h5", *RULES)
    vixen("mine", "--data.path", files.data, "--model.path", files.model, "--mining.depth", DEPTH, *RULES, "--mine.k", 0,
          "--out", tmp_path / "all.h5")  # fmt: skip
    some, every = read(tmp_path / "some.h5"), read(tmp_path / "all.h5")
    assert every["negatives"].shape[1] == DEPTH
    for name in ("negatives", "scores", "ranks"):
        np.testing.assert_array_equal(every[name][:, :K], some[name])
    assert np.all((every["negatives"] >= 0).sum(1) + every["dropped"].sum(1) <= DEPTH)


@pytest.mark.parametrize("corpus", [False, True])
@pytest.mark.parametrize("form", ["triplet", "n-tuple"])
def test_lines_are_those_of_the_lists(files, tmp_path, form, corpus):
    more = [*RULES, "--data.split", "train", *(["--mine.corpus", files.corpus] if corpus else [])]
    files.mine(tmp_path / "m.h5", *more)
    ids = read(tmp_path / "m.h5")["negatives"]
    negatives = files.corpus_texts if corpus else LABELS
    expected, of_first, left_out = [], [], 0
    for query, row in zip(files.queries["trn"], ids.tolist(), strict=True):
        kept = [negatives[label] for label in row if label >= 0]
        if len(kept) < (K if form == "n-tuple" else 1):
            left_out += 1
            continue
        tails = [{f"negative_{i}": text for i, text in enumerate(kept, 1)}] if form == "n-tuple" else [{"negative": text} for text in kept]
        lines = [{"anchor": query["title"], "positive": LABELS[label]} | tail for label in query["target_ind"] for tail in tails]
        expected += lines
        of_first += lines[: len(tails)]
    assert len(of_first) < len(expected) and (left_out or form == "triplet"), "queries of several labels, and with fewer negatives"
    for ranks in (0, 3):  # our own file may be written again
        said = files.mine(tmp_path / "m.jsonl", *more, "--mine.format", form, ranks=ranks)
        assert f"{len(expected)} lines; left out: {left_out} queries" in said
        assert files.lines(tmp_path / "m.jsonl") == expected
    text = (tmp_path / "m.jsonl").read_text()
    assert {tuple(line) for line in expected} == {tuple(expected[0])}, "a table, as datasets reads it"
    shown = subprocess.run([VIXEN, "inspect", tmp_path / "m.jsonl"], capture_output=True, text=True)
    assert shown.returncode == 0 and f"{len(expected)} lines of {', '.join(expected[0])}" in shown.stdout, shown.stderr
    for damage in (text.replace('"positive"', '"negative_9"', 1), text + '{"anchor": "x"}\n', text.partition("\n")[2], text[:-9]):
        (tmp_path / "m.jsonl").write_text(damage)
        assert "damaged" in mistake("inspect", tmp_path / "m.jsonl")
    files.mine(tmp_path / "m.jsonl", *more, "--mine.format", form, "--mine.positives", "first")
    assert files.lines(tmp_path / "m.jsonl") == of_first


def test_what_inspect_says(files, tmp_path):
    out = tmp_path / "m.h5"
    files.mine(out, *RULES, "--data.split", "train")
    found = read(out)
    with h5py.File(out) as file:
        counts = json.loads(file.attrs["labels_found"])
        assert file.attrs["created_by"].startswith("vixen mine ") and "mining.depth = 7\n" in file.attrs["settings"]
    assert [counts[rule] for rule in ("relevant", "skipped", "same_text", "margin")] == found["dropped"].sum(0).tolist()
    assert sum(counts.values()) - counts["queries"] == DEPTH * len(found["negatives"])
    shown = subprocess.run([VIXEN, "inspect", out], capture_output=True, text=True).stdout
    full = (found["negatives"] >= 0).sum(1)
    for line in ("mined negatives", "made by vixen mine", "queries_content", "mining.absolute_margin = 0.02", "/ranks",
                 f"with all {K} negatives {np.sum(full == K)} ", f"with none {np.sum(full == 0)} "):  # fmt: skip
        assert line in shown, shown
    margin = next(line.split() for line in shown.splitlines() if "within the margin" in line)
    share = 100 * counts["margin"] / (DEPTH * len(full))
    assert margin[3:5] == [str(counts["margin"]), f"{share:.1f}%"]

    def damage(change, *words: str) -> None:
        shutil.copy(out, tmp_path / "damaged.h5")
        with h5py.File(tmp_path / "damaged.h5", "r+") as file:
            change(file)
        said = mistake("inspect", tmp_path / "damaged.h5")
        assert all(word in said for word in ("damaged", *words)), said

    def fill(name: str, row: int, value):
        return lambda file: file[name].__setitem__(row, value)

    damage(fill("dropped", 2, 5), "labels_found")
    damage(fill("negatives", 5, [-1, 2, 3]), "query 5")
    damage(fill("scores", 4, [0.1, 0.2, 0.3]), "query 4")
    damage(fill("ranks", 3, [2, 1, 0]), "query 3")
    damage(lambda file: file.attrs.__setitem__("labels_found", '{"queries": 24}'), "labels_found", "kept")


def test_bad_settings_are_one_line(files, tmp_path):
    common = ["mine", "--data.path", files.data, "--model.path", files.model]
    assert "give --run.dir" in mistake(*common, "--mining.against", "prototypes", "--out", tmp_path / "p.h5")
    assert "is the input" in mistake(*common, "--out", files.data)
    assert "expected one of hdf5, triplet, n-tuple" in mistake(*common, "--mine.format", "jsonl", "--out", tmp_path / "p.jsonl")
    foreign = tmp_path / "notes.jsonl"
    foreign.write_text('{"anchor": "mine"}\n')
    mistake(*common, "--mine.format", "triplet", "--out", foreign)
    assert foreign.read_text() == '{"anchor": "mine"}\n'
