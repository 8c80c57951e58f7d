"""An import that is killed goes on where it stood, and ends with the bytes of one that never was; nothing stays beside the data set."""

from __future__ import annotations

import fcntl
import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from conftest import TOOLS

# ends the process at the n-th call of a function, with blocks of a few rows that are saved one by one
KILLER = """
import importlib, os, runpy, sys
tools, place, count, number, *command = sys.argv[1:]
sys.path.insert(0, tools)
from vixen_tools import dataset_builder
dataset_builder.BATCH_ROWS, dataset_builder.SAVE_SECONDS = 40, 0.0
module, _, names = place.partition(":")
owner = importlib.import_module("vixen_tools." + module)
*path, name = names.split(".")
for part in path:
    owner = getattr(owner, part)
function, calls = getattr(owner, name), 0
def call(*arguments, **more):
    global calls
    calls += 1
    if calls == int(count):
        os.kill(os.getpid(), int(number))
    return function(*arguments, **more)
setattr(owner, name, call)
sys.argv = command
runpy.run_path(command[0], run_name="__main__")
"""
# 200 labels are 5 blocks, 300 training rows 8, 120 test rows 3
PLACES = [
    ("dataset_builder:DatasetBuilder._store", 1, None),
    ("dataset_builder:DatasetBuilder._store", 4, "lbl"),
    ("dataset_builder:DatasetBuilder._store", 6, None),
    ("dataset_builder:DatasetBuilder._store", 10, "trn"),
    ("dataset_builder:DatasetBuilder._store", 15, "tst"),
    ("ragged:RaggedSpool.append", 33, "trn"),
    ("partial_work:os.replace", 8, "trn"),
    ("partial_work:sync", 8, "trn"),
    ("dataset_builder:write_contiguous", 12, None),
    ("dataset_builder:publish", 1, None),
]


@pytest.fixture(scope="module")
def made(tools, tmp_path_factory) -> Path:
    """Both layouts of a made set; in one some rows have no text, in the other rows and lines are counted apart."""
    root = tmp_path_factory.mktemp("made")
    sizes = ["--train", 300, "--test", 120, "--labels", 200, "--image-width", 8]
    for layout in ("xmc", "official"):
        tools.run("bench/make_xmc.py", *sizes, "--layout", layout, "--out", root / layout)
    for stem in ("lbl", "trn", "tst"):
        path = root / "official" / f"{stem}.raw.txt"
        path.write_text("".join("\n" if i % 7 == 3 else line for i, line in enumerate(path.read_text().splitlines(keepends=True))))
        path = root / "xmc" / f"{stem}.json.gz"
        rows = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
        rows.insert(50, b"\n")  # a blank line is no row
        path.write_bytes(gzip.compress(b"".join(rows)))
    return root


def arguments(tool: str, made: Path, model: Path) -> list:
    if tool == "import_official.py":
        return ["--dir", made / "official", "--model", model, "--drop-empty"]
    return ["--raw", made / "xmc", "--images", made / "xmc/images.h5", "--model", model]


def start(place: str, count: int, tool: str, options: list, out: Path, number: int = signal.SIGKILL) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", KILLER, TOOLS, place, count, int(number), TOOLS / tool, *options, "--out", out]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def whole(tools, made, model) -> dict[str, bytes]:
    """What each tool makes of the set when nothing stops it."""
    out = {}
    for tool in ("prepare_dataset.py", "import_official.py"):
        tools.run(tool, *arguments(tool, made, model), "--out", made / "whole.h5")
        out[tool] = (made / "whole.h5").read_bytes()
        (made / "whole.h5").unlink()
    return out


@pytest.mark.parametrize(
    "tool, place, count, stem",
    [*(("import_official.py", *place) for place in PLACES), *(("prepare_dataset.py", *PLACES[i]) for i in (1, 3, 4, 8))],
)
def test_killed_and_gone_on_with(tools, made, model, whole, tmp_path, tool, place, count, stem):
    out = tmp_path / "data.h5"
    out.write_bytes(whole["prepare_dataset.py"])  # an older data set stands until the new one is whole
    options = arguments(tool, made, model)
    killed = start(place, count, tool, options, out)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert out.read_bytes() == whole["prepare_dataset.py"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".data.h5.partial", "data.h5"]
    result = tools.run(tool, *options, "--out", out)
    assert out.read_bytes() == whole[tool]
    assert [path.name for path in tmp_path.iterdir()] == ["data.h5"]
    gone_on = [line for line in result.stderr.splitlines() if "going on after" in line]
    assert len(gone_on) == (stem is not None) and (not stem or f"{stem}." in gone_on[0]), result.stderr
    if stem is None and count > 5:  # whole sides were done
        assert "lbl.json.gz: tokenised" not in result.stderr and "lbl.raw.txt: tokenised" not in result.stderr


