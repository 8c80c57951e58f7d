"""The time of day jumps while a run lasts, as it does on nodes that set their clocks late: nothing ends, and no number changes."""

import os
import re
import subprocess
import time
from pathlib import Path

from conftest import TinyRun
from kill_resume_test import losses, newest_step

JUMPS = os.environ.get("CLOCK_JUMP", "")
OPTIONS = {
    "train.epochs": 6,
    "run.checkpoint_every_steps": 4,
    "run.keep_last": 2,
    "run.log_every_steps": 1,
    "run.stop_before_end_seconds": 60,
    "comm.deadline_seconds": 20,
    "comm.file_deadline_seconds": 20,
}
HOUR = 3600
YEAR = 365 * 24 * HOUR


def wait_for_step(process: subprocess.Popen, run: Path, step: int) -> None:
    end = time.monotonic() + 60
    while newest_step(run) < step:
        assert process.poll() is None and time.monotonic() < end, "training did not come so far"
        time.sleep(0.005)


def test_the_clock_goes_back_and_forth(tiny: TinyRun, tmp_path: Path) -> None:
    straight, run, shift = tmp_path / "straight", tmp_path / "run", tmp_path / "shift"
    result = tiny.run("train", *tiny.train_options(straight, **OPTIONS), ranks=2)
    assert result.returncode == 0, result.stderr

    # A job of SLURM that has an hour left, by the clock that it started with.
    environment = {**os.environ, "LD_PRELOAD": JUMPS, "CLOCK_JUMP_FILE": str(shift), "SLURM_JOB_END_TIME": str(int(time.time()) + HOUR)}
    shift.write_text("0")
    command = tiny.command("train", *tiny.train_options(run, **OPTIONS), ranks=2)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment) as process:
        for step, seconds in ((4, -5 * HOUR), (16, YEAR + 7 * HOUR), (28, -YEAR - 3 * HOUR)):
            wait_for_step(process, run, step)
            aside = shift.with_name("shift.new")
            aside.write_text(str(seconds))
            aside.rename(shift)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    hours = set(re.findall(r"^\[(\d\d):\d\d:\d\d\]", said, flags=re.M))
    assert len(hours) > 1, f"the clock of the log is not the shifted one: {said[-2000:]}"
    assert losses(run) == losses(straight), "to the bit"
    assert (run / "model/model.safetensors").read_bytes() == (straight / "model/model.safetensors").read_bytes()
    kept = sorted(path.name for path in (run / "checkpoints").glob("step-????????"))
    assert kept == sorted(path.name for path in (straight / "checkpoints").glob("step-????????")), "by step, not by age"
