""" "The same" is judged by content: data sets, base models and adapters that were made anew under the same name are told apart."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from conftest import ROOT, TinyRun
from refusals import assert_refused
from safetensors.numpy import load_file, save_file


def remade(tiny: TinyRun, folder: Path, change) -> Path:
    """The tiny data set made again from rows that `change(trn, tst, lbl)` has altered in place."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    sides = {}
    for stem in ("trn", "tst", "lbl"):
        with gzip.open(tiny.folder / f"raw/{stem}.json.gz", "rt") as file:
            sides[stem] = [json.loads(line) for line in file]
    change(*sides.values())
    for stem, rows in sides.items():
        (raw / f"{stem}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    subprocess.run(
        [
            sys.executable,
            ROOT / "tools/prepare_dataset.py",
            "--raw",
            raw,
            "--model",
            tiny.model,
            "--out",
            folder / "data.h5",
            "--max-length",
            "16",
        ],
        check=True,
        capture_output=True,
    )
    return folder / "data.h5"


def other_order(train, test, label):
    train[0], train[1] = train[1], train[0]


def other_truth(train, test, label):
    for row in train:
        row["target_ind"] = sorted((value + 5) % len(label) for value in row["target_ind"])


def other_label(train, test, label):
    label[3]["title"], label[4]["title"] = label[4]["title"], label[3]["title"]


def other_test(train, test, label):
    test[0], test[1] = test[1], test[0]


CHANGES = {"training queries": [other_order, other_truth], "labels": [other_label], "test queries": [other_test]}


@pytest.mark.parametrize("words, change", [(words, change) for words, changes in CHANGES.items() for change in changes])
def test_resume_on_a_data_set_made_anew(tiny, tmp_path, words, change):
    run = tmp_path / "run"
    options = {"train.epochs": 2, "run.checkpoint_every_steps": 1}
    assert tiny.run("train", *tiny.train_options(run, **options, **{"run.stop_after_steps": 2})).returncode == 75
    other = remade(tiny, tmp_path / "new", change)
    before = (run / "metrics.jsonl").read_bytes(), (run / "config.ini").read_bytes()
    result = tiny.run("train", *tiny.train_options(run, **options, **{"data.path": other}))
    assert_refused(result, f"other {words}", str(other), "--run.dir")
    assert before == ((run / "metrics.jsonl").read_bytes(), (run / "config.ini").read_bytes())
    same = remade(tiny, tmp_path / "same", lambda *sides: None)
    assert tiny.run("train", *tiny.train_options(run, **options, **{"data.path": same})).returncode == 0


def test_inspect_finds_a_data_set_written_to_since(tiny, tmp_path):
    path = tmp_path / "data.h5"
    shutil.copy(tiny.data, path)
    assert "content hashes" in tiny.run("inspect", path).stdout
    with h5py.File(path, "a") as file:
        file["label/texts/values"][0] += 1
    assert_refused(tiny.run("inspect", path), str(path), "content_label", "make it again")


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    assert tiny.run("train", *tiny.train_options(run, **{"train.epochs": 1})).returncode == 0
    return run


def test_a_finished_run_on_other_labels(tiny, finished, tmp_path):
    other = remade(tiny, tmp_path / "new", other_label)
    common = ["--run.dir", finished, "--data.path", other, "--out", tmp_path / "out"]
    assert_refused(tiny.run("evaluate", *common), str(other), "labels")
    assert_refused(tiny.run("predict", *common, "--text"), str(other), "labels")
    assert_refused(tiny.run("export", *common, "--export.format", "faiss"), str(other), "labels")
    assert_refused(tiny.run("embed", *common, "--embed.side", "labels", "--embed.prototypes"), str(other), "labels")
    assert not (tmp_path / "out").exists()


def test_a_finished_run_on_other_queries_is_what_predict_is_for(tiny, finished, tmp_path):
    other = remade(tiny, tmp_path / "new", other_test)
    for command in ("evaluate", "predict"):
        result = tiny.run(command, "--run.dir", finished, "--data.path", other, "--out", tmp_path / f"{command}.out")
        assert result.returncode == 0, result.stderr


