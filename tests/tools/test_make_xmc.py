"""tools/bench/make_xmc.py: the same rows whatever the block and the layout, of the shape and the learnability that it promises."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

SIZES = ["--train", 900, "--test", 250, "--labels", 400, "--image-width", 6]
STEMS = ("lbl", "trn", "tst")


@pytest.fixture(scope="module")
def made(tools, tmp_path_factory) -> dict[str, Path]:
    """Both layouts of one set."""
    root = tmp_path_factory.mktemp("made")
    for layout in ("xmc", "official"):
        tools.run("bench/make_xmc.py", *SIZES, "--layout", layout, "--out", root / layout)
    return {layout: root / layout for layout in ("xmc", "official")}


def lines(folder: Path, stem: str) -> list[dict]:
    with gzip.open(folder / f"{stem}.json.gz", "rt") as file:
        return [json.loads(line) for line in file]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("layout", ["xmc", "official"])
def test_the_block_changes_nothing_and_the_seed_all(tools, made, tmp_path, layout):
    tools.run("bench/make_xmc.py", *SIZES, "--layout", layout, "--block-rows", 37, "--out", tmp_path / "blocks")
    assert contents(tmp_path / "blocks") == contents(made[layout])
    tools.run("bench/make_xmc.py", *SIZES, "--layout", layout, "--seed", 1, "--out", tmp_path / "seed")
    same = {name for name, content in contents(tmp_path / "seed").items() if contents(made[layout])[name] == content}
    assert same <= {".vixen.json", *(f"{side}_imgs_384_3_map.npy" for side in ("train", "test", "labels"))}


def test_both_layouts_hold_the_same_rows(made):
    with h5py.File(made["xmc"] / "images.h5") as file:
        pictures = dict(zip((name.decode() for name in file["names"][:]), file["embeddings"][:], strict=True))
    assert len(pictures) == 3 * (900 + 250 + 400)
    for stem, side in (("lbl", "labels"), ("trn", "train"), ("tst", "test")):
        rows, folder = lines(made["xmc"], stem), made["official"]
        assert [row["title"] for row in rows] == (folder / f"{stem}.raw.txt").read_text().splitlines()
        maps = np.load(folder / f"{side}_imgs_384_3_map.npy", allow_pickle=True).tolist()
        assert maps == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(len(rows))]
        embeddings = np.load(folder / f"{stem}_embs_imgs_3_6_made.npy")
        np.testing.assert_array_equal(embeddings, [pictures[name] for row in rows for name in row["images"]])
        if stem != "lbl":
            head, *matrix = (folder / f"{stem}_X_Y.txt").read_text().splitlines()
            assert head == f"{len(rows)} 400"
            assert [[int(entry.partition(":")[0]) for entry in line.split()] for line in matrix] == [row["target_ind"] for row in rows]


def test_labels_follow_a_power_law_and_can_be_told_from_the_text(made):
    train, labels = lines(made["xmc"], "trn"), lines(made["xmc"], "lbl")
    for row in train:
        assert row["target_ind"] == sorted(set(row["target_ind"])) and row["target_ind"] and row["target_ind"][-1] < 400
    frequencies = np.sort(np.bincount([label for row in train for label in row["target_ind"]], minlength=400))
    assert 20 < frequencies.sum() / len(train) < 24
    assert frequencies[-1] > 5 * frequencies[40] > 0  # the most frequent of 400, and one that a tenth is rarer than
    # words that a query and a label share: the label that shares the most is mostly a true one, the mean label is not
    of_labels = [set(row["title"].split()) for row in labels]
    hits = sum(int(np.argmax([len(words & set(row["title"].split())) for words in of_labels])) in row["target_ind"] for row in train[:200])
    assert hits > 90 and np.mean([len(row["target_ind"]) for row in train]) / 400 < 0.07


def test_filter_pairs_name_no_true_label(made):
    test = lines(made["xmc"], "tst")
    pairs = [tuple(map(int, line.split())) for line in (made["xmc"] / "filter_labels_test.txt").read_text().splitlines()]
    assert pairs and all(label not in test[row]["target_ind"] for row, label in pairs)


@pytest.mark.parametrize("labels", [1, 2, 63, 64, 65, 129])
def test_few_labels(tools, model, tmp_path, labels):
    out = tmp_path / "made"
    tools.run("bench/make_xmc.py", "--train", 40, "--test", 1, "--labels", labels, "--images-per-row", 0, "--out", out)
    rows = lines(out, "trn")
    assert all(0 < len(row["target_ind"]) <= labels and max(row["target_ind"]) < labels for row in rows)
    assert not (out / "images.h5").exists() and "images" not in rows[0]
    tools.run("prepare_dataset.py", "--raw", out, "--model", model, "--out", tmp_path / "data.h5")


def test_what_cannot_be_made(tools, tmp_path):
    def fails(*options) -> str:
        return tools.fails("bench/make_xmc.py", *options, "--out", tmp_path / "made")

    assert "--scale 0.0: expected more than 0" in fails("--scale", 0)
    assert "--labels-per-query 0.5: expected 1 to 64" in fails("--labels-per-query", 0.5)
    assert "nothing: no such folder" in fails("--words-from", tmp_path / "nothing")
    assert not (tmp_path / "made").exists()
