"""A user's mistakes: each one line on stderr that names file, key or row, and exit code 2."""

import json
import shutil
import struct

import h5py
import numpy as np
import pytest
from refusals import assert_refused, damaged, emptied_row, with_pictures


def test_missing_data_set(tiny, tmp_path):
    result = tiny.run("train", *tiny.train_options(tmp_path / "run", **{"data.path": "nowhere.h5"}))
    assert_refused(result, "nowhere.h5")


def test_truncated_data_set(tiny, tmp_path):
    path = tmp_path / "short.h5"
    data = tiny.data.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    assert_refused(tiny.run("train", *tiny.train_options(tmp_path / "run", **{"data.path": path})), "short.h5")


def test_wrong_schema_version(tiny, tmp_path):
    path = damaged(tiny.data, tmp_path, lambda file: file.attrs.__setitem__("version", np.int64(7)))
    assert_refused(tiny.run("inspect", path), "damaged.h5", "version", "7")


def test_label_out_of_range(tiny, tmp_path):
    def change(file):
        file["train/labels/values"][5] = 999

    path = damaged(tiny.data, tmp_path, change)
    assert_refused(tiny.run("train", *tiny.train_options(tmp_path / "run", **{"data.path": path})), "labels", "999", "40")


def test_image_row_out_of_range(tiny, tmp_path):
    path = with_pictures(tiny.data, tmp_path / "pictures.h5", np.ones((256, 8)), first_row=1)
    assert_refused(tiny.run("train", *tiny.train_options(tmp_path / "run", **{"data.path": path})), "images", "256")


def test_nan_in_image_embeddings(tiny, tmp_path):
    rows = np.ones((256, 8))
    rows[17, 3] = np.nan
    path = with_pictures(tiny.data, tmp_path / "pictures.h5", rows)
    assert_refused(tiny.run("train", *tiny.train_options(tmp_path / "run", **{"data.path": path})), "images", "17")


def test_nan_in_search(tiny, tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    with h5py.File(tmp_path / "good.h5", "w") as file:
        file["embeddings"] = rows
    rows[31, 2] = np.nan
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file["embeddings"] = rows
    result = tiny.run(
        "search",
        "--search.corpus",
        tmp_path / "bad.h5",
        "--search.queries",
        tmp_path / "good.h5",
        "--search.k",
        5,
        "--out",
        tmp_path / "out.h5",
    )
    assert_refused(result, "bad.h5", "31")
    assert not (tmp_path / "out.h5").exists()


def test_tokenizer_of_another_model(tiny, tmp_path):
    model = tmp_path / "other"
    shutil.copytree(tiny.model, model)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["other"] = True
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert_refused(tiny.run("train", *tiny.train_options(tmp_path / "run", **{"model.path": model})), "tokenizer")


def test_tokens_the_model_does_not_know(tiny, tmp_path):
    def one_more(file):
        file.attrs["vocabulary"] = np.int64(1000)
        file["test/tokens/values"][-1] = 999

    path = damaged(tiny.data, tmp_path, one_more)
    result = tiny.run("train", *tiny.train_options(tmp_path / "run", **{"data.path": path}))
    assert_refused(result, "damaged.h5: test row ", "uses token 999", "has 45 rows (0 to 44)")


def test_unknown_key_names_the_nearest(tiny):
    assert_refused(tiny.run("train", "--train.batchsize", 32), "train.batchsize", "train.batch_size")


def test_unknown_command_names_the_nearest(tiny):
    assert_refused(tiny.run("trian"), "trian", "train")


def test_unknown_key_in_a_file(tiny, tmp_path):
    path = tmp_path / "wrong.ini"
    path.write_text("[train]\nepochs = 3\nlearning = 2\n")
    assert_refused(tiny.run("train", "--config", path), "wrong.ini", "3", "learning")


def test_batch_smaller_than_the_world(tiny, tmp_path):
    result = tiny.run("train", *tiny.train_options(tmp_path / "run", **{"train.batch_size": 1}), ranks=2)
    assert result.returncode == 2, result.stderr
    ours = [line for line in result.stderr.splitlines() if "train.batch_size" in line]
    assert len(ours) == 1 and "2 ranks" in ours[0], result.stderr


def test_training_row_without_labels(tiny, tmp_path):
    path = damaged(tiny.data, tmp_path, emptied_row("train/labels", 5))
    assert_refused(tiny.run("train", *tiny.train_options(tmp_path / "run", **{"data.path": path})), "train/labels", "5")


def test_empty_text(tiny, tmp_path):
    path = damaged(tiny.data, tmp_path, emptied_row("test/tokens", 9))
    assert_refused(tiny.run("train", *tiny.train_options(tmp_path / "run", **{"data.path": path})), "test/tokens", "9")


def test_run_folder_that_cannot_be_made(tiny, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert_refused(tiny.run("train", *tiny.train_options(tmp_path / "file" / "run")), "file/run")


def test_full_disk(tiny, small_disk):
    """Too little room is said before the first pass; of a disk that others fill while training: checkpoint_test.py."""
    disk = small_disk("3m")
    result = tiny.run("train", *tiny.train_options(disk / "run", **{"run.keep_last": 100, "train.epochs": 100}))
    assert_refused(result, "checkpoints and the model", "MB free", str(disk))
    assert not (disk / "run/checkpoints").exists()


def test_configuration_that_contradicts_the_checkpoint(tiny, tmp_path):
    run = tmp_path / "run"
    assert tiny.run("train", *tiny.train_options(run, **{"run.stop_after_steps": 3})).returncode == 75
    before = (run / "config.ini").read_text()
    result = tiny.run("train", *tiny.train_options(run, **{"train.lr": 0.002}))
    assert result.returncode == 2
    assert "train.lr" in result.stderr and "0.002" in result.stderr, result.stderr
    assert (run / "config.ini").read_text() == before


@pytest.mark.parametrize("header", ["too long", "not json", "shape"])
def test_damaged_safetensors(tiny, tmp_path, header):
    model = tmp_path / "model"
    shutil.copytree(tiny.model, model)
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    if header == "too long":
        data[:8] = struct.pack("<Q", 1 << 40)
    elif header == "not json":
        data[8:10] = b"}{"
    else:
        text = bytes(data[8 : 8 + length]).replace(b"[32,32]", b"[32,31]", 1)
        data[8 : 8 + length] = text
    path.write_bytes(data)
    result = tiny.run("train", *tiny.train_options(tmp_path / "run", **{"model.path": model}))
    assert_refused(result, "model.safetensors")


def test_flipped_byte_in_a_checkpoint(tiny, tmp_path):
    run = tmp_path / "run"
    assert tiny.run("train", *tiny.train_options(run, **{"run.stop_after_steps": 3})).returncode == 75
    checkpoint = next((run / "checkpoints").glob("step-????????"))
    for path in sorted(checkpoint.iterdir()):
        good = path.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        path.write_bytes(bad)
        result = tiny.run("train", *tiny.train_options(run))
        assert result.returncode == 2, f"{path.name}: {result.returncode}\n{result.stderr}"
        assert path.name in result.stderr, result.stderr
        path.write_bytes(good)
    assert tiny.run("train", *tiny.train_options(run)).returncode == 0
