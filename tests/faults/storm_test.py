"""Fault after fault into one run, of every kind and at any moment: it goes on each time, and its numbers are those of a run without any.

VIXEN_STORM_FAULTS says how many (some, when nothing does: the two cases together see every kind), VIXEN_STORM_SEED which.
"""

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import fill, ranks_of
from kill_resume_test import losses, newest_step

FAULTS = int(os.environ.get("VIXEN_STORM_FAULTS", "4"))
SEED = int(os.environ.get("VIXEN_STORM_SEED", "1"))
DEADLINE = 4  # seconds of a collective without progress
ENDS_WITHIN = DEADLINE + 12  # seconds from a fault to the job's end: a busy machine starts and ends processes slowly

OPTIONS = {
    "run.checkpoint_every_steps": 1,
    "run.log_every_steps": 1,
    "comm.deadline_seconds": DEADLINE,
}


class Job:
    """A training under mpirun, until its end or a fault's."""

    def __init__(self, tiny, run: Path, ranks: int, options: dict):
        self.run, self.ranks = run, ranks
        command = tiny.command("train", *tiny.train_options(run, **options), ranks=ranks)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def trains(self, generator: random.Random) -> bool:
        """Waits for a checkpoint of this job and then a moment; False when it has ended by itself."""
        before, end = newest_step(self.run), time.monotonic() + 60
        while newest_step(self.run) == before and self.process.poll() is None:
            assert time.monotonic() < end, "no checkpoint in a minute"
            time.sleep(0.002)
        time.sleep(generator.uniform(0, 0.3))
        return self.process.poll() is None

    def end(self) -> tuple[int, str]:
        """Exit code and what was said; every rank must be gone within the bound."""
        try:
            _, said = self.process.communicate(timeout=ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"did not end within {ENDS_WITHIN} s: {self.process.communicate()[1][-2000:]}") from None
        end = time.monotonic() + ENDS_WITHIN
        while left := ranks_of(self.run):
            assert time.monotonic() < end, f"ranks are left behind: {left}"
            time.sleep(0.02)
        return self.process.returncode, said


def kill_one(job: Job, generator: random.Random) -> None:
    os.kill(generator.choice(ranks_of(job.run)), signal.SIGKILL)


def kill_all(job: Job, generator: random.Random) -> None:
    for rank in ranks_of(job.run):
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGKILL)


def kill_launcher(job: Job, generator: random.Random) -> None:
    job.process.kill()


def freeze_one(job: Job, generator: random.Random) -> None:
    """A rank that hangs: the others end the job when their deadline has passed, and the launcher ends it."""
    victim = generator.choice(ranks_of(job.run))
    os.kill(victim, signal.SIGSTOP)


def ask_to_stop(job: Job, generator: random.Random) -> None:
    wish = generator.choice([signal.SIGTERM, signal.SIGUSR1])
    for rank in ranks_of(job.run):
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, wish)


def fill_disk(job: Job, generator: random.Random) -> None:
    fill(job.run.parent)
    time.sleep(generator.uniform(0.1, 0.6))
    (job.run.parent / "filler").unlink()


def lose_newest(job: Job, generator: random.Random) -> None:
    """The job is killed, and its newest checkpoint is gone when it starts again."""
    kill_all(job, generator)


KINDS: list[Callable[[Job, random.Random], None]] = [kill_one, kill_all, kill_launcher, freeze_one, ask_to_stop, fill_disk, lose_newest]
#: What may end after the fault as if nothing had been.
SURVIVED = (fill_disk,)


def strike(job: Job, kind: Callable[[Job, random.Random], None], generator: random.Random) -> None:
    kind(job, generator)
    if kind in SURVIVED:
        ask_to_stop(job, generator)  # where it goes on: the next fault is for the next job
    code, said = job.end()
    assert "BUG" not in said, said[-3000:]
    if kind is kill_launcher:
        assert code == -signal.SIGKILL
    elif kind is ask_to_stop:
        assert code == 75, said[-3000:]
    elif kind is fill_disk:
        assert code in (2, 75), said[-3000:]
        assert code == 75 or "No space left" in said, said[-3000:]
    else:
        assert code not in (0, 2, 75), said[-3000:]
    if kind is freeze_one:
        assert re.search(r"rank \d on \S+(, step \d+)?: no sign of life for ", said), said[-3000:]
    assert said.count("ending the job") <= 1, said[-3000:]
    if kind is lose_newest:
        steps = sorted((job.run / "checkpoints").glob("step-????????"))
        if len(steps) > 1:
            subprocess.run(["rm", "-r", str(steps[-1])], check=True)


@pytest.mark.parametrize("elastic", [False, True], ids=["two ranks", "one to four ranks"])
def test_a_run_outlives_them_all(tiny, small_disk, elastic):
    disk = small_disk("200m")
    options = {**OPTIONS, "train.epochs": (4 if FAULTS < 20 else 12) * FAULTS}  # some 60 steps between two on a machine at rest
    straight = disk.parent / "straight"
    result = tiny.run("train", *tiny.train_options(straight, **options), ranks=2, timeout=1200)
    assert result.returncode == 0, result.stderr

    generator = random.Random(SEED)
    run = disk / "run"
    struck: Counter[str] = Counter()
    first = list(reversed(KINDS)) if elastic else list(KINDS)  # each once, then any
    while sum(struck.values()) < FAULTS:
        kind = first.pop(0) if first else generator.choice(KINDS)
        ranks = generator.randint(1, 4) if elastic else 2
        if ranks == 1 and kind is freeze_one:
            ranks = 2
        job = Job(tiny, run, ranks, options)
        if not job.trains(generator):
            code, said = job.end()
            assert code == 0, said[-3000:]
            break
        strike(job, kind, generator)
        struck[kind.__name__] += 1
    print(f"{sum(struck.values())} faults: {dict(struck)}")
    assert sum(struck.values()) >= FAULTS // 2, "the run ended before: the test tests too little"
    result = tiny.run("train", *tiny.train_options(run, **options), ranks=2, timeout=1200)
    assert result.returncode == 0, result.stderr

    expected, found = losses(straight), losses(run)
    assert list(found) == list(expected), "every step is logged once, in order"
    if elastic:
        assert found == pytest.approx(expected, rel=2e-3)
    else:
        assert found == expected, "to the bit"
        assert (run / "model/model.safetensors").read_bytes() == (straight / "model/model.safetensors").read_bytes()
