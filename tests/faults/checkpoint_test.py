"""Checkpoints behind the training: killed at every call that changes a file, on disks that refuse them, with their folder gone."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import TinyRun, fill, ranks_of
from kill_resume_test import losses, newest_step
from refusals import assert_refused

CALLS = os.environ.get("FILE_CALLS", "")
STEPS = 8  # of an epoch of the tiny run
EVERY = 3
OPTIONS = {
    "train.epochs": 3,
    "run.checkpoint_every_steps": EVERY,
    "run.keep_last": 1,
    "run.log_every_steps": 1,
    "comm.deadline_seconds": 20,
}
# The third checkpoint, when the second one is there and will go.
WATCHED = "step-00000008"


def same_end(run: Path, straight: Path) -> None:
    assert losses(run) == losses(straight), "to the bit"
    assert (run / "model/model.safetensors").read_bytes() == (straight / "model/model.safetensors").read_bytes()
    assert not list((run / "checkpoints").glob("*.partial"))


def watched_run(tiny: TinyRun, run: Path, ranks: int, rank: int, log: Path, call: int = 0) -> subprocess.CompletedProcess:
    """Training under the library of file_calls.c; killed at that call of `rank` upon the files of the watched checkpoint."""
    environment = {
        **os.environ,
        "LD_PRELOAD": CALLS,
        "FILE_CALLS_OF": WATCHED,
        "FILE_CALLS_RANK": str(rank),
        "FILE_CALLS_LOG": str(log),
        "FILE_CALLS_KILL": str(call),
    }
    command = tiny.command("train", *tiny.train_options(run, **OPTIONS), ranks=ranks if ranks > 1 else 0)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


@pytest.mark.parametrize("ranks, rank", [(1, 0), (2, 0), (2, 1)])
def test_killed_at_every_call(tiny, tmp_path, ranks, rank):
    straight, log = tmp_path / "straight", tmp_path / "calls"
    assert watched_run(tiny, straight, ranks, rank, log).returncode == 0
    # The phases in order: after the snapshot is taken (the files are opened), written, described, committed, pruned later.
    calls = [line.replace(str(straight / "checkpoints"), "") for line in log.read_text().splitlines()]
    named = calls.index(f"rename /{WATCHED}.partial") + 1 if rank == 0 else None
    mine = f"shard-{rank:05}-of-{ranks:05}.safetensors"
    for wanted in (f"fopen /{WATCHED}.partial/{mine}.vixen-partial", f"rename /{WATCHED}.partial/{mine}.vixen-partial"):
        assert wanted in calls, calls
    if rank == 0:
        assert calls[0] == f"mkdir /{WATCHED}.partial", calls
        assert any("fsync" in call and "manifest" in call for call in calls), calls
    chosen = range(1, len(calls) + 1) if ranks == 1 else [1, *(i for i, call in enumerate(calls, 1) if call.startswith("rename"))]
    for call in chosen:
        run = tmp_path / f"run-{call}"
        killed = watched_run(tiny, run, ranks, rank, tmp_path / f"calls-{call}", call)
        assert killed.returncode not in (0, 2, 75), (calls[call - 1], killed.stderr)
        for left in ranks_of(run):  # of a rank that the launcher is still ending
            os.kill(left, signal.SIGKILL)
        newest = newest_step(run)
        whole = named is not None and call > named
        assert newest >= int(WATCHED[5:]) if whole else newest == 6, (calls[call - 1], newest)
        assert tiny.run("inspect", run / "checkpoints" / f"step-{newest:08}").returncode == 0
        done = tiny.run("train", *tiny.train_options(run, **OPTIONS), ranks=ranks if ranks > 1 else 0)
        assert done.returncode == 0 and f"step-{newest:08} (epoch" in done.stderr, done.stderr
        same_end(run, straight)


def start(tiny: TinyRun, run: Path, **more: object) -> subprocess.Popen:
    command = tiny.command("train", *tiny.train_options(run, **{**OPTIONS, **more}))
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_until(condition, process: subprocess.Popen) -> None:
    deadline = time.time() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.time() < deadline, "it never happens"
        time.sleep(0.002)


def lines_with(err: str, text: str) -> list[str]:
    return [line for line in err.splitlines() if text in line]


def test_a_disk_that_is_full_for_a_while(tiny, small_disk, tmp_path):
    """Training goes on, says so, writes the next one when there is room, and ends with the numbers of a run with room."""
    long = {"train.epochs": 200}
    straight, run = tmp_path / "straight", small_disk("16m") / "run"
    assert tiny.run("train", *tiny.train_options(straight, **{**OPTIONS, **long}), timeout=200).returncode == 0
    process = start(tiny, run, **long)
    wait_until(lambda: newest_step(run) >= 3, process)
    fill(run.parent)
    time.sleep(1)
    assert process.poll() is None, process.communicate()[1]
    (run.parent / "filler").unlink()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    warnings = lines_with(err, "training goes on, the next checkpoint tries again")
    assert len(warnings) == 1 and str(run / "checkpoints/step-") in warnings[0] and "No space left on device" in warnings[0], err
    assert len(lines_with(err, "the first since one failed")) == 1, err
    assert len(lines_with(err, "what belongs there is written once there is room")) == 1, err
    same_end(run, straight)


def test_a_disk_that_stays_full(tiny, small_disk):
    """One line and exit code 2 when the last checkpoint cannot be written; the newest that was is good."""
    run = small_disk("16m") / "run"
    process = start(tiny, run, **{"train.epochs": 40})
    wait_until(lambda: newest_step(run) >= 3, process)
    while process.poll() is None:  # what is given up leaves room for what comes after
        fill(run.parent)
        time.sleep(0.005)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    last = lines_with(err, "vixen: ")
    assert len(last) == 1 and str(run / "checkpoints/step-") in last[0] and "No space left" in last[0], err
    assert len(lines_with(err, "the next checkpoint tries again")) == 1, "one warning, not one a checkpoint"
    assert f"no checkpoint of step {40 * STEPS}, the run's last" in last[0]
    assert tiny.run("inspect", run / "checkpoints" / f"step-{newest_step(run):08}").returncode == 0


def test_a_stop_on_a_full_disk(tiny, small_disk):
    run = small_disk("16m") / "run"
    process = start(tiny, run, **{"train.epochs": 2000})
    wait_until(lambda: newest_step(run) >= 3, process)
    fill(run.parent)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert len(lines_with(err, "vixen: ")) == 1 and "everything is saved" not in err, err
    assert "No space left" in lines_with(err, "vixen: ")[0]


@pytest.fixture
def read_only_over(tmp_path):
    """read_only_over(folder): an empty read-only file system is mounted over it; called again, it goes."""
    mounted: list[Path] = []

    def switch(folder: Path) -> None:
        if folder in mounted:
            subprocess.run(["umount", str(folder)], check=True)
            mounted.remove(folder)
            return
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True).returncode:
            pytest.skip("mounting needs root")
        mounted.append(folder)

    yield switch
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_checkpoints_that_are_read_only_for_a_while(tiny, tmp_path, read_only_over):
    run = tmp_path / "run"
    process = start(tiny, run, **{"train.epochs": 200})
    wait_until(lambda: newest_step(run) >= 3, process)
    read_only_over(run / "checkpoints")
    time.sleep(1)
    read_only_over(run / "checkpoints")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    # One that was on its way meets a folder without its files first; what follows within a minute is not said again.
    said = lines_with(err, "training goes on, the next checkpoint tries again")
    assert len(said) == 1 and ("Read-only file system" in said[0] or "No such file" in said[0]), err
    assert newest_step(run) == 200 * STEPS


def test_a_run_folder_that_is_read_only(tiny, tmp_path, read_only_over):
    run = tmp_path / "run"
    run.mkdir()
    read_only_over(run)
    assert_refused(tiny.run("train", *tiny.train_options(run, **OPTIONS)), str(run), "Read-only file system")


def test_a_folder_of_checkpoints_that_goes(tiny, tmp_path):
    """The next checkpoint makes it anew, with a warning; but for one on its way that has made it anew by itself."""
    for attempt in range(6):
        run = tmp_path / f"run-{attempt}"
        process = start(tiny, run, **{"train.epochs": 30})
        wait_until(lambda run=run: newest_step(run) >= 3, process)
        (run / "checkpoints").rename(tmp_path / "gone")
        shutil.rmtree(tmp_path / "gone")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert newest_step(run) == 30 * STEPS
        assert tiny.run("inspect", run).returncode == 0
        if lines_with(err, f"{run}/checkpoints is gone, and the checkpoints in it: it is made anew"):
            return
    pytest.fail("it is never said")


def test_what_is_said_of_checkpoints(tiny, tmp_path):
    """A line of metrics.jsonl each: step, seconds, bytes; and a run that goes on repeats none."""
    run = tmp_path / "run"
    options = tiny.train_options(run, **OPTIONS)
    assert tiny.run("train", *options, "--run.stop_after_steps", 7).returncode == 75
    assert tiny.run("train", *options).returncode == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    said = [(line["step"], line["checkpoint"]) for line in lines if "checkpoint" in line]
    assert [step for step, _ in said] == [3, 6, 7, 8, 9, 12, 15, 16, 18, 21, 24]
    newest = run / "checkpoints" / f"step-{3 * STEPS:08}"
    assert said[-1][1]["bytes"] == sum(path.stat().st_size for path in newest.glob("*.safetensors"))
    assert all(event["snapshot_seconds"] > 0 and event["write_seconds"] > 0 and event["waited_seconds"] >= 0 for _, event in said)
