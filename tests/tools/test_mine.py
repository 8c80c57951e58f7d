"""`vixen mine` against a rendering of its rules in NumPy, which shares nothing with it but the embeddings that `vixen embed` writes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_augment import embeddings
from test_export import VIXEN, mistake, place, vixen  # noqa: F401  (place: the fixture)

pytestmark = pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
DEPTH, K, SKIP, MARGIN = 7, 3, 1, 0.02


def rows_of(file: h5py.File, group: str) -> list[list[int]]:
    offsets, values = file[group + "/offsets"][:], file[group + "/values"][:]
    return [values[begin:end].tolist() for begin, end in itertools.pairwise(offsets)]


def expected_lists(place: Path, folder: Path, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # noqa: F811
    queries = embeddings(place, folder / "q.h5", "--data.split", split)
    labels = embeddings(place, folder / "l.h5", "--embed.side", "labels")
    with h5py.File(place / "bert.h5") as file:
        relevant, texts, own = rows_of(file, f"/{split}/labels"), rows_of(file, "/label/tokens"), rows_of(file, f"/{split}/tokens")
    ids, places = np.full((len(queries), K), -1), np.zeros((len(queries), K), int)
    dropped = np.zeros((len(queries), 4), int)
    for row, query in enumerate(queries):
        scores = labels @ query
        limit = scores[relevant[row]].min() - MARGIN
        same = [texts[label] for label in relevant[row]] + [own[row]]
        kept, passed = 0, 0
        for place_found, label in enumerate(np.argsort(-scores, kind="stable")[:DEPTH], 1):
            if label in relevant[row]:
                rule = 0
            elif (passed := passed + 1) <= SKIP:
                rule = 1
            elif texts[label] in same:
                rule = 2
            elif scores[label] > limit:
                rule = 3
            else:
                if kept < K:
                    ids[row, kept], places[row, kept] = label, place_found
                    kept += 1
                continue
            dropped[row, rule] += 1
    return ids, places, dropped


def mine(place: Path, out: Path, *more, ranks: int = 0) -> str:  # noqa: F811
    common = ["--data.path", place / "bert.h5", "--model.path", place / "models/bert", "--mine.k", K, "--mining.depth", DEPTH]
    return vixen("mine", *common, *more, "--out", out, ranks=ranks)


@pytest.mark.parametrize("split", ["train", "test"])
def test_lists_are_what_the_rules_say(place, tmp_path, split):  # noqa: F811
    ids, places, dropped = expected_lists(place, tmp_path, split)
    rules = ["--data.split", split, "--mining.skip_first", SKIP, "--mining.absolute_margin", MARGIN]
    for ranks in (0, 3):
        mine(place, tmp_path / "m.h5", *rules, ranks=ranks)
        with h5py.File(tmp_path / "m.h5") as file:
            np.testing.assert_array_equal(file["/negatives"][:], ids)
            np.testing.assert_array_equal(file["/places"][:], places)
            np.testing.assert_array_equal(file["/dropped"][:], dropped)
            assert np.all(np.isneginf(file["/scores"][:]) == (ids < 0))
    assert dropped.sum(0)[[0, 1, 3]].min() > 0


def test_lines_are_those_of_the_lists(place, tmp_path):  # noqa: F811
    mine(place, tmp_path / "m.h5")
    said = mine(place, tmp_path / "m.jsonl", "--mine.jsonl", "true")
    assert "lines" in said
    mine(place, tmp_path / "w.jsonl", "--mine.jsonl", "true", ranks=3)
    assert (tmp_path / "w.jsonl").read_bytes() == (tmp_path / "m.jsonl").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    raw = [json.loads(line) for line in (place / "raw/tst.json").read_text().splitlines()]
    labels = [json.loads(line)["title"] for line in (place / "raw/lbl.json").read_text().splitlines()]
    with h5py.File(tmp_path / "m.h5") as file:
        ids = file["/negatives"][:]
    expected = [
        {"anchor": query["title"], "positive": labels[label]} | {f"negative_{i + 1}": labels[n] for i, n in enumerate(row)}
        for query, row in zip(raw, ids.tolist(), strict=True)
        if row[-1] >= 0
        for label in query["target_ind"]
    ]
    assert lines == expected
    mine(place, tmp_path / "m.jsonl", "--mine.jsonl", "true")  # our own file may be written again


def test_bad_settings_are_one_line(place, tmp_path):  # noqa: F811
    common = ["mine", "--data.path", place / "bert.h5", "--model.path", place / "models/bert"]
    assert "give --run.dir" in mistake(*common, "--mining.against", "prototypes", "--out", tmp_path / "p.h5")
    assert "is the input" in mistake(*common, "--out", place / "bert.h5")
    foreign = tmp_path / "notes.jsonl"
    foreign.write_text('{"anchor": "mine"}\n')
    mistake(*common, "--mine.jsonl", "true", "--out", foreign)
    assert foreign.read_text() == '{"anchor": "mine"}\n'
