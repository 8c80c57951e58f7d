"""NaN, infinity and values out of range: named where they are read, never written, and right where they can be."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from refusals import assert_refused
from safetensors.numpy import load_file, save_file


def model_with(tiny, folder: Path, tensor: str, place: tuple, value: float) -> Path:
    """A copy of the tiny model with one value replaced (all of a tensor where place is empty)."""
    shutil.copytree(tiny.model, folder)
    tensors = {name: values.copy() for name, values in load_file(folder / "model.safetensors").items()}
    tensors[tensor][place] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    "tensor, place, value, shown",
    [
        ("encoder.layer.1.output.dense.weight", (7, 3), np.nan, "element [7, 3]: NaN"),
        ("embeddings.LayerNorm.bias", (31,), -np.inf, "element [31]: -infinity"),
    ],
)
def test_weights_in_every_command(tiny, tmp_path, tensor, place, value, shown):
    model = model_with(tiny, tmp_path / "model", tensor, place, value)
    expected = (str(model / "model.safetensors"), f"tensor {tensor} holds NaN or infinity ({shown})")
    out = tmp_path / "out.h5"
    common = ("--data.path", tiny.data, "--model.path", model)
    assert_refused(tiny.run("embed", *common, "--embed.side", "labels", "--out", out), *expected)
    assert not out.exists()
    assert_refused(tiny.run("evaluate", *common), *expected)
    assert_refused(tiny.run("inspect", model), *expected)
    for method in ("prime", "ngame"):
        run = tmp_path / method
        options = tiny.train_options(run, **{"model.path": model, "train.method": method})
        assert_refused(tiny.run("train", *options), *expected)
        assert not (run / "model").exists()


def test_outputs_that_overflow_are_not_written(tiny, tmp_path):
    model = model_with(tiny, tmp_path / "model", "encoder.layer.1.output.LayerNorm.weight", (), 3e38)
    result = tiny.run("embed", "--data.path", tiny.data, "--model.path", model, "--embed.side", "labels", "--out", tmp_path / "out.h5")
    assert_refused(result, str(model), "NaN or infinity", "overflow", at_work=True)
    assert list(tmp_path.glob("out*")) == []


def test_training_that_diverges_between_log_lines(tiny, tmp_path):
    options = tiny.train_options(
        tmp_path / "run",
        **{
            "train.lr": 1e30,
            "train.clip_norm": 0,
            "run.log_every_steps": 1000000,
            "train.evaluate_every_epochs": 0,
            "model.compute": "fp32",
        },
    )
    result = tiny.run("train", *options)
    assert result.returncode == 2, result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("vixen: ")]) == 1, result.stderr
    assert not (tmp_path / "run/model/config.json").exists()


def search(tiny, folder: Path, rows: np.ndarray, queries: np.ndarray, cosine: bool):
    with h5py.File(folder / "rows.h5", "w") as file:
        file["embeddings"] = rows
    with h5py.File(folder / "queries.h5", "w") as file:
        file["embeddings"] = queries
    return tiny.run(
        "search",
        "--search.corpus",
        folder / "rows.h5",
        "--search.queries",
        folder / "queries.h5",
        "--search.k",
        5,
        "--search.cosine",
        str(cosine).lower(),
        "--out",
        folder / "out.h5",
    )


@pytest.mark.parametrize("scale", [1e-300, 1e-60, 1e-30, 1.0, 1e30, 1e200, 1e307])
def test_cosine_of_small_and_large_rows(tiny, tmp_path, scale):
    random = np.random.default_rng(1)
    rows, queries = random.normal(size=(40, 12)), random.normal(size=(6, 12))
    expected = np.argsort(-(queries @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T), axis=1)[:, :5]
    rows[::2] *= scale
    result = search(tiny, tmp_path, rows, queries, cosine=True)
    assert result.returncode == 0, result.stderr
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["indices"][:], expected)
        assert np.abs(file["scores"][:]).max() <= 1 + 1e-6


def test_values_beyond_float32_are_named(tiny, tmp_path):
    rows = np.ones((9, 4))
    rows[6, 1] = -1e200
    result = search(tiny, tmp_path, rows, np.ones((2, 4)), cosine=False)
    assert_refused(result, f"{tmp_path}/rows.h5:/embeddings: row 6 holds -1e+200, beyond the range of float32")