def test_killed_many_times(tools, made, model, whole, tmp_path):
    out, options = tmp_path / "data.h5", arguments("import_official.py", made, model)
    for _ in range(30):
        result = start("dataset_builder:DatasetBuilder._store", 3, "import_official.py", options, out)
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL
    assert result.returncode == 0 and out.read_bytes() == whole["import_official.py"]


def test_interrupted_and_gone_on_with(tools, made, model, whole, tmp_path):
    out, options = tmp_path / "data.h5", arguments("prepare_dataset.py", made, model)
    stopped = start("dataset_builder:DatasetBuilder._store", 9, "prepare_dataset.py", options, out, signal.SIGINT)
    assert stopped.returncode == 130, stopped.stderr
    assert f"{out}: what is done is kept in .data.h5.partial beside it, the same command goes on from there" in stopped.stderr
    assert "trn.json.gz: going on after" in tools.run("prepare_dataset.py", *options, "--out", out).stderr
    assert out.read_bytes() == whole["prepare_dataset.py"]


def kill_in_train(made, model, out: Path) -> list:
    options = arguments("import_official.py", made, model)
    assert start("dataset_builder:DatasetBuilder._store", 10, "import_official.py", options, out).returncode == -signal.SIGKILL
    return [*options, "--out", out]


def test_another_command_starts_over(tools, made, model, whole, tmp_path):
    out = tmp_path / "data.h5"
    options = kill_in_train(made, model, out)
    result = tools.run("import_official.py", *options, "--max-length", 5)
    assert f"{out}: starting over, unfinished work beside it was made with another --max-length\n" in result.stderr
    tools.run("import_official.py", *options)
    assert out.read_bytes() == whole["import_official.py"]
    # an input that changed in place, with its size and its time as they were
    path = made / "official/trn_X_Y.txt"
    before, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    kill_in_train(made, model, out)
    try:
        path.write_bytes(before[:-10] + before[-10:].replace(b":1.0\n", b":0.0\n"))
        os.utime(path, ns=times)
        result = tools.run("import_official.py", *options)
    finally:
        path.write_bytes(before)
    assert "starting over, unfinished work beside it was made with another trn_X_Y.txt\n" in result.stderr
    assert out.read_bytes() != whole["import_official.py"]


def test_damaged_work_starts_over(tools, made, model, whole, tmp_path):
    out = tmp_path / "data.h5"
    folder = tmp_path / ".data.h5.partial"
    for damage in (
        lambda: (folder / "train.tokens").write_bytes(b""),
        lambda: (folder / "label.kept").unlink(),
        lambda: (folder / "note.json").write_text((folder / "note.json").read_text().replace('"rows_read"', '"rows"', 1)),
    ):
        options = kill_in_train(made, model, out)
        damage()
        result = tools.run("import_official.py", *options)
        assert "starting over" in result.stderr and "is damaged" in result.stderr, result.stderr
        assert out.read_bytes() == whole["import_official.py"]
        out.unlink()
    options = kill_in_train(made, model, out)
    (folder / "note.json").write_text("{")  # nothing says what is done
    assert "going on" not in tools.run("import_official.py", *options).stderr
    assert out.read_bytes() == whole["import_official.py"]


def test_what_is_not_ours_stays(tools, made, model, tmp_path):
    out = tmp_path / "data.h5"
    options = kill_in_train(made, model, out)
    (tmp_path / ".data.h5.partial/notes.txt").write_text("mine")
    error = tools.fails("import_official.py", *options)
    assert error == f"error: {tmp_path}/.data.h5.partial: holds notes.txt, which vixen did not write: remove it, or give another --out"
    (tmp_path / ".data.h5.partial/notes.txt").unlink()
    assert "trn.raw.txt: going on after" in tools.run("import_official.py", *options).stderr


def test_two_processes_do_not_share_the_work(tools, made, model, tmp_path):
    out = tmp_path / "data.h5"
    options = kill_in_train(made, model, out)
    with open(tmp_path / ".data.h5.partial/lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        error = tools.fails("import_official.py", *options)
    assert error == f"error: {out}: another process is writing it: wait for it, or give another --out"
    assert "going on after" in tools.run("import_official.py", *options).stderr


def test_mistakes_behind_the_resumed_rows_are_named_by_their_line(tools, made, model, tmp_path):
    out = tmp_path / "data.h5"
    path = made / "official/trn_X_Y.txt"
    before = path.read_bytes()
    lines = before.splitlines(keepends=True)
    try:
        path.write_bytes(b"".join([*lines[:250], b"200:1.0\n", *lines[251:]]))
        options = kill_in_train(made, model, out)
        error = tools.fails("import_official.py", *options)
    finally:
        path.write_bytes(before)
    assert "trn_X_Y.txt:251: label 200 is out of range" in error
    assert list(tmp_path.iterdir()) == []  # the input has to change: nothing is kept
    with h5py.File(made / "xmc/images.h5") as file:  # the set itself is as it was
        assert file["embeddings"].shape == (1860, 8)
