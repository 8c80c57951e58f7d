"""Shared by the tests of the Python tools: a tiny tokenizer and raw folder, and tools run as a user runs them."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path[:0] = [str(TOOLS), str(TOOLS / "bench"), str(TOOLS.parent / "tests/fixtures")]
WORDS = ["red", "green", "blue", "big", "small", "car", "house", "tree", "icon", "arrow", "left", "right", "open", "close"]


@dataclass
class Result:
    returncode: str | int
    stdout: str
    stderr: str


class Tools:
    """Runs tools in this process (importing torch anew for each would take seconds), as `python tools/TOOL ...` does."""

    def run(self, tool: str, *arguments, code: int = 0) -> Result:
        command = [str(TOOLS / tool), *map(str, arguments)]
        out, err, argv = io.StringIO(), io.StringIO(), sys.argv
        sys.argv = command
        returncode: str | int = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                runpy.run_path(command[0], run_name="__main__")
        except SystemExit as exit:
            returncode = exit.code or 0
        finally:
            sys.argv = argv
        result = Result(returncode, out.getvalue(), err.getvalue())
        assert result.returncode == code, f"{command}\n{result.stdout}\n{result.stderr}"
        return result

    def fails(self, tool: str, *arguments) -> str:
        """The one line of an expected failure with exit code 2."""
        lines = self.run(tool, *arguments, code=2).stderr.strip().splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1 and lines[-1] == errors[0], lines
        assert not any("Traceback" in line for line in lines)
        return errors[0]


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools()


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A model folder of words as tokens: [CLS] words [SEP]; of the weights the embedding table."""
    import numpy as np
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    # as in real folders: settings that the tools must override
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(5)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(vocabulary)}))
    save_file({"embeddings.word_embeddings.weight": np.zeros((len(vocabulary), 2), np.float32)}, str(folder / "model.safetensors"))
    return folder


def write_lines(path: Path, rows: list[dict]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def query(title: str, labels: list[int], **more) -> dict:
    return {"uid": title, "title": title, "content": "", "target_ind": labels, "target_rel": [1.0] * len(labels), **more}


@pytest.fixture
def raw(tmp_path) -> Path:
    """4 training rows, 2 test rows, 3 labels, in the three spellings of a file's name."""
    folder = tmp_path / "toy"
    folder.mkdir()
    write_lines(
        folder / "trn.json.gz",
        [
            query("red car", [2, 0], images=["b.png"]),
            query("big house", [1]),
            query("green tree", [1, 2, 1], images=["a.png", "c.png"]),
            query("red house left right open close big", [0]),
        ],
    )
    write_lines(folder / "tst.jsonl", [query("blue car", [0], images=["c.png"]), query("tree", [])])
    write_lines(
        folder / "lbl.json", [{"uid": str(i), "title": title, "content": "open"} for i, title in enumerate(["car", "house", "tree"])]
    )
    (folder / "filter_labels_test.txt").write_text("1 2\n0 1\n1 0\n")
    return folder
