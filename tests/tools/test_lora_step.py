"""tools/bench/lora_step.py: both sides run whole steps of the same model and report them."""

import json
import os
import subprocess
import sys

import pytest
from conftest import TOOLS, WORDS, query, write_lines
from word_llama import PROMPT, save_word_tokenizer, word_llama

pytest.importorskip("peft")
pytestmark = pytest.mark.skipif("VIXEN_BINARY" not in os.environ, reason="VIXEN_BINARY is not set")
BATCH, MAX_LENGTH = 16, 12


@pytest.fixture
def decoder(tmp_path):
    """A random Llama of two layers with a tokenizer of words."""
    word_llama(WORDS, hidden_size=64, head_dim=16, intermediate_size=128).save_pretrained(tmp_path / "llama")
    save_word_tokenizer(WORDS, tmp_path / "llama")
    return tmp_path / "llama"


def test_both_sides_report_their_steps(tools, decoder, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    pairs = [f"{first} {second}" for first in WORDS[:6] for second in WORDS[6:]]
    write_lines(raw / "lbl.json", [{"uid": pair, "title": pair, "content": ""} for pair in pairs])
    write_lines(raw / "trn.json", [query(f"{pair} open", [place]) for place, pair in enumerate(pairs)])
    write_lines(raw / "tst.json", [query(pairs[0], [0])])
    data = tmp_path / "data.h5"
    tools.run("prepare_dataset.py", "--raw", raw, "--model", decoder, "--out", data, "--max-length", MAX_LENGTH)

    out = tmp_path / "bench.json"
    command = [
        sys.executable,
        TOOLS / "bench/lora_step.py",
        "--binary",
        os.environ["VIXEN_BINARY"],
        "--model",
        decoder,
        "--data",
        data,
        "--layers",
        1,
        "--batch-size",
        BATCH,
        "--rank",
        4,
        "--free-vectors",
        16,
        "--steps",
        2,
        "--threads",
        1,
        "--precisions",
        "fp32",
        "--systems",
        "vixen",
        "peft-checkpointing",
        "--out",
        out,
    ]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    assert len([line for line in result.stdout.splitlines() if line.startswith("| ")]) == 3
    vixen, peft = json.loads(out.read_text())["results"]
    for report in (vixen, peft):
        assert len(report["seconds"]) == 2 and min(report["seconds"]) > 0
        assert len(report["losses"]) == 3 and min(report["losses"]) > 0 and max(report["losses"]) < 2
        assert 1e7 < report["before_bytes"] <= report["peak_bytes"] < 1e10
    assert peft["positions"] == 2 * BATCH * (len(PROMPT[:3]) + MAX_LENGTH + 1), "prefix, padded text, closing"
    assert vixen["positions"] == pytest.approx(BATCH * (3 + 3 + 1 + 3 + 2 + 1), abs=1), (
        "a query of three words and a label of two, without pads"
    )
