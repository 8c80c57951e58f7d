"""No command writes over what it reads, what a run consists of, or what vixen did not make; what it cannot write it says first."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import TinyRun
from refusals import assert_refused


def digests(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder; links by their target."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() or path.is_symlink()
    }


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory) -> Path:
    """data.h5, model/, a finished run/ of the whole backbone, an adapter run lora/, two matrices, a predictions file."""
    folder = tmp_path_factory.mktemp("outputs")
    shutil.copy(tiny.data, folder / "data.h5")
    shutil.copy(tiny.data, folder / "other.h5")
    shutil.copytree(tiny.model, folder / "model")
    local = TinyRun(folder)
    short = {"train.epochs": 1}
    assert local.run("train", *local.train_options(folder / "run", **short)).returncode == 0
    assert local.run("train", *local.train_options(folder / "lora", **short, **{"lora.rank": 4})).returncode == 0
    random = np.random.default_rng(0)
    for name in ("corpus", "queries"):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["embeddings"] = random.normal(size=(30, 8)).astype(np.float32)
    assert local.run("predict", "--run.dir", folder / "run", "--out", folder / "ranked.h5").returncode == 0
    (folder / "settings.ini").write_text("[train]\nepochs = 1\n")
    return folder


def commands(place: Path) -> dict[str, list]:
    """Every command that takes --out, complete but for it."""
    run, data, model = place / "run", place / "data.h5", place / "model"
    return {
        "embed": ["embed", "--data.path", data, "--model.path", model, "--config", place / "settings.ini"],
        "predict": ["predict", "--run.dir", run, "--data.path", data],
        "predict --text": ["predict", "--run.dir", run, "--text"],
        "mine": ["mine", "--run.dir", run, "--data.path", data, "--mine.corpus", place / "other.h5", "--mine.k", 2],
        "mine lines": ["mine", "--data.path", data, "--model.path", model, "--mine.k", 2, "--mine.format", "triplet"],
        "evaluate": ["evaluate", "--run.dir", run, "--data.path", data],
        "evaluate predictions": ["evaluate", "--evaluate.predictions", place / "ranked.h5", "--data.path", data],
        "search": [
            "search",
            "--search.corpus",
            place / "corpus.h5",
            "--search.queries",
            f"{place}/queries.h5:/embeddings",
            "--search.k",
            2,
        ],
        "plan": ["plan", "--model.path", model, "--data.path", data],
        "bench": ["bench", "--model.path", model, "--data.path", data],
        "export faiss": ["export", "--run.dir", run, "--export.format", "faiss"],
        "export merged": ["export", "--run.dir", place / "lora", "--export.format", "merged"],
        "export peft": ["export", "--run.dir", place / "lora", "--export.format", "peft"],
    }


INPUTS = {
    "embed": ["data.h5", "model/config.json", "model/model.safetensors", "model/tokenizer.json", "settings.ini"],
    "predict": [
        "data.h5",
        "run/config.ini",
        "run/metrics.jsonl",
        "run/model/model.safetensors",
        "run/model/new.h5",
        "run/checkpoints/new.h5",
    ],
    "predict --text": ["data.h5", "run/config.ini", "model/config.json"],
    "mine": ["data.h5", "other.h5", "run/config.ini", "run/model/label_embeddings.h5"],
    "mine lines": ["data.h5", "model/config.json"],
    "evaluate": ["data.h5", "run/model/label_embeddings.h5"],
    "evaluate predictions": ["ranked.h5", "data.h5"],
    "search": ["corpus.h5", "queries.h5"],
    "plan": ["data.h5", "model/config.json"],
    "bench": ["data.h5", "model/tokenizer.json"],
    "export faiss": ["data.h5", "run/model/label_embeddings.h5"],
    "export merged": ["model", "lora", "lora/model", ".", "data.h5"],
    "export peft": ["model", "lora/model"],
}


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_is_never_written_over(tiny, place, name):
    before = digests(place)
    for path in INPUTS[name]:
        assert_refused(tiny.run(*commands(place)[name], "--out", place / path), "--out", path.rstrip("."))
        assert digests(place) == before, path


@pytest.mark.parametrize("name", ["embed", "predict", "mine lines", "evaluate", "search", "plan", "export faiss"])
def test_an_input_by_another_name(tiny, place, tmp_path, name):
    source = "corpus.h5" if name == "search" else "data.h5"
    os.symlink(place / source, tmp_path / "soft.h5")
    os.link(place / source, tmp_path / "hard.h5")
    before = digests(place) | digests(tmp_path)
    for path in (tmp_path / "soft.h5", tmp_path / "hard.h5", place / "run/.." / source):
        assert_refused(tiny.run(*commands(place)[name], "--out", path), str(path))
        assert digests(place) | digests(tmp_path) == before, path


FOREIGN = {"notes.txt": b"mine\n", "thesis.json": b'{"a": 1}', "list.json": b"[1, 2]", "numbers.h5": None, "table.tsv": b"query\tmine\n"}


@pytest.mark.parametrize("name", [name for name in INPUTS if not name.startswith("export") and name != "bench"])
def test_what_vixen_did_not_make_is_refused_before_any_work(tiny, place, tmp_path, name):
    for file, content in FOREIGN.items():
        path = tmp_path / file
        if content is None:
            with h5py.File(path, "w") as hdf5:
                hdf5["indices"] = np.arange(4)
        else:
            path.write_bytes(content)
        before = path.read_bytes()
        result = tiny.run(*commands(place)[name], "--out", path)
        assert_refused(result, str(path), "not made by vixen")
        assert "MRR" not in result.stdout
        assert path.read_bytes() == before


@pytest.mark.parametrize("name", [name for name in INPUTS if name not in ("bench",)])
def test_its_own_output_is_replaced(tiny, place, tmp_path, name):
    for _ in range(2):
        result = tiny.run(*commands(place)[name], "--out", tmp_path / "again")
        assert result.returncode == 0, result.stderr
    leftovers = [path.name for path in tmp_path.iterdir() if "partial" in path.name or ".old" in path.name]
    assert not leftovers


def test_an_empty_file_and_a_link_to_a_free_name(tiny, place, tmp_path):
    (tmp_path / "empty.h5").touch()
    os.symlink(tmp_path / "target.h5", tmp_path / "link.h5")
    for name in ("empty.h5", "link.h5"):
        assert tiny.run(*commands(place)["search"], "--out", tmp_path / name).returncode == 0
    assert (tmp_path / "link.h5").is_symlink() and (tmp_path / "target.h5").stat().st_size > 0


@pytest.mark.parametrize("form", ["merged", "peft"])
def test_a_folder_with_other_things_in_it(tiny, place, tmp_path, form):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("years of work\n")
    command = commands(place)[f"export {form}"]
    assert_refused(tiny.run(*command, "--out", tmp_path / "home"), "home", "not made by vixen")
    assert tiny.run(*command, "--out", tmp_path / "model").returncode == 0
    (tmp_path / "model/notes.txt").write_text("mine\n")
    before = digests(tmp_path)
    assert_refused(tiny.run(*command, "--out", tmp_path / "model"), "notes.txt", "did not write")
    assert digests(tmp_path) == before


def test_an_index_beside_other_files(tiny, place, tmp_path):
    command = commands(place)["export faiss"]
    (tmp_path / "labels.txt").write_text("my own list\n")
    assert tiny.run(*command, "--out", tmp_path / "first.faiss").returncode == 0
    assert tiny.run(*command, "--out", tmp_path / "second.faiss").returncode == 0
    assert (tmp_path / "labels.txt").read_text() == "my own list\n"
    assert len((tmp_path / "first.txt").read_text().splitlines()) == 40
    assert_refused(tiny.run(*command, "--out", tmp_path), "labels.txt", "not made by vixen")
    (tmp_path / "third.txt").write_text("mine\n")
    assert_refused(tiny.run(*command, "--out", tmp_path / "third.faiss"), "third.txt", "not made by vixen")
    assert not (tmp_path / "third.faiss").exists()
    for name in ("a.v1", "a.v2"):  # only .faiss is an ending
        assert tiny.run(*command, "--out", tmp_path / name).returncode == 0
        assert (tmp_path / f"{name}.txt").exists() and (tmp_path / f"{name}.vixen.json").exists()
    assert_refused(tiny.run(*command, "--out", tmp_path / "names.txt"), "names.txt", "NAME.faiss")


@pytest.mark.parametrize("name", [name for name in INPUTS if name != "bench"])
def test_an_output_that_cannot_be_written_is_said_first(tiny, place, tmp_path, name):
    (tmp_path / "file").write_text("x")
    result = tiny.run(*commands(place)[name], "--out", tmp_path / "file/x")
    assert_refused(result, "file")
    assert "MRR" not in result.stdout
    if not name.startswith("export m") and not name.startswith("export p"):
        result = tiny.run(*commands(place)[name], "--out", tmp_path / "no/such/x.h5")
        assert_refused(result, "no/such")
        assert "MRR" not in result.stdout
        assert_refused(tiny.run(*commands(place)[name], "--out", "/dev/null"), "/dev/null", "device")


def test_a_run_folder_that_is_something_else(tiny, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.ini").write_text("[mine]\nkey = value\n")
    before = digests(tmp_path)
    assert_refused(tiny.run("train", *tiny.train_options(home)), "home", "config.ini", "not made by")
    assert digests(tmp_path) == before
    # What training does not write may lie there: a batch system's log, say.
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "job-7.log").write_text("x\n")
    assert tiny.run("train", *tiny.train_options(logs, **{"train.epochs": 1})).returncode == 0
    assert (logs / "job-7.log").read_text() == "x\n"


def test_a_run_folder_that_holds_what_training_reads(tiny, place, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    before = digests(run)
    result = tiny.run("train", *tiny.train_options(run, **{"model.path": run / "model"}))
    assert_refused(result, "--run.dir", "run/model", "--model.path")
    assert_refused(tiny.run("train", *tiny.train_options(tiny.model)), "--run.dir", "model")
    assert digests(run) == before


def test_the_users_own_file_in_the_runs_model_folder(tiny, place, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    (run / "model/notes.txt").write_text("mine\n")
    assert_refused(tiny.run("train", *tiny.train_options(run, **{"train.epochs": 1})), "notes.txt", "did not write")
    assert (run / "model/notes.txt").read_text() == "mine\n"


def test_mistakes_of_options_are_said_before_the_first_step(tiny, tmp_path):
    result = tiny.run("train", *tiny.train_options(tmp_path / "run", **{"train.best_metric": "P@7", "train.evaluate_every_epochs": 1}))
    assert_refused(result, "train.best_metric = P@7", "P@5", "PSP@1")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_said_before_the_pass(tiny, place, small_disk):
    disk = small_disk("200k")
    for name in ("embed", "predict", "mine", "search", "export faiss", "export merged"):
        assert_refused(tiny.run(*commands(place)[name], "--out", disk / "x"), "disk/x", "MB free")
        assert not list(disk.iterdir()), name


def test_metrics_stay_plain_numbers(tiny, place, tmp_path):
    """The interface promises one flat object of numbers: it is known again by that alone."""
    assert tiny.run(*commands(place)["evaluate"], "--out", tmp_path / "m.json").returncode == 0
    assert all(isinstance(value, (int, float)) for value in json.loads((tmp_path / "m.json").read_text()).values())
