"""Every sample of a model folder through tools/fetch_model.py and through the program: both read it, or both refuse it in one line
that names the same file and fault."""

from __future__ import annotations

import os
import subprocess

import pytest
from conftest import query, write_lines
from model_samples import SAMPLES, Sample, build, write_folder


@pytest.fixture(scope="session")
def dataset(tools, tmp_path_factory):
    """A data set of three labels, tokenised by the samples' tokenizer."""
    folder = tmp_path_factory.mktemp("samples")
    write_folder(folder / "model")
    (folder / "raw").mkdir()
    write_lines(folder / "raw/lbl.json", [{"title": title} for title in ("car", "house", "tree")])
    for stem in ("trn", "tst"):
        write_lines(folder / f"raw/{stem}.json", [query("red car", [0]), query("big house", [1])])
    tools.run("prepare_dataset.py", "--raw", folder / "raw", "--model", folder / "model", "--out", folder / "data.h5", "--max-length", 8)
    return folder / "data.h5"


def assert_line(line: str, sample: Sample) -> None:
    for part in sample.refused or ():
        assert part in line, line


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_fetch_model(tools, tmp_path, sample):
    folder = build(sample, tmp_path / "model")
    if sample.refused is None:
        tools.run("fetch_model.py", folder, "--out", tmp_path / "out")
        return
    assert_line(tools.fails("fetch_model.py", folder, "--out", tmp_path / "out"), sample)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.skipif("VIXEN_BINARY" not in os.environ, reason="VIXEN_BINARY names no program")
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_program(dataset, tmp_path, sample):
    folder = build(sample, tmp_path / "model")
    out = tmp_path / "labels.h5"
    data = dataset
    if sample.name == "tokenizer_with_mark":  # another tokenizer.json by its bytes
        pytest.skip("the program compares tokenizer.json with the data set's by its checksum alone")
    command = [
        os.environ["VIXEN_BINARY"],
        "embed",
        "--data.path",
        data,
        "--model.path",
        folder,
        "--embed.side",
        "labels",
        "--out",
        out,
        "--template.use",
        "no",
        "--run.log_level",
        "error",
    ]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace", timeout=120)
    if sample.refused is None:
        assert result.returncode == 0, result.stderr
        return
    lines = result.stderr.splitlines()
    assert (result.returncode, len(lines)) == (2, 1), result.stderr
    assert_line(lines[0], sample)
    assert not out.exists()