def test_predictions_belong_to_their_queries_and_labels(tiny, finished, tmp_path):
    ranked = tmp_path / "ranked.h5"
    assert tiny.run("predict", "--run.dir", finished, "--out", ranked, "--predict.k", 10).returncode == 0
    assert tiny.run("evaluate", "--evaluate.predictions", ranked, "--data.path", tiny.data).returncode == 0
    for words, change in (("test queries", other_test), ("labels", other_label)):
        other = remade(tiny, tmp_path / change.__name__, change)
        assert_refused(tiny.run("evaluate", "--evaluate.predictions", ranked, "--data.path", other), f"other {words}", str(other))
    with h5py.File(ranked, "r+") as file:  # as another program writes them
        for name in list(file.attrs):
            del file.attrs[name]
    assert tiny.run("evaluate", "--evaluate.predictions", ranked, "--data.path", tiny.data).returncode == 0


def changed_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.0.output.dense.weight"] = tensors["encoder.layer.0.output.dense.weight"] * 1.5
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_adapters_on_a_base_that_has_changed(tiny, tmp_path):
    base, run = tmp_path / "base", tmp_path / "run"
    shutil.copytree(tiny.model, base)
    options = {"train.epochs": 1, "lora.rank": 4, "model.path": base}
    assert tiny.run("train", *tiny.train_options(run, **options, **{"run.stop_after_steps": 3})).returncode == 75
    good = (base / "model.safetensors").read_bytes()
    changed_weights(base)
    assert_refused(tiny.run("train", *tiny.train_options(run, **options)), "base model", "model.safetensors", str(base))
    (base / "model.safetensors").write_bytes(good)
    assert tiny.run("train", *tiny.train_options(run, **options)).returncode == 0
    changed_weights(base)
    for command in (
        ["evaluate"],
        ["predict", "--out", tmp_path / "p.h5"],
        ["embed", "--out", tmp_path / "e.h5"],
        ["export", "--export.format", "merged", "--out", tmp_path / "merged"],
    ):
        assert_refused(tiny.run(*command, "--run.dir", run), "another base model", "model.safetensors", str(base))
    (base / "model.safetensors").write_bytes(good)
    assert tiny.run("evaluate", "--run.dir", run).returncode == 0


def test_an_adapter_that_training_began_with_and_that_has_changed(tiny, tmp_path):
    first, run = tmp_path / "first", tmp_path / "run"
    assert tiny.run("train", *tiny.train_options(first, **{"train.epochs": 1, "lora.rank": 4})).returncode == 0
    adapter = tmp_path / "adapter"
    assert tiny.run("export", "--run.dir", first, "--export.format", "peft", "--out", adapter).returncode == 0
    options = {"train.epochs": 1, "lora.adapter": adapter}
    assert tiny.run("train", *tiny.train_options(run, **options, **{"run.stop_after_steps": 3})).returncode == 75
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + 1
    save_file(tensors, adapter / "adapter_model.safetensors")
    assert_refused(tiny.run("train", *tiny.train_options(run, **options)), "another adapter", str(adapter), "--lora.adapter")


def test_a_data_set_of_an_older_version_is_hashed_when_it_is_opened(tiny, finished, tmp_path):
    old = tmp_path / "old.h5"
    shutil.copy(tiny.data, old)
    with h5py.File(old, "r+") as file:
        assert {name for name in file.attrs if name.startswith("content_")} == {
            f"content_{part}" for part in ("train", "test", "label", "images")
        }
        for part in ("train", "test", "label", "images"):
            del file.attrs[f"content_{part}"]
    # The program's own hash of every byte is the one that the tool stored.
    assert tiny.run("predict", "--run.dir", finished, "--data.path", old, "--text", "--out", tmp_path / "p.tsv").returncode == 0
    other = remade(tiny, tmp_path / "new", other_label)
    with h5py.File(other, "r+") as file:
        for part in ("train", "test", "label", "images"):
            del file.attrs[f"content_{part}"]
    assert_refused(tiny.run("predict", "--run.dir", finished, "--data.path", other, "--text", "--out", tmp_path / "q.tsv"), "labels")
