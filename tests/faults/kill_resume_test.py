"""Kills at random moments, checkpointing included: every time the run goes on, to the numbers of a run never killed."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

KILLS = 20


def lines_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in lines_of(run) if "loss" in line}


def newest_step(run: Path) -> int:
    """The newest complete checkpoint; 0 when there is none."""
    steps = [int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-????????")]
    return max(steps, default=0)


def kill_while_training(process: subprocess.Popen, run: Path, delay: float) -> None:
    """Waits for a checkpoint of this process, then a little more: the kill comes in a step or in the next checkpoint."""
    before = newest_step(run)
    deadline = time.time() + 60
    while newest_step(run) == before and process.poll() is None and time.time() < deadline:
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)


def test_twenty_kills(tiny, tmp_path):
    epochs, steps = 60, 60 * 8
    options = {"train.epochs": epochs, "run.checkpoint_every_steps": 1, "run.log_every_steps": 1}
    straight = tmp_path / "straight"
    assert tiny.run("train", *tiny.train_options(straight, **options), timeout=200).returncode == 0

    generator = random.Random(7)
    run = tmp_path / "killed"
    command = tiny.command("train", *tiny.train_options(run, **options))
    killed = resumed = 0
    for kill in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if kill % 5 == 4:  # while it starts up or reads the checkpoint
            time.sleep(generator.uniform(0.2, 1.5))
            process.send_signal(signal.SIGKILL)
        else:
            kill_while_training(process, run, generator.uniform(0, 0.05))
        _, err = process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0), err
        killed += process.returncode == -signal.SIGKILL
        resumed += "resuming from" in err
    assert killed >= KILLS // 2 and resumed >= KILLS // 2, f"{killed} killed, {resumed} resumed: the test tests too little"
    result = tiny.run("train", *tiny.train_options(run, **options), timeout=200)
    assert result.returncode == 0, result.stderr

    expected, found = losses(straight), losses(run)
    assert list(found) == list(range(1, steps + 1)), "every step is logged once, in order"
    assert found == expected, "to the bit"
    for name in ("config.json", "label_embeddings.h5", "model.safetensors"):
        assert (run / "model" / name).exists()
    assert (run / "model/model.safetensors").read_bytes() == (straight / "model/model.safetensors").read_bytes()


def test_stop_on_request(tiny, tmp_path):
    """TERM: saves at the next step, exit 75, and the same command goes on."""
    run = tmp_path / "run"
    options = tiny.train_options(run, **{"train.epochs": 200})
    process = subprocess.Popen(tiny.command("train", *options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").read_text():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert list((run / "checkpoints").glob("step-????????"))
    result = tiny.run("train", *options, "--run.stop_after_steps", 1)
    assert result.returncode == 75 and "resuming from" in result.stderr, result.stderr


def test_a_run_saves_before_its_job_ends(tiny, tmp_path):
    """No signal comes: three quarters of what is left of the allocation are trained, then all is saved."""
    run = tmp_path / "run"
    options = tiny.train_options(run, **{"train.epochs": 20000})
    begin = time.time()
    environment = {**os.environ, "SLURM_JOB_END_TIME": str(int(begin) + 12)}
    done = subprocess.run(tiny.command("train", *options), capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 75, done.stderr
    assert time.time() - begin < 12, done.stderr
    assert "the SLURM job ends in" in done.stderr and "everything is saved" in done.stderr
    assert newest_step(run)
    environment["SLURM_JOB_END_TIME"] = "0"  # no end is known
    result = subprocess.run(
        tiny.command("train", *options, "--run.stop_after_steps", 1), capture_output=True, text=True, timeout=60, env=environment
    )
    assert result.returncode == 75 and "resuming from" in result.stderr and "SLURM job ends" not in result.stderr, result.stderr


def test_a_command_that_saves_nothing_ends_at_once(tiny):
    """TERM ends what has nothing to save, as it ends any program."""
    process = subprocess.Popen(tiny.command("bench"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    assert process.poll() is None, "it lasts for seconds"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
