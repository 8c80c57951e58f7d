"""Jobs of the throw-away cluster: submitted, watched, told apart. For the tests inside tests/slurm/with_slurm.sh.

Environment: VIXEN_ROOT, VIXEN_BINARY, VIXEN_TEST_WORK.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(os.environ["VIXEN_ROOT"])
WORK = Path(os.environ["VIXEN_TEST_WORK"])
os.environ["VIXEN_DOCTOR"] = "no"  # of all jobs but one: it takes seconds
EPOCHS, STEPS_AN_EPOCH = 12, 8  # 256 queries, batches of 32
TRAIN = {
    "data.path": WORK / "tiny/data.h5",
    "model.path": WORK / "tiny/model",
    "train.epochs": EPOCHS,
    "train.batch_size": 32,
    "train.warmup_steps": 5,
    "prototype.free_vectors": 16,
    "prototype.heads": 4,
    "prototype.feed_forward": 64,
    "cluster.start_epoch": 1,
    "cluster.update_epochs": 2,
    "cluster.size": 4,
    "cluster.double_at": "5,10",
    "run.log_every_steps": 1,
    "evaluate.k": 20,
    "threads": 1,  # the two nodes are one machine: each would take all its cores
}


def submit(
    name: str, changes: Mapping[str, object] | None = None, *, nodes: str = "2", ranks_a_node: int = 1, sbatch: Sequence[str] = ()
) -> tuple[str, Path]:
    """Queues a training job; returns its number and run folder. Its log is WORK/NAME.log. changes: to the settings of TRAIN."""
    run = WORK / name
    settings = {"run.dir": run, **TRAIN, **(changes or {})}
    options = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    result = subprocess.run(
        [
            "sbatch",
            "--parsable",
            f"--nodes={nodes}",
            f"--ntasks-per-node={ranks_a_node}",
            f"--output={WORK}/{name}.log",
            *sbatch,
            str(ROOT / "slurm/train.sbatch"),
            *options,
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return result.stdout.strip(), run


def job(number: str) -> dict[str, str]:
    """The fields of `scontrol show job`."""
    text = subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True, check=True, timeout=20).stdout
    return dict(re.findall(r"(\w+)=(\S*)", text))


def log_of(run: Path) -> str:
    path = run.with_suffix(".log")
    return path.read_text(errors="replace") if path.exists() else "(no log)"


def steps_of(run: Path) -> list[dict]:
    """Lines of metrics.jsonl that tell of a step; a line that is being written does not count yet."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    return [line for line in lines if "loss" in line]


def wait_for(what: str, ready, run: Path, seconds: float = 120.0):
    """Polls until ready() is true; the job's log is in the failure's message."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := ready():
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds:g} s; the job's log:\n{log_of(run)}")


def wait_for_end(number: str, run: Path) -> str:
    ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
    return wait_for("the end of the job", lambda: (state := job(number)["JobState"]) in ended and state, run)


def rank_process(number: str, rank: int) -> int:
    """The process of a rank, on whichever node: the controller sees all nodes' processes."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            name = (entry / "comm").read_text().strip()
        except OSError:
            continue
        if name == "vixen" and f"SLURM_JOB_ID={number}".encode() in environment and f"SLURM_PROCID={rank}".encode() in environment:
            return int(entry.name)
    raise AssertionError(f"no process of rank {rank} of job {number}")


def submit_script(script: str, name: str, *words: object) -> str:
    """Queues a job script of slurm/; returns the job's number. Its log is WORK/NAME.log, or NAME-CELL.log."""
    options = [word for word in words if str(word).startswith("--array")]
    command = [
        "sbatch",
        "--parsable",
        *map(str, options),
        f"--output={WORK}/{name}{'-%a' if options else ''}.log",
        str(ROOT / "slurm" / script),
    ]
    command += [str(word) for word in words if word not in options]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip().split(";")[0]


def words_of(settings: dict[str, object]) -> list[str]:
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]
