"""mining_study.py: a whole study of a tiny backbone, taken up again, and what it refuses."""

from __future__ import annotations

import json

import pytest
from test_export import VIXEN, place  # noqa: F401  (place: the fixture)


def study(place, out, *more) -> list:  # noqa: F811
    command = ["bench/mining_study.py", "--binary", VIXEN, "--out", out, "--model", place / "models/bert", "--set", f"tiny={place}/bert.h5"]
    command += ["--mining", "columns=4,depth=6", "--ablations", "columns=2", "--ablate", "tiny", "--seeds", 0, 1, "--threads", 1]
    options = [
        "--data.images",
        "false",
        "--train.batch_size",
        12,
        "--train.epochs",
        2,
        "--loss.negatives",
        2,
        "--prototype.free_vectors",
        2,
    ]
    return [*command, *more, "--", *options]


@pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
def test_a_whole_study(tools, place, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    result = tools.run(*study(place, out))
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    measured = [(line["variant"], line["seed"]) for line in lines if line["variant"] != "plain, longer"]
    assert measured == [("plain", 0), ("mined", 0), ("mined, columns=2", 0), ("plain", 1), ("mined", 1)]
    for line in lines:
        epochs = line["epochs"]
        assert epochs > 2 if line["variant"] == "plain, longer" else epochs == 2
        assert line["cpu_seconds"] > 0 and line["seconds"] > 0 and 0 <= line["metrics"]["R@100"] <= 100 and line["deciles"]
    assert lines[0]["keys"] == {}
    of = {(line["variant"], line["seed"]): line for line in lines}
    assert of["mined", 0]["keys"] == {"mining.columns": "4", "mining.depth": "6"}
    assert of["mined, columns=2", 0]["keys"] == {"mining.columns": "2", "mining.depth": "6"}
    assert "| tiny, mined | 2 | 2 |" in result.stdout and "±" in result.stdout
    assert not list(out.glob("*run*")) and not (out / "answers.h5").exists()

    # What is missing is done alone, to the same numbers.
    kept = [line for line in (out / "results.jsonl").read_bytes().splitlines(True) if b'"mined, columns=2"' not in line]
    (out / "results.jsonl").write_bytes(b"".join(kept))
    tools.run(*study(place, out))
    added = (out / "results.jsonl").read_bytes().removeprefix(b"".join(kept)).splitlines()
    assert [json.loads(line)["metrics"] for line in added if b'"plain, longer"' not in line] == [of["mined, columns=2", 0]["metrics"]]
    assert "has other settings" in tools.fails(*study(place, out, "--mining", "columns=5,depth=6"))


def test_mistakes_are_one_line(tools, tmp_path):
    (tmp_path / "data.h5").write_bytes(b"")
    common = ["bench/mining_study.py", "--binary", "/bin/false", "--out", tmp_path / "out", "--model", tmp_path / "model"]
    data = ["--set", f"a={tmp_path}/data.h5"]
    for words, expected in (
        ([*data, "--ablate", "b"], "--ablate b: expected the name of a --set"),
        ([*data, "--ablations", "columns"], "--ablations columns: expected KEY=VALUE,... of section [mining]"),
        ([*data, "--mining", ""], "--mining: expected KEY=VALUE,... of section [mining]"),
        (["--set", f"a={tmp_path}/none.h5"], "none.h5: no such file"),
    ):
        assert expected in tools.fails(*common, *words)
