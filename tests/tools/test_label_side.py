"""tools/bench/label_side.py: the same search and steps at two world sizes, their memory, and a program that answers otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_export import VIXEN, place  # noqa: F401  (place: the fixture)

pytestmark = pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
TOOL = Path(__file__).parents[2] / "tools/bench/label_side.py"


def unit_rows(path: Path, n: int, seed: int) -> Path:
    rows = np.random.default_rng(seed).standard_normal((n, 16))
    with h5py.File(path, "w") as file:
        file["embeddings"] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    return path


def measure(place: Path, folder: Path, *more) -> subprocess.CompletedProcess:  # noqa: F811
    corpus, queries = unit_rows(folder / "l.h5", 1500, 1), unit_rows(folder / "q.h5", 40, 2)
    words = ["--corpus", corpus, "--queries", queries, "--k", 5, "--ranks", 1, 3, "--steps", 2, "--out", folder / "side.json", *more]
    train = [
        "--data.path",
        place / "bert.h5",
        "--model.path",
        place / "models/bert",
        "--train.batch_size",
        12,
        "--prototype.free_vectors",
        2,
    ]
    command = [sys.executable, *map(str, [TOOL, *words, "--", *train, "--train.epochs", 2])]
    return subprocess.run(command, capture_output=True, text=True, timeout=250)


def test_world_sizes_are_compared(place, tmp_path):  # noqa: F811
    done = measure(place, tmp_path, "--binary", VIXEN)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "side.json").read_text())
    assert [cell["ranks"] for cell in report["cells"]] == [1, 3]
    for cell in report["cells"]:
        assert cell["ids_equal"] is True
        assert len(cell["train"]["losses"]) == 2
        assert cell["train"]["label_side_bytes_of_a_rank"] < 1e5  # 0.0 MB, as the log says it
        for part in (cell["search"], cell["train"]):
            assert part["peak_bytes_of_a_rank"] > 0
            assert part["most_bytes_together"] > 0
    one, three = (cell["train"]["losses"] for cell in report["cells"])
    np.testing.assert_allclose(three, one, rtol=1e-5)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".label_side")]


def test_other_ids_are_an_error(place, tmp_path):  # noqa: F811
    # A program that searches other rows when it has more ranks than one.
    other = unit_rows(tmp_path / "other.h5", 1500, 3)
    liar = tmp_path / "liar"
    liar.write_text(f"""#!/bin/sh
if [ "$1" = search ] && [ "$OMPI_COMM_WORLD_SIZE" != 1 ]; then exec {VIXEN} "$@" --search.corpus {other}; fi
exec {VIXEN} "$@"
""")
    liar.chmod(0o755)
    done = measure(place, tmp_path, "--binary", liar)
    assert done.returncode == 1, done.stderr
    assert [cell["ids_equal"] for cell in json.loads((tmp_path / "side.json").read_text())["cells"]] == [True, False]
