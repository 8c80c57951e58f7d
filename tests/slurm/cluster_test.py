"""slurm/train.sbatch on two real nodes: saved and requeued on USR1, resumed to the same numbers, failed fast when a rank dies;
what srun, mpirun in an allocation and a shell in a step give the ranks.

Runs inside tests/slurm/with_slurm.sh (run_in_cluster.sh starts it). Environment: VIXEN_ROOT, VIXEN_BINARY, VIXEN_TEST_WORK.
"""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from jobs import (
    EPOCHS,
    ROOT,
    STEPS_AN_EPOCH,
    TRAIN,
    WORK,
    job,
    log_of,
    rank_process,
    steps_of,
    submit,
    submit_script,
    wait_for,
    wait_for_end,
    words_of,
)
from tiny_search import launch, search_command


@pytest.fixture(scope="module")
def uninterrupted() -> Path:
    """The run folder of a job that nothing disturbs; it asks the doctor first."""
    os.environ["VIXEN_DOCTOR"] = "yes"
    number, run = submit("uninterrupted")
    os.environ["VIXEN_DOCTOR"] = "no"
    assert wait_for_end(number, run) == "COMPLETED", log_of(run)
    return run


def test_two_nodes_train_to_the_end(uninterrupted: Path) -> None:
    assert [line["step"] for line in steps_of(uninterrupted)] == list(range(1, EPOCHS * STEPS_AN_EPOCH + 1))
    assert "on n[1-2]: 2 ranks" in log_of(uninterrupted)
    assert "Nothing wrong" in log_of(uninterrupted), "the doctor comes first"  # what is to note is the machine's
    metrics = json.loads((uninterrupted / "metrics.json").read_text())
    assert metrics["queries"] == 64 and metrics["P@1"] > 50, metrics  # a query spells its labels: chance is 7
    assert (uninterrupted / "model/config.json").exists()


def test_usr1_saves_requeues_and_resumes_to_the_same_numbers(uninterrupted: Path) -> None:
    number, run = submit("requeued")
    wait_for("step 20", lambda: len(steps_of(run)) >= 20, run)
    subprocess.run(["scancel", "-b", "-s", "USR1", number], check=True)
    wait_for("the requeue", lambda: job(number)["Restarts"] == "1", run)
    assert len(steps_of(run)) < EPOCHS * STEPS_AN_EPOCH, "the job ended before the signal: nothing was tested"
    assert not (run / "model/config.json").exists()
    # A requeued job waits two minutes before it may start; a test need not. Not at once, though: within the second of its
    # end slurmd would take the new start for a job already killed.
    wait_for(
        "its return to the queue",
        lambda: (
            job(number)["JobState"] == "PENDING"
            and subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now+3"]).returncode == 0
        ),
        run,
    )
    assert wait_for_end(number, run) == "COMPLETED", log_of(run)
    log = log_of(run)
    assert "start 1," in log and "start 2," in log and f"requeueing job {number}" in log, log
    resumed, expected = steps_of(run), steps_of(uninterrupted)
    assert [line["step"] for line in resumed] == [line["step"] for line in expected]
    assert [line["loss"] for line in resumed] == [line["loss"] for line in expected]
    metrics, expected_metrics = (json.loads((folder / "metrics.json").read_text()) for folder in (run, uninterrupted))
    assert {key: value for key, value in metrics.items() if key != "seconds"} == {
        key: value for key, value in expected_metrics.items() if key != "seconds"
    }


def test_a_killed_rank_fails_the_job_within_seconds() -> None:
    number, run = submit("killed", {"train.epochs": 4000})
    wait_for("step 5", lambda: len(steps_of(run)) >= 5, run)
    os.kill(rank_process(number, 1), signal.SIGKILL)
    begin = time.monotonic()
    assert wait_for_end(number, run) == "FAILED", log_of(run)
    assert time.monotonic() - begin < 10
    assert job(number)["Restarts"] == "0"


def test_a_wrong_option_fails_with_code_2_and_names_the_key() -> None:
    number, run = submit("mistaken", {"train.epocs": 3})
    assert wait_for_end(number, run) == "FAILED", log_of(run)
    assert job(number)["ExitCode"] == "2:0"
    assert "train.epochs" in log_of(run)


def test_a_cell_that_fails_stops_no_other_of_its_array() -> None:
    cells = WORK / "cells.txt"
    cells.write_text("# name, options\n\nfirst --train.seed 1\nmistaken --train.epocs 3\nquoted --train.seed '2'\n")
    runs = WORK / "grid"
    common = words_of({**TRAIN, "train.epochs": 2})
    number = submit_script("array.sbatch", "cell", "--array=1-3", cells, runs, *common)
    states = [wait_for_end(f"{number}_{cell}", WORK / f"cell-{cell}") for cell in (1, 2, 3)]
    assert states == ["COMPLETED", "FAILED", "COMPLETED"], [log_of(WORK / f"cell-{cell}") for cell in (1, 2, 3)]
    assert "train.epochs" in log_of(WORK / "cell-2")
    seeds = [re.search(r"^seed *= *(\d+)", (runs / name / "config.ini").read_text(), re.M) for name in ("first", "quoted")]
    assert [seed and seed[1] for seed in seeds] == ["1", "2"]
    # The same array again: finished cells end at once, the mended one is made.
    cells.write_text(cells.read_text().replace("epocs", "epochs"))
    number = submit_script("array.sbatch", "cell", "--array=2", cells, runs, *common)
    assert wait_for_end(f"{number}_2", WORK / "cell-2") == "COMPLETED", log_of(WORK / "cell-2")
    assert (runs / "mistaken/model/config.json").exists()


