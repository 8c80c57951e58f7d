"""Two jobs on one run folder: the second is refused in one line and harms nothing, a dead one's place is taken."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from conftest import TinyRun
from refusals import assert_refused


def long_run(tiny: TinyRun, run: Path, **more) -> list[str]:
    return tiny.command(
        "train", *tiny.train_options(run, **{"train.epochs": 400, "run.checkpoint_every_steps": 5, "run.log_every_steps": 1, **more})
    )


def wait_for_checkpoint(run: Path, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if list(run.glob("checkpoints/step-????????")):
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    raise AssertionError("no checkpoint in 60 s")


def test_a_second_start_is_refused_and_harms_nothing(tiny, tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen(long_run(tiny, run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(run, process)
    for _ in range(3):
        assert_refused(
            subprocess.run(long_run(tiny, run), capture_output=True, text=True, timeout=60),
            str(run),
            "in use by process",
            str(process.pid),
            "--run.dir",
        )
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    steps = [line["step"] for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "loss" in line]
    assert steps == sorted(set(steps))
    assert not (run / "run.lock").exists()
    assert tiny.run("inspect", run).returncode == 0


def test_two_at_once(tiny, tmp_path):
    """Whoever is second, one goes on and the other is refused; four times, for timing decides."""
    for attempt in range(4):
        run = tmp_path / f"run{attempt}"
        options = {"train.epochs": 6}
        both = [
            subprocess.Popen(long_run(tiny, run, **options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)
        ]
        ends = [(process.communicate(timeout=90)[1], process.returncode) for process in both]
        codes = sorted(code for _, code in ends)
        assert codes in ([0, 2], [0, 0]), ends  # 0, 0: the second began when the first had ended
        if codes == [0, 2]:
            refused = next(err for err, code in ends if code == 2)
            assert "in use by process" in refused and len(refused.strip().splitlines()) == 1
        steps = [line["step"] for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "loss" in line]
        assert steps == list(range(1, 6 * 8 + 1))


def test_after_a_kill_the_next_start_goes_on_at_once(tiny, tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen(long_run(tiny, run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(run, process)
    process.kill()
    process.communicate()
    assert (run / "run.lock").exists()
    begin = time.monotonic()
    result = subprocess.run(long_run(tiny, run, **{"run.stop_after_steps": 2}), capture_output=True, text=True, timeout=60)
    assert result.returncode == 75, result.stderr
    assert "the process that held it has ended" in result.stderr and "watching" not in result.stderr
    assert time.monotonic() - begin < 15


def remote_lock(run: Path, **members) -> dict:
    """A lock as a process on another machine leaves it."""
    run.mkdir()
    (run / ".vixen.json").write_text(json.dumps({"created_by": "vixen train 0", "kind": "run"}))
    lock = {
        "beat": "000000000001",
        "boot_id": "elsewhere",
        "host": "far",
        "pid": 1,
        "pid_namespace": "pid:[1]",
        "pid_start": 5,
        "since": "2026-01-01 00:00:00 UTC",
        "slurm_job": "7",
        "slurm_restart": 0,
        "token": "t",
        **members,
    }
    (run / "run.lock").write_text(json.dumps(lock, indent=1) + "\n")
    return lock


def test_a_requeued_job_takes_its_own_place_at_once(tiny, tmp_path):
    run = tmp_path / "run"
    remote_lock(run)
    environment = {**os.environ, "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    result = subprocess.run(long_run(tiny, run, **{"run.stop_after_steps": 2}), capture_output=True, text=True, timeout=60, env=environment)
    assert result.returncode == 75, result.stderr
    assert "the process that held it has ended" in result.stderr and "watching" not in result.stderr


def test_a_silent_holder_elsewhere_is_watched_for_thirty_seconds(tiny, tmp_path):
    run = tmp_path / "run"
    remote_lock(run)
    begin = time.monotonic()
    result = subprocess.run(long_run(tiny, run, **{"run.stop_after_steps": 2}), capture_output=True, text=True, timeout=90)
    assert result.returncode == 75, result.stderr
    assert "watching it for 30 s" in result.stderr and "host far (SLURM job 7)" in result.stderr
    assert time.monotonic() - begin > 30


def test_a_job_whose_folder_was_taken_over_ends(tiny, tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen(
        long_run(tiny, run, **{"train.epochs": 100000}), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for_checkpoint(run, process)
    lock = json.loads((run / "run.lock").read_text())
    (run / "other.lock").write_text(json.dumps({**lock, "token": "other"}))
    os.replace(run / "other.lock", run / "run.lock")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "another job has taken this run over" in err
    assert json.loads((run / "run.lock").read_text())["token"] == "other"
