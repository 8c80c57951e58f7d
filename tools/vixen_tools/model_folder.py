"""What a Hugging Face model folder must be for vixen to read it: the rules of src/model/weights/{weight_files,safetensors}.cpp.

model.safetensors when it is there, else the shards of model.safetensors.index.json; other files are not looked at. A JSON file may begin
with a UTF-8 byte order mark. tests/fixtures/model_samples.py holds the samples that both sides must judge alike.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError, one_line, reading
from .files import read_json, sha256

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
METADATA = "__metadata__"
DEPTH = 100  # of a JSON file, as in src/base/json_file.cpp
# dtype of a float tensor -> how its bits are read, and the least of them (without the sign) that is no finite float32
FLOATS: dict[str, tuple[np.dtype[Any], int]] = {
    "F16": (np.dtype("<u2"), 0x7C00),
    "BF16": (np.dtype("<u2"), 0x7F80),
    "F32": (np.dtype("<u4"), 0x7F800000),
    "F64": (np.dtype("<u8"), 0x47EFFFFFF0000000),
}
# model_type that the program reads -> the embedding table's name and the prefix it may have
TABLES = {
    "bert": ("embeddings.word_embeddings.weight", "bert."),
    "distilbert": ("embeddings.word_embeddings.weight", "distilbert."),
    **dict.fromkeys(("qwen2", "qwen3", "llama", "mistral"), ("embed_tokens.weight", "model.")),
}
#: Tensors that the program computes with, whatever their prefix; poolers, heads and buffers may hold anything.
USED = re.compile(
    r"(?:^|\.)(?:embeddings\.(?:word|position|token_type)_embeddings\.|embeddings\.LayerNorm\.|encoder\.layer\.\d+\.|transformer\.layer\.\d+\.|"
    r"layers\.\d+\.|embed_tokens\.weight$|norm\.weight$)"
)
BLOCK_BYTES = 1 << 20  # of weights at a time: stays in a core's cache


def check_folder(folder: Path, name: str, checksums: dict[str, str], values: bool = True) -> None:
    """UserError unless the folder is a whole model with the checksums expected; `values`: and its weights are finite.

    Of an architecture that the program does not read (a vision model) the weights' names and types may be any.
    """
    for required in (CONFIG, TOKENIZER):
        if not (folder / required).is_file():
            raise UserError(f"{folder}: {name} has no {required}, expected a Hugging Face folder with it")
        read_object(folder / required)
    config, files = read_object(folder / CONFIG), check_weights(folder, name)
    known = isinstance(config.get("model_type"), str) and config["model_type"] in TABLES
    if known:
        if config.get("quantization_config") is not None:
            raise UserError(f"{folder / CONFIG}: quantization_config found, expected a model with float weights")
        check_table(folder, config, files)
    check_checksums(folder, checksums)
    if values:
        for path in files:
            check_finite(path, floats_only=known)


def check_checksums(folder: Path, checksums: dict[str, str]) -> None:
    """UserError unless each file (relative name) has its SHA-256."""
    for required, expected in checksums.items():
        found = sha256(folder / required)
        if found != expected:
            raise UserError(f"{folder / required}: SHA-256 is {found}, expected {expected}: another version or damaged")


def check_weights(folder: Path, name: str) -> list[Path]:
    """The files with the weights. UserError unless they are there, whole, and hold what the index places in each."""
    whole, index = folder / WEIGHTS, folder / INDEX
    if whole.exists():
        check_safetensors(whole)
        return [whole]
    if not index.exists():
        others = sorted(
            path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pt", ".pth", ".h5", ".onnx", ".gguf")
        )
        raise UserError(
            f"{folder}: {name} has no {WEIGHTS} (nor {INDEX}), expected its weights in that form"
            + (f"; {others[0]} is not read" if others else "")
        )
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index}: has no weight_map, expected an object of tensors and the files that hold them")
    for tensor, shard in places.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise UserError(
                f"{index}: weight_map.{tensor} is {one_line(json.dumps(shard), 80)}, expected the name of a file beside the index"
            )
    for shard in sorted(set(places.values())):
        path = folder / shard
        if not path.is_file():
            raise UserError(f"{path}: no such file, though {INDEX} places {sum(s == shard for s in places.values())} tensors there")
        held = check_safetensors(path)
        lost = sorted(tensor for tensor, place in places.items() if place == shard and tensor not in held)
        if lost:
            raise UserError(f"{path}: has no tensor {lost[0]}, though {INDEX} places it there")
    return [folder / shard for shard in sorted(set(places.values()))]


def check_safetensors(path: Path) -> set[str]:
    """The names of its tensors. UserError unless the safetensors library takes header and size, and no tensor is there twice."""
    from safetensors import safe_open

    with reading(path, "a readable .safetensors file"), safe_open(path, "np") as file:
        names = set(file.keys())
    with open(path, "rb") as file:
        text = file.read(int.from_bytes(file.read(8), "little"))
    keys = [key for key, _ in json.loads(text, object_pairs_hook=lambda pairs: pairs)]
    if len(keys) != len(set(keys)):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f"{path}: not a readable .safetensors file: tensor {twice} occurs twice")
    return names


def check_table(folder: Path, config: dict, files: list[Path]) -> None:
    """UserError unless the embedding table has one of the names that the program knows."""
    table, prefix = TABLES[config["model_type"]]
    allowed = {table, prefix + table}
    if table == "embed_tokens.weight" and config.get("tie_word_embeddings") is True:
        allowed.add("lm_head.weight")  # of two names of one tensor, safetensors' save_model keeps one
    if not any(allowed & check_safetensors(path) for path in files):
        raise UserError(
            f"{folder}: tensor {table} is missing (with or without the prefix {prefix}), expected the embedding table of "
            f"{CONFIG}'s model_type {config['model_type']}"
        )


def check_finite(path: Path, floats_only: bool) -> None:
    """UserError naming file and tensor when a weight that is computed with is no number, an infinity, or (`floats_only`) no float."""
    with open(path, "rb") as file:
        begin = 8 + (length := int.from_bytes(file.read(8), "little"))
        header = json.loads(file.read(length))
        for name, entry in header.items():
            if name == METADATA or not USED.search(name):
                continue
            if entry["dtype"] not in FLOATS:
                if floats_only:
                    raise UserError(f"{path}: tensor {name} has dtype {entry['dtype']}, expected one of {', '.join(FLOATS)}")
                continue
            bits, infinite = FLOATS[entry["dtype"]]
            first, last = entry["data_offsets"]
            file.seek(begin + first)
            for offset in range(0, last - first, BLOCK_BYTES):
                block = np.frombuffer(file.read(min(BLOCK_BYTES, last - first - offset)), bits)
                size = block & bits.type(np.iinfo(bits).max >> 1)  # without the sign, bits order as magnitudes do
                if size.size and size.max() >= infinite:
                    place = offset // bits.itemsize + int(np.argmax(size >= infinite))
                    where = ", ".join(map(str, np.unravel_index(place, entry["shape"]))) if entry["shape"] else ""
                    raise UserError(f"{path}: tensor {name} holds a NaN or an infinity at [{where}], expected finite weights: damaged?")


def read_object(path: Path) -> dict:
    """The object of a JSON file."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: is a JSON {type(value).__name__}, expected an object")
    level: list[dict | list] = [value]
    depth = 0
    while level:  # breadth first: the depth is not that of our own calls
        depth += 1
        if depth > DEPTH:
            raise UserError(f"{path}: not JSON: nested too deeply, expected at most {DEPTH} levels")
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
    return value
