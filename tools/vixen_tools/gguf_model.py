"""A GGUF file as a Hugging Face model folder: dequantised weights, configuration and tokenizer.

transformers knows the architectures, the order of rows that llama.cpp stores q and k in, and how to build a tokenizer from
the file's vocabulary; here are what it leaves open and the checks around it.

Weights are written as bfloat16 by default. A Q4_1 weight w = d q + m (q of 4 bits, d and m of a block of 32) lies within d/2
of the weight it stands for; rounding it to bfloat16 moves it by at most |w| / 256, some 0.03 d, which is lost in that. Mapped
bfloat16 is what a frozen base is computed with on a GPU, and half the bytes. float32 keeps every dequantised value.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from .content import what_it_is
from .errors import UserError, reading
from .files import sha256
from .progress import waiting

MAGIC = b"GGUF"
DTYPES = ("bf16", "fp32")
#: What a converted folder says about where it comes from, so that another call can tell that it is up to date.
RECORD = "source.json"


def check_gguf(path: Path) -> None:
    """UserError unless the file begins as a GGUF file of a version that the library reads."""
    with open(path, "rb") as file:
        head = file.read(8)
    if head[:4] != MAGIC:
        kind = what_it_is(path)
        raise UserError(
            f"{path}: {f'is {kind}' if kind else f'begins with {head[:4]!r}'}, expected a GGUF file (which begins with {MAGIC!r})"
        )
    if len(head) < 8 or struct.unpack("<I", head[4:])[0] not in (2, 3):
        raise UserError(f"{path}: a GGUF file of an unknown version, expected version 2 or 3")


def convert(path: Path, out: Path, dtype: str) -> None:
    """Writes the folder `out`: config.json, model.safetensors, tokenizer.json, tokenizer_config.json and the record.

    UserError: not a GGUF file, cut short, or an architecture or tokenizer that transformers cannot take from GGUF.
    """
    check_gguf(path)
    print(f"{path.name}: dequantising to {dtype}", file=sys.stderr, flush=True)
    started = time.monotonic()
    import torch
    import transformers

    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        with waiting(f"{path.name}: dequantised"):
            model, tokenizer = load(path)
            model.to(torch.bfloat16 if dtype == "bf16" else torch.float32).save_pretrained(out)
            tokenizer.save_pretrained(out)
    finally:
        transformers.logging.set_verbosity(verbosity)
    tidy_tokenizer_config(out / "tokenizer_config.json")
    write_record(path, out, dtype)
    print(
        f"{path.name}: {model.config.model_type} of {model.num_parameters() / 1e6:.1f} M weights in {time.monotonic() - started:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def load(path: Path) -> tuple[Any, Any]:
    """transformers' model, float32, and tokenizer of the file."""
    import torch
    import transformers

    with reading(path, "a model that transformers can take from GGUF"):
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            output_loading_info=True,
            quantization_config=transformers.GgufConfig(dequantize=True),
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        split_as_stored(tokenizer, path)
    model.hf_quantizer = None  # its weights are plain ones now: save_pretrained refuses others
    lost = sorted([*report["missing_keys"], *report["unexpected_keys"]])
    if lost:
        raise UserError(f"{path}: {len(lost)} tensors do not fit its architecture {model.config.model_type}, the first is {lost[0]}")
    if len(tokenizer) > model.config.vocab_size:
        raise UserError(f"{path}: its tokenizer has {len(tokenizer)} tokens, its embedding table {model.config.vocab_size} rows")
    tidy(model.config)
    return model, tokenizer


def tidy(config: Any) -> None:
    """Leaves out what speaks of the GGUF file, and says numbers as they were before the file made them float32."""
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        if hasattr(config, name):
            delattr(config, name)
    for name in ("rms_norm_eps", "layer_norm_eps"):
        value = getattr(config, name, None)
        if isinstance(value, float):
            setattr(config, name, float(str(np.float32(value))))


def split_as_stored(tokenizer: Any, path: Path) -> None:
    """The file names the rule that splits text before the merges (tokenizer.ggml.pre); transformers lacks SmolLM's."""
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    from transformers.integrations.gguf.reader import read_gguf_metadata

    rule = read_gguf_metadata(str(path))[0].get("tokenizer.ggml.pre", "default")
    if rule == "smollm":  # every digit by itself, which shows behind two spaces, then GPT-2's rule
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
        )
    elif rule != "default" and rule not in GGUF_PRE_TOKENIZER_SPLITS:
        print(
            f"warning: {path}: splits text by the rule '{rule}', which is unknown here: its tokens may differ from the original's",
            file=sys.stderr,
        )


def tidy_tokenizer_config(path: Path) -> None:
    """Leaves out how this machine read it; the class is named as every release of transformers knows it."""
    config = {
        key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if key not in ("is_local", "local_files_only")
    }
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_record(path: Path, out: Path, dtype: str) -> None:
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes for its owner only
    files = {file.name: sha256(file) for file in sorted(out.iterdir()) if file.name != RECORD}
    record = {"gguf": path.name, "sha256": sha256(path), "dtype": dtype, "files": files}
    (out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def is_converted(folder: Path, checksum: str, dtype: str) -> bool:
    """Whether the folder was made from the GGUF file with this checksum, in this precision, and stands as it was written."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return (
            (record["sha256"], record["dtype"]) == (checksum, dtype)
            and bool(record["files"])
            and all(sha256(folder / name) == expected for name, expected in record["files"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
