"""split_dataset.py: held-out training queries as a data set of its own."""

from __future__ import annotations

import itertools
import os
import subprocess

import h5py
import numpy as np
import pytest
from conftest import query, write_lines

VIXEN = os.environ.get("VIXEN_BINARY", "")
COLOURS, THINGS = ("red", "green", "blue", "big", "small"), ("car", "house", "tree", "icon")


@pytest.fixture
def data(tools, raw, model, tmp_path):
    """20 texts, each of two training queries with other labels and pictures; pictures of the test split alone."""
    from vixen_tools.image_rows import write_images

    texts = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS] * 2
    names = [f"{i:02}.png" for i in range(43)]
    rows = np.arange(len(names) * 2, dtype=np.float16).reshape(-1, 2)
    write_images(tmp_path / "images.h5", names, 2, iter([rows]), "test", 32, "embed_images.py 0.1.0")
    write_lines(raw / "trn.json.gz", [query(text, [i % 3, (i + i // 3) % 3], images=[names[i]]) for i, text in enumerate(texts)])
    write_lines(raw / "tst.jsonl", [query("left", [0], images=["40.png", "41.png"])])
    write_lines(raw / "lbl.json", [{"title": title, "images": ["42.png"] * (title == "car")} for title in ("car", "house", "tree")])
    (raw / "filter_labels_test.txt").unlink()
    command = ["--raw", raw, "--model", model, "--images", tmp_path / "images.h5", "--out", tmp_path / "data.h5", "--prompt", "red car"]
    tools.run("prepare_dataset.py", *command)
    return tmp_path / "data.h5"


def rows(file: h5py.File, name: str) -> list[list[int]]:
    offsets, values = file[name + "/offsets"][:], file[name + "/values"][:]
    return [values[begin:end].tolist() for begin, end in itertools.pairwise(offsets)]


def queries(file: h5py.File, side: str) -> list[tuple]:
    """Everything of each query, pictures as their values."""
    pictures = file["images/embeddings"][:]
    texts, tokens, labels, images = (rows(file, f"{side}/{part}") for part in ("texts", "tokens", "labels", "images"))
    return [
        (bytes(text).decode(), *ids, *truth, *pictures[some].ravel().tolist())
        for text, ids, truth, some in zip(texts, tokens, labels, images, strict=True)
    ]


def test_both_sides_are_the_training_queries(tools, data, tmp_path):
    said = tools.run("split_dataset.py", "--data", data, "--out", tmp_path / "held.h5", "--share", 0.25, "--seed", 3).stderr
    assert "3 labels, 30 train, 10 held out, 41 pictures, 0 filter pairs" in said
    with h5py.File(data) as source, h5py.File(tmp_path / "held.h5") as file:
        train, held = queries(file, "train"), queries(file, "test")
        assert sorted(train + held) == sorted(queries(source, "train"))
        assert train == [row for row in queries(source, "train") if row in train], "the order stays"
        assert not {row[0] for row in train} & {row[0] for row in held}, "equal texts are on one side"
        assert rows(file, "label/texts") == rows(source, "label/texts") and rows(file, "test/filter") == [[]] * 10
        assert rows(file, "prompts/texts") == rows(source, "prompts/texts")
        assert file.attrs["name"] == source.attrs["name"] + ", held out" and file.attrs["max_images"] == 1
        assert file.attrs["held_out_of"] == source.attrs["content_train"] != file.attrs["content_train"]
        assert file.attrs["tokenizer_sha256"] == source.attrs["tokenizer_sha256"]
        label_pictures = file["images/embeddings"][:][np.ravel([ids for ids in rows(file, "label/images") if ids])]
        assert label_pictures.tolist() == [[84, 85]]
    if VIXEN:
        checked = subprocess.run([VIXEN, "inspect", tmp_path / "held.h5"], capture_output=True, text=True)
        assert checked.returncode == 0 and "content hashes" in checked.stdout, checked.stderr


@pytest.mark.parametrize("pairs, itself", [("0 1\n", True), ("0 1\n0 2\n", False), ("0 2\n", False), ("", False)])
def test_items_that_are_labels_themselves(tools, raw, model, tmp_path, pairs, itself):
    """What the test queries filter decides whether held-out queries filter the labels of their text, of which relevant ones stay."""
    texts = ["car", "house", "tree", "car", "green", "house", "red", "blue"]
    write_lines(raw / "trn.json.gz", [query(text, [0, 3] if text == "house" else [3]) for text in texts])
    write_lines(raw / "tst.jsonl", [query("house", [0])])
    write_lines(raw / "lbl.json", [{"title": title} for title in ("car", "house", "tree", "car")])
    (raw / "filter_labels_test.txt").write_text(pairs)
    tools.run("prepare_dataset.py", "--raw", raw, "--model", model, "--out", tmp_path / "data.h5")
    said = tools.run("split_dataset.py", "--data", tmp_path / "data.h5", "--out", tmp_path / "held.h5", "--share", 0.6).stderr
    with h5py.File(tmp_path / "held.h5") as file:
        held = [row[0] for row in queries(file, "test")]
        assert {"car", "house"} <= set(held)
        expected = [{"car": [0], "house": [1], "tree": [2]}.get(text, []) if itself else [] for text in held]
        assert rows(file, "test/filter") == expected and f"{sum(map(len, expected))} filter pairs" in said
        assert file["test/filter/values"].dtype == np.int32
    if VIXEN:
        checked = subprocess.run([VIXEN, "inspect", tmp_path / "held.h5"], capture_output=True, text=True)
        assert checked.returncode == 0 and "content hashes" in checked.stdout, checked.stderr


def test_the_seed_decides(tools, data, tmp_path):
    held = []
    for seed in (0, 0, 1):
        tools.run("split_dataset.py", "--data", data, "--out", tmp_path / "held.h5", "--seed", seed)
        with h5py.File(tmp_path / "held.h5") as file:
            held.append(queries(file, "test"))
    assert held[0] == held[1] != held[2] and len(held[0]) == 4


def test_mistakes_are_one_line(tools, data, tmp_path):
    command = ["split_dataset.py", "--out", tmp_path / "held.h5", "--data"]
    for share, kept in ((0, 0), (1, 40)):
        assert f"--share {share}: keeps {kept} of 40 training queries out" in tools.fails(*command, data, "--share", share)
    assert "no such file" in tools.fails(*command, tmp_path / "nothing.h5")
    with h5py.File(data, "r+") as file:
        file["train/images/values"][0] = 99
    assert "names picture 99 of 43: damaged" in tools.fails(*command, data)
    with h5py.File(data, "r+") as file:
        file["test/filter/offsets"][1] = 1
        del file["test/filter/values"]
        file["test/filter/values"] = np.array([3], np.int32)
    assert "/test/filter/values holds label 3, expected 0..2" in tools.fails(*command, data)
    assert not (tmp_path / "held.h5").exists()
