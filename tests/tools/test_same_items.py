"""prepare_dataset.py --filter-same-uid: test queries that are labels themselves."""

from __future__ import annotations

import json

import h5py
from conftest import query, write_lines
from test_prepare_dataset import rows, texts


def test_queries_that_are_labels_themselves(tools, raw, model, tmp_path):
    """Told by their uid, whatever it is in JSON, by the numbers that rows have before empty ones are dropped; a relevant label stays."""
    uids = ["car", "house", "", "tree", "house", 7]
    titles = ["car", "house", "plant", "tree", "home", ""]
    write_lines(raw / "lbl.json", [{"uid": uid, "title": title} for uid, title in zip(uids, titles, strict=True)])
    lines = [query("house", [1]), {**query("red", [0]), "uid": "7"}, query("", [0]), {**query("big", [0]), "uid": 7}, query("tree", [])]
    lines += [query("car", [0]), {**query("blue", [3]), "uid": "tree", "target_rel": [0.0]}]
    (raw / "tst.jsonl").write_text("\n\n".join(json.dumps(line) for line in lines) + "\n")
    (raw / "filter_labels_test.txt").unlink()
    options = ["--raw", raw, "--model", model, "--out", tmp_path / "data.h5", "--drop-empty"]
    said = tools.run("prepare_dataset.py", *options).stderr
    assert "tst.jsonl: 5 of 7 queries are labels themselves (same uid)" in said and "--filter-same-uid" in said
    with h5py.File(tmp_path / "data.h5") as file:
        assert rows(file, "test/filter") == [[]] * 6

    error = tools.fails("prepare_dataset.py", *options, "--filter-same-uid")
    assert "lbl.json:3: 'uid' is \"\", expected a string or a whole number (--filter-same-uid)" in error
    write_lines(raw / "lbl.json", [{"uid": uid or "plant", "title": title} for uid, title in zip(uids, titles, strict=True)])
    error = tools.fails("prepare_dataset.py", *options, "--filter-same-uid")
    assert "tst.jsonl:5: 'uid' is \"\", expected" in error
    lines[2]["uid"] = "nothing"
    (raw / "tst.jsonl").write_text("\n\n".join(json.dumps(line) for line in lines) + "\n")
    # of "house" label 1 is relevant, 4 is not; label 5 has no text; the line of no text is no row
    expected = [[4], [], [], [3], [], [3]]
    said = tools.run("prepare_dataset.py", *options, "--filter-same-uid").stderr
    assert "labels themselves" not in said and "3 filter pairs" in said
    with h5py.File(tmp_path / "data.h5") as file:
        assert texts(file, "test") == ["house", "red", "big", "tree", "car", "blue"] and rows(file, "test/filter") == expected

    # beside the pairs of a file, without which nothing is said
    (raw / "filter_labels_test.txt").write_text("0 4\n1 0\n")
    assert "labels themselves" not in tools.run("prepare_dataset.py", *options).stderr
    tools.run("prepare_dataset.py", *options, "--filter-same-uid")
    with h5py.File(tmp_path / "data.h5") as file:
        assert rows(file, "test/filter") == [[4], [0], *expected[2:]]
