"""vixen doctor: a sound machine, and the troubles that can be made here."""

import json
import os
import resource
import subprocess
from functools import partial

import pytest

PARTS = ["versions", "CPUs", "memory", "ranks", "GPUs", "files", "collectives", "search", "kernels", "training", "rates"]


def findings(report: dict) -> dict[str, dict]:
    return {f"{part['part']}: {one['what']}": one for part in report["parts"] for one in part["findings"]}


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_sound_machine(tiny, tmp_path, ranks):
    result = tiny.run("doctor", "--doctor.dir", tmp_path, "--out", tmp_path / "doctor.json", "--threads", 1, ranks=ranks, timeout=200)
    report = json.loads((tmp_path / "doctor.json").read_text())
    assert [part["part"] for part in report["parts"]] == PARTS and report["ranks"] == max(ranks, 1)
    found = findings(report)
    wrong = [name for name, one in found.items() if one["health"] == "WRONG"]
    assert all(name.startswith("rates: ") for name in wrong), result.stdout  # other work here may slow one rank
    assert result.returncode == (1 if wrong else 0), result.stdout + result.stderr
    for what in (
        "files: HDF5",
        "files: shared folder",
        "search: exact search",
        "search: FAISS",
        "training: 2-means, CPU",
        "collectives: MPI",
        "ranks: clocks",
    ):
        assert found[what]["health"] == "ok", found[what]
        assert found[what]["ranks"] == list(range(max(ranks, 1))) or what.startswith("files: HDF5")
    assert any(name.startswith("kernels: CPU") and one["health"] == "ok" for name, one in found.items())
    assert all(one["advice"] for one in found.values() if one["health"] in ("note", "WRONG"))
    for heading in PARTS:
        assert f"\n{heading}\n" in "\n" + result.stdout
    assert ("Nothing wrong" in result.stdout.splitlines()[-1]) == (not wrong)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["doctor.json"], "what was tried is gone again"


def wrong_of(result: subprocess.CompletedProcess) -> list[str]:
    assert result.returncode == 1, result.stdout + result.stderr
    lines = [line for line in result.stdout.splitlines() if line.strip().startswith("WRONG")]
    return [line for line in lines if line.split()[1] not in ("products", "memory")]  # rates, which other work here may slow


def test_troubles_are_named(tiny, tmp_path):
    (tmp_path / "file").write_text("no folder")
    (line,) = wrong_of(tiny.run("doctor", "--doctor.dir", tmp_path / "file", timeout=200))
    assert "folder" in line and str(tmp_path / "file") in line
    (line,) = wrong_of(tiny.run("doctor", "--doctor.dir", tmp_path, "--device", "cuda", timeout=200))
    assert line.split()[1] == "GPUs"
    command = tiny.command("doctor", "--doctor.dir", tmp_path)
    limited = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    (line,) = wrong_of(subprocess.run(command, capture_output=True, text=True, preexec_fn=limited))
    assert "file size" in line and str(1 << 30) in line
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_more_ranks_than_cpus(tiny, tmp_path):
    cpu = min(os.sched_getaffinity(0))
    command = ["taskset", "-c", str(cpu), *tiny.command("doctor", "--doctor.dir", tmp_path, ranks=2)]
    lines = wrong_of(subprocess.run(command, capture_output=True, text=True, timeout=300))
    assert any("ranks a node" in line and "2 ranks on 1 CPUs" in line for line in lines), lines