def test_a_pipeline_goes_on_where_a_job_was_killed() -> None:
    run, out = WORK / "pipeline", WORK / "exported"
    command = [ROOT / "slurm/pipeline.sh", "--run", run, "--data", TRAIN["data.path"], "--model", TRAIN["model.path"]]
    command += ["--export", f"sentence-transformers={out}", "--sbatch", "--nodes=2 --ntasks-per-node=1", "--"]
    command += words_of({key: value for key, value in TRAIN.items() if key not in ("data.path", "model.path")} | {"train.epochs": 120})

    def pipeline() -> tuple[str, dict[str, str]]:
        said = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        return said, dict(re.findall(r"^\[pipeline\] ([\w-]+): job (\d+)", said, re.M))

    said, jobs = pipeline()
    assert list(jobs) == ["train", "evaluate", "export-sentence-transformers"], said
    train_log = WORK / f"pipeline-train-{jobs['train']}"
    wait_for("step 20", lambda: len(steps_of(run)) >= 20, train_log)
    assert pipeline()[0].count("is on its way") == 3, "nothing is submitted twice"
    subprocess.run(["scancel", jobs["train"]], check=True)
    for name in jobs.values():
        assert wait_for_end(name, train_log) == "CANCELLED"

    said, again = pipeline()
    assert list(again) == list(jobs) and not set(again.values()) & set(jobs.values()), said
    for stage, number in again.items():
        assert wait_for_end(number, WORK / f"pipeline-{stage}-{number}") == "COMPLETED", log_of(WORK / f"pipeline-{stage}-{number}")
    assert json.loads((run / "test.json").read_text())["P@1"] > 50
    assert (out / "modules.json").exists()
    said, none = pipeline()
    assert not none and "all done" in said and said.count(": done") == 3, said


def test_embedding_and_mining_are_jobs_too(uninterrupted: Path) -> None:
    data = ["--data.path", TRAIN["data.path"], "--run.dir", uninterrupted, "--threads", 1]
    rows, mined = WORK / "labels-of-job.h5", WORK / "mined-by-job.h5"
    numbers = [
        submit_script("embed.sbatch", "embed", *data, "--embed.side", "labels", "--out", rows),
        submit_script("mine.sbatch", "mine", *data, "--data.split", "train", "--mining.depth", 5, "--mine.k", 3, "--out", mined),
    ]
    for number, name in zip(numbers, ("embed", "mine"), strict=True):
        assert wait_for_end(number, WORK / name) == "COMPLETED", log_of(WORK / name)
    assert rows.exists() and mined.exists()


# A node of this cluster has one CPU for SLURM, which does not bind here: the process could use all of the machine's.
ALL_CPUS = "CPUs? [0-9,-]+"


@pytest.fixture(scope="module")
def search() -> list[str]:
    return search_command(WORK)


def test_srun_limits_threads_to_the_allocation(search: list[str]) -> None:
    done = launch("srun", "-N2", "-n2", "--cpus-per-task=1", "--mpi=pmix", *search, "--run.log_level", "debug")
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert re.search(rf"\[rank {rank}/2\] 2 ranks, .* on n{rank + 1}: rank {rank}: 1 thread on {ALL_CPUS}", done.stderr), done.stderr
    assert re.search(rf"n1: rank 0: 1 thread on {ALL_CPUS}\n", done.stderr), done.stderr


def test_mpirun_in_an_allocation_uses_both_nodes(search: list[str]) -> None:
    done = launch("salloc", "-Q", "-N2", "-n2", "mpirun", "-n", "2", *search, "--run.log_level", "debug")
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert re.search(rf"\[rank {rank}/2\] 2 ranks, .* on n{rank + 1}: rank {rank}: 1 thread on {ALL_CPUS}", done.stderr), done.stderr


def test_a_shell_in_a_step_without_pmi_is_a_workstation(search: list[str]) -> None:
    done = launch("srun", "-n1", "--mpi=none", "bash", "-c", '"$@"; exit $?', "shell", *search)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"rank 0: 1 thread on {ALL_CPUS}\n", done.stderr), done.stderr
    done = launch("srun", "-n1", "--mpi=none", "--pty", os.environ["VIXEN_BINARY"], "inspect", str(WORK / "rows.h5"))
    assert done.returncode == 0 and "embeddings" in done.stdout, (done.stdout, done.stderr)


def test_tasks_without_pmi_are_refused_in_one_line(search: list[str]) -> None:
    done = launch("srun", "-N2", "-n2", "--mpi=none", *search)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("srun: ")]
    assert lines == ["vixen: the launcher started 2 processes, but MPI sees one: start them with mpirun, or srun --mpi=pmix"]
