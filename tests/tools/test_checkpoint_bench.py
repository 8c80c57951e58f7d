"""tools/bench/checkpoint_bench.py: three ways, their checkpoints counted, and a program that fails named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_export import VIXEN, place  # noqa: F401  (place: the fixture)

pytestmark = pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
TOOL = Path(__file__).parents[2] / "tools/bench/checkpoint_bench.py"


def measure(place: Path, folder: Path, *more) -> subprocess.CompletedProcess:  # noqa: F811
    words = ["--steps", 12, "--every", 5, "--repeats", 1, "--out", folder / "found.json", *more]
    train = [
        "--data.path",
        place / "bert.h5",
        "--model.path",
        place / "models/bert",
        "--train.batch_size",
        4,
        "--prototype.free_vectors",
        2,
    ]
    return subprocess.run([sys.executable, *map(str, [TOOL, *words, "--", *train])], capture_output=True, text=True, timeout=250)


def test_three_ways_are_compared(place, tmp_path):  # noqa: F811
    done = measure(place, tmp_path, "--binary", VIXEN)
    assert done.returncode == 0, done.stderr
    ways = json.loads((tmp_path / "found.json").read_text())["ways"]
    assert list(ways) == ["none", "waited for", "behind the training"]
    assert ways["waited for"]["checkpoints"] == ways["behind the training"]["checkpoints"] >= 2
    assert ways["waited for"]["bytes"] == ways["behind the training"]["bytes"] > 0
    assert all(way["step_seconds"] > 0 for way in ways.values())
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_a_program_that_fails_is_named(place, tmp_path):  # noqa: F811
    done = measure(place, tmp_path, "--binary", "/bin/false")
    assert done.returncode == 2 and "/bin/false" in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.iterdir())
