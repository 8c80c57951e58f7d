"""Four nodes of two ranks: the numbers of one rank, jobs that come back on fewer nodes, nodes and links that fail, nodes' own disks.

Runs inside tests/slurm/with_slurm.sh (run_in_cluster.sh starts it). Environment: VIXEN_ROOT, VIXEN_BINARY, VIXEN_TEST_WORK.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import EPOCHS, STEPS_AN_EPOCH, TRAIN, WORK, job, log_of, steps_of, submit, wait_for, wait_for_end, words_of

SLURM = os.environ["WITH_SLURM"]
DEADLINE = 6  # seconds of a collective without progress
ENDS_WITHIN = 30  # seconds from a fault to the job's end: the deadline, and SLURM's own time to clean up


@pytest.fixture(scope="module")
def one_rank() -> Path:
    """The run folder of one rank, without SLURM."""
    run = WORK / "one-rank"
    command = [os.environ["VIXEN_BINARY"], "train", *words_of({**TRAIN, "run.dir": run})]
    subprocess.run(command, check=True, capture_output=True, env={k: v for k, v in os.environ.items() if not k.startswith("SLURM_")})
    return run


@pytest.fixture
def whole_cluster() -> Iterator[None]:
    """Brings back what a test drained, cut or crashed."""
    yield
    for node in ("n1", "n2", "n3", "n4"):
        subprocess.run([SLURM, "--heal", node])
        subprocess.run(["scontrol", "update", f"NodeName={node}", "State=RESUME"], capture_output=True)
    idle = ["sinfo", "-h", "-N", "-t", "idle", "-o", "%N"]
    end = time.monotonic() + 60
    while len(set(subprocess.run(idle, capture_output=True, text=True).stdout.split())) < 4 and time.monotonic() < end:
        time.sleep(0.5)


def metrics_of(run: Path) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((run / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if key != "seconds"}


def expect_the_numbers_of(run: Path, expected: Path) -> None:
    found, wanted = steps_of(run), steps_of(expected)
    assert [line["step"] for line in found] == list(range(1, EPOCHS * STEPS_AN_EPOCH + 1))
    assert [line["loss"] for line in found] == pytest.approx([line["loss"] for line in wanted], rel=2e-3)
    # One of 64 test queries may fall the other way.
    assert metrics_of(run) == pytest.approx(metrics_of(expected), abs=100 / 64 + 1e-6)


def test_eight_ranks_give_the_numbers_of_one(one_rank: Path) -> None:
    number, run = submit("eight", nodes="4", ranks_a_node=2)
    assert wait_for_end(number, run) == "COMPLETED", log_of(run)
    assert "on n[1-4]: 8 ranks" in log_of(run)
    expect_the_numbers_of(run, one_rank)


def test_a_job_comes_back_on_fewer_nodes(one_rank: Path, whole_cluster: None) -> None:
    number, run = submit("elastic", nodes="2-4", ranks_a_node=2)
    wait_for("step 20", lambda: len(steps_of(run)) >= 20, run)
    assert "on n[1-4]: 8 ranks" in log_of(run)
    for node in ("n2", "n4"):
        subprocess.run(["scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test"], check=True)
    subprocess.run(["scancel", "-b", "-s", "USR1", number], check=True)
    # SLURM asks for as many nodes as the job had: who wants it back on fewer says so (docs/cluster.md).
    changes = ["NumNodes=2-4", "NumTasks=4", "StartTime=now+3"]
    wait_for(
        "its return to the queue",
        lambda: (
            job(number)["Restarts"] == "1"
            and job(number)["JobState"] == "PENDING"
            and subprocess.run(["scontrol", "update", f"JobId={number}", *changes]).returncode == 0
        ),
        run,
    )
    assert len(steps_of(run)) < EPOCHS * STEPS_AN_EPOCH, "the job ended before the signal: nothing was tested"
    assert wait_for_end(number, run) == "COMPLETED", log_of(run)
    assert "on n[1,3]: 4 ranks, start 2" in log_of(run)
    expect_the_numbers_of(run, one_rank)


@pytest.mark.parametrize("fault", ["--crash", "--cut"])
def test_a_node_that_is_lost_ends_the_job_and_the_run_goes_on(one_rank: Path, whole_cluster: None, fault: str) -> None:
    """--crash: the power of a node; --cut: its link, both ways."""
    changes = {"run.checkpoint_every_steps": 5, "comm.deadline_seconds": DEADLINE}
    number, run = submit(f"lost{fault}", changes, nodes="4", ranks_a_node=2)
    wait_for("step 20", lambda: len(steps_of(run)) >= 20, run)
    victim = "n3"
    subprocess.run([SLURM, fault, victim], check=True)
    begin = time.monotonic()
    ranks = ["pgrep", "-f", f"vixen train .*--run.dir {run} "]

    def alive() -> list[str]:
        return subprocess.run(ranks, capture_output=True, text=True).stdout.split()

    while alive() and time.monotonic() < begin + ENDS_WITHIN:
        time.sleep(0.2)
    # Ranks behind a cut link end by their own deadline, too.
    assert not alive(), f"ranks are left after {ENDS_WITHIN} s:\n{log_of(run)}"
    assert len(steps_of(run)) < EPOCHS * STEPS_AN_EPOCH, "the job ended before the fault: nothing was tested"
    assert re.search(r"rank \d+ on n\d.*; ending the job \(8 ranks", log_of(run)) or "NODE FAIL" in log_of(run).upper().replace("_", " "), (
        log_of(run)
    )
    subprocess.run(["scancel", number], check=True)
    if fault == "--crash":
        subprocess.run([SLURM, "--boot", victim], check=True)
    # Without the node, and after it: the same command, on what is left.
    again, run_again = submit(f"lost{fault}", changes, nodes="1-3", ranks_a_node=1)
    assert wait_for_end(again, run_again) == "COMPLETED", log_of(run_again)
    assert "resuming from" in log_of(run_again)
    expect_the_numbers_of(run_again, one_rank)


def test_a_second_job_on_a_run_is_refused() -> None:
    first, run = submit("shared", {"train.epochs": 4000}, nodes="2")
    wait_for("step 5", lambda: len(steps_of(run)) >= 5, run)
    second, _ = submit("shared-again", {"run.dir": run}, nodes="2")
    assert wait_for_end(second, WORK / "shared-again") == "FAILED"
    said = log_of(WORK / "shared-again")
    assert job(second)["ExitCode"] == "2:0" and str(run) in said and "n1" in said, said
    assert job(first)["JobState"] == "RUNNING"


def test_inputs_are_copied_to_each_node_once(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "/dev/shm/vixen-stage"  # a node's own
    monkeypatch.setenv("VIXEN_STAGE", folder)

    def staged(name: str) -> str:
        number, run = submit(name, {"train.epochs": 1}, nodes="2", sbatch=["--nodelist=n1,n2"])
        assert wait_for_end(number, run) == "COMPLETED", log_of(run)
        return log_of(run)

    first = staged("staged")
    assert first.count("data.h5 -> ") == 2 and "is there" not in first, first
    assert folder in (WORK / "staged/config.ini").read_text(), "ranks read the copies"
    again = staged("staged-again")
    assert " -> " not in again and again.count("is there") == 4, again
    damage = f"printf x | dd of=$(echo {folder}/*-data.h5) conv=notrunc bs=1 seek=5000 status=none"
    subprocess.run(["srun", "--nodes=1", "--ntasks=1", "--nodelist=n1", "bash", "-c", damage], check=True)
    mended = staged("staged-damaged")
    assert mended.count("differs from what was copied, copied again") == 1 and mended.count("data.h5 -> ") == 1, mended
    assert mended.count("is there") == 3, mended
