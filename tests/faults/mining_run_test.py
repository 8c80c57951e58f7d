"""Runs that mine while they train: killed in the middle of a mining, and on a disk that is full when lists are to be saved."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import TinyRun, fill, kill_ranks, prepare, ranks_of
from kill_resume_test import losses, newest_step
from make_tiny_run import write_raw

N_TRAIN, BATCH = 4000, 500
STEPS = N_TRAIN // BATCH  # of an epoch
MINING = {
    "mining.columns": 100,
    "mining.depth": 30,
    "mining.every_steps": 5,
    "mining.draw": "uniform",
    "mining.relative_margin": 0.99,
}
# With the checkpoint before it in place when it begins: that tells the moment.
AT_ONCE: dict[str, object] = {"run.checkpoint_async": "false"}
OVERLAPPED: dict[str, object] = {"mining.overlap": 4}


class Run(TinyRun):
    def __init__(self, folder: Path, tiny: TinyRun):
        super().__init__(folder)
        self.model = tiny.model
        write_raw(folder / "raw", N_TRAIN, 32)
        prepare(folder / "raw", self.model, self.data)

    def options(self, run: Path, **more: object) -> list[str]:
        settings = {
            "train.epochs": 3,
            "train.batch_size": BATCH,
            "train.lr": 1e-4,
            "run.checkpoint_every_steps": 1,
            "run.log_every_steps": 1,
        }
        return self.train_options(run, **settings, **MINING, **more)

    def start(self, run: Path, ranks: int, **more: object) -> subprocess.Popen:
        command = self.command("train", *self.options(run, **more), ranks=ranks)
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def train(self, run: Path, ranks: int, **more: object) -> subprocess.CompletedProcess:
        done = self.run("train", *self.options(run, **more), ranks=ranks, timeout=200)
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture(scope="module")
def data(tiny: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("mining") / "files", tiny)


def minings(run: Path) -> dict[int, dict]:
    """What was mined, by the step that it was taken up after; seconds differ."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: {**line["mining"], "seconds": 0} for line in lines if "mining" in line}


def wait_for_checkpoint(run: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.time() + 60
    while newest_step(run) < step and process.poll() is None and time.time() < deadline:
        time.sleep(0.0005)


def kill_in_mining(data: Run, run: Path, begun: int, ranks: int, **kind: object) -> None:
    """A run, as it is in its folder, whose ranks were all killed in the mining that begins after so many steps."""
    overlap = int(str(kind.get("mining.overlap", 0)))
    before = run.with_name("before")
    for _ in range(30):  # a kill may come too late
        shutil.rmtree(before, ignore_errors=True)
        if run.exists():
            shutil.copytree(run, before, symlinks=True)
        process = data.start(run, ranks, **kind)
        wait_for_checkpoint(run, begun + overlap // 2, process)
        kill_ranks(run)
        process.communicate(timeout=60)
        assert not ranks_of(run)
        if begun + overlap // 2 <= newest_step(run) <= begun + overlap and begun + overlap not in minings(run):
            return
        shutil.rmtree(run)
        if before.exists():
            before.rename(run)
    pytest.fail("every kill came too late")


@pytest.mark.parametrize("ranks, then", [(2, 2), (3, 2)])
@pytest.mark.parametrize("kind", [AT_ONCE, OVERLAPPED], ids=["at once", "overlapped"])
def test_killed_while_it_mines(data, tmp_path, kind, ranks, then):
    """In the first mining, and in the next."""
    straight, run = tmp_path / "straight", tmp_path / "killed"
    data.train(straight, ranks, **kind)
    overlap = int(str(kind.get("mining.overlap", 0)))
    assert [STEPS + overlap, STEPS + 5 + overlap] == list(minings(straight))[:2]
    for begun in (STEPS, STEPS + 5):
        kill_in_mining(data, run, begun, ranks, **kind)
    assert "resuming from" in data.train(run, then, **kind).stderr

    expected, found = losses(straight), losses(run)
    assert list(found) == list(range(1, 3 * STEPS + 1))
    assert list(minings(run)) == list(minings(straight))
    if ranks == then:
        assert found == expected and minings(run) == minings(straight), "to the bit"
        assert (run / "model/model.safetensors").read_bytes() == (straight / "model/model.safetensors").read_bytes()
    else:
        assert found == pytest.approx(expected, rel=2e-4)
        for step, counts in minings(run).items():
            assert counts["kept"] == pytest.approx(minings(straight)[step]["kept"], rel=0.01)


def test_a_disk_that_is_full_when_lists_are_saved(data, small_disk, tmp_path):
    """Training goes on, to one line in the end; what was saved before is good, and the run goes on from it once there is room."""
    straight = tmp_path / "straight"
    data.train(straight, 2, **OVERLAPPED)
    disk = small_disk("24m")
    run = disk / "run"
    process = data.start(run, 2, **OVERLAPPED)
    wait_for_checkpoint(run, STEPS, process)  # the next checkpoint holds lists in the making
    while process.poll() is None:  # what is given up leaves room for what comes after
        fill(disk)
        time.sleep(0.005)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2, err
    complaint = [line for line in err.splitlines() if line.startswith("vixen: ")]
    assert len(complaint) == 1 and str(run) in complaint[0] and "No space left" in complaint[0], err
    assert not list((run / "checkpoints").glob("*.partial"))
    saved = newest_step(run)
    assert saved >= STEPS - 1 and data.run("inspect", run / "checkpoints" / f"step-{saved:08}").returncode == 0
    (disk / "filler").unlink()
    assert "resuming from" in data.train(run, 2, **OVERLAPPED).stderr
    assert losses(run) == losses(straight) and minings(run) == minings(straight)
