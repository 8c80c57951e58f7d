"""Folders of sentence-transformers: pooled as they say, to the same embeddings, or refused in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_add_prompts import byte_bpe, word_piece

from vixen_tools.program import mpi_environment

VIXEN = os.environ.get("VIXEN_BINARY", "")
pytestmark = pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
LABELS = ["red car", "big house", "green tree", "blue icon", "open arrow, closed", "left", "small red tree", "close the house"]


def embed(data: Path, model: Path, *more, code: int = 0) -> tuple[Any, str]:
    """Label embeddings of the untrained model, and standard error."""
    out = data.parent / "embedded.h5"
    command = [VIXEN, "embed", "--data.path", data, "--model.path", model, "--embed.side", "labels", "--embed.dtype", "fp32", "--out", out]
    done = subprocess.run(
        [*map(str, command), *map(str, more)],
        capture_output=True,
        text=True,
        timeout=100,
        env=mpi_environment(),
    )
    assert done.returncode == code, done.stderr
    if code:
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        return None, done.stderr
    with h5py.File(out) as file:
        return file["embeddings"][:], done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """bert/ and qwen2/ as Hugging Face folders with random weights, and a data set of each."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("folders")
    torch.manual_seed(5)
    bert = word_piece(folder / "bert")
    transformers.BertModel(
        transformers.BertConfig(
            vocab_size=300,
            max_position_embeddings=48,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            initializer_range=0.2,
        )
    ).save_pretrained(bert)
    (bert / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "model_max_length": 24}'
    )
    qwen2 = byte_bpe(folder / "qwen2")
    transformers.Qwen2Model(
        transformers.Qwen2Config(
            vocab_size=320,
            hidden_size=32,
            intermediate_size=56,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            initializer_range=0.2,
        )
    ).save_pretrained(qwen2)
    (qwen2 / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|endoftext|>", "model_max_length": 24, "padding_side": "right"}'
    )
    (folder / "raw").mkdir()
    lines = [{"uid": str(i), "title": text, "content": "", "target_ind": [i], "target_rel": [1.0]} for i, text in enumerate(LABELS)]
    for name in ("trn", "tst", "lbl"):
        (folder / f"raw/{name}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for model in ("bert", "qwen2"):
        subprocess.run(
            [
                sys.executable,
                Path(__file__).resolve().parents[2] / "tools/prepare_dataset.py",
                "--raw",
                folder / "raw",
                "--model",
                folder / model,
                "--out",
                folder / f"{model}.h5",
                "--max-length",
                "24",
            ],
            check=True,
            capture_output=True,
        )
    return folder


def pooled_folder(model: Path, target: Path, mode: str) -> Path:
    """The folder as sentence-transformers saves it, with this pooling."""
    from sentence_transformers import SentenceTransformer, models

    transformer = models.Transformer(str(model))
    pooling = models.Pooling(transformer.get_word_embedding_dimension(), pooling_mode=mode)
    SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu").save(str(target))
    shutil.copy(model / "tokenizer.json", target / "tokenizer.json")  # sentence-transformers rewrites it; the tokens are the same
    return target


def reference(folder: Path) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(LABELS, normalize_embeddings=True)


@pytest.mark.parametrize(
    "model, mode, key",
    [
        ("bert", "cls", "cls"),
        ("bert", "mean", "mean"),
        ("bert", "mean_sqrt_len_tokens", "mean"),
        ("qwen2", "lasttoken", "last"),
        ("qwen2", "mean", "mean"),
    ],
)
def test_the_pooling_that_the_folder_says(place, tmp_path, model, mode, key):
    folder = pooled_folder(place / model, tmp_path / "model", mode)
    data, plain = place / f"{model}.h5", ("--template.use", "no")
    found, log = embed(data, folder, *plain)
    assert np.abs(found - reference(folder)).max() <= 1e-5
    assert (f"model.pooling = {key}, as {folder / '1_Pooling/config.json'} says" in log) == (key != "mean")
    # the same by the key on a folder that says nothing, and the mean where the key asks for it
    assert np.array_equal(embed(data, place / model, *plain, "--model.pooling", key)[0], found)
    mean, log = embed(data, folder, *plain, "--model.pooling", "mean")
    assert np.array_equal(mean, embed(data, place / model, *plain)[0])
    assert (f"model.pooling = mean is taken, {folder / '1_Pooling/config.json'} says {key}" in log) == (key != "mean")


def test_other_modules_are_refused(place, tmp_path):
    folder = pooled_folder(place / "bert", tmp_path / "model", "max")
    line = embed(place / "bert.h5", folder, code=2)[1]
    assert "1_Pooling/config.json: the pooling is max, expected mean, cls or lasttoken" in line and "--model.pooling mean" in line
    found, log = embed(place / "bert.h5", folder, "--model.pooling", "mean")
    assert np.array_equal(found, embed(place / "bert.h5", place / "bert")[0]) and "the pooling is max" in log

    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode": "mean"}')
    assert "modules.json: module 2 is sentence_transformers.models.Dense" in embed(place / "bert.h5", folder, code=2)[1]


def test_a_run_keeps_the_pooling_it_was_trained_with(place, tmp_path):
    """The folder says cls; the run records it, for its own model folder says nothing."""
    folder = pooled_folder(place / "bert", tmp_path / "model", "cls")
    run = tmp_path / "run"
    command = [
        VIXEN,
        "train",
        "--data.path",
        place / "bert.h5",
        "--model.path",
        folder,
        "--run.dir",
        run,
        "--train.epochs",
        1,
        "--train.batch_size",
        8,
        "--train.method",
        "ngame",
        "--loss.negatives",
        2,
        "--train.lr",
        0,
    ]
    environment = mpi_environment()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    assert "\npooling = cls\n" in (run / "config.ini").read_text()
    out = tmp_path / "embedded.h5"
    done = subprocess.run(
        [VIXEN, "embed", "--run.dir", str(run), "--embed.side", "labels", "--embed.dtype", "fp32", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    with h5py.File(out) as file:
        assert np.abs(file["embeddings"][:] - reference(folder)).max() <= 1e-5, "nothing was learnt at a rate of 0"


def test_a_byte_order_mark_in_every_json_file(place, tmp_path):
    folder = pooled_folder(place / "bert", tmp_path / "model", "cls")
    expected = embed(place / "bert.h5", folder)[0]
    for path in folder.rglob("*.json"):
        if path.name != "tokenizer.json":  # its bytes are the data set's identity
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert np.array_equal(embed(place / "bert.h5", folder)[0], expected)


def test_a_tied_decoder_saved_by_save_model(place, tmp_path):
    """safetensors keeps one name of the shared table, here lm_head.weight; tie_word_embeddings says that it is the table."""
    import torch
    import transformers
    from safetensors.torch import load_file, save_model

    folder = tmp_path / "tied"
    shutil.copytree(place / "qwen2", folder)
    torch.manual_seed(6)
    config = transformers.Qwen2Config.from_pretrained(folder, tie_word_embeddings=True)
    model = transformers.Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    expected = embed(place / "qwen2.h5", folder)[0]
    save_model(model, str(folder / "model.safetensors"), metadata={"format": "pt"})
    tensors = load_file(folder / "model.safetensors")
    assert "lm_head.weight" in tensors and "model.embed_tokens.weight" not in tensors
    assert np.array_equal(embed(place / "qwen2.h5", folder)[0], expected)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "tie_word_embeddings": False}))
    assert "tensor embed_tokens.weight is missing" in embed(place / "qwen2.h5", folder, code=2)[1]
