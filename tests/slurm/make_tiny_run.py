"""A model and a data set small enough that a training step takes milliseconds: random BERT, forty words, 256 queries.

Writes OUT/model (Hugging Face folder: 2 layers, 32 wide) and OUT/data.h5, the latter through tools/prepare_dataset.py.
"""

import argparse
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

ROOT = Path(__file__).resolve().parents[2]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [first + second for first in ("ba", "do", "ki", "lu", "me") for second in ("n", "r", "s", "t", "x", "l", "m", "p")]


def write_model(folder: Path) -> None:
    folder.mkdir(parents=True)
    vocabulary = {word: place for place, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    import torch

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder, safe_serialization=True)


def write_raw(folder: Path, n_train: int, n_test: int) -> None:
    """A label is two words; a query is the words of its labels, shuffled, so that there is something to learn."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    labels = [f"{a} {b}" for a, b in zip(WORDS, np.roll(WORDS, 7), strict=True)]

    def save(name: str, rows: list[dict]) -> None:
        with gzip.open(folder / f"{name}.json.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def queries(count: int, prefix: str) -> list[dict]:
        rows = []
        for number in range(count):
            truth = sorted({number % len(labels), *random.choice(len(labels), size=2).tolist()})
            words = [word for label in truth for word in labels[label].split()]
            rows.append(
                {
                    "uid": f"{prefix}{number}",
                    "title": " ".join(random.permutation(words)),
                    "content": "",
                    "target_ind": truth,
                    "target_rel": [1.0] * len(truth),
                }
            )
        return rows

    save("lbl", [{"uid": label, "title": label, "content": ""} for label in labels])
    save("trn", queries(n_train, "train"))
    save("tst", queries(n_test, "test"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    write_model(out / "model")
    write_raw(out / "raw", 256, 64)
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "tools/prepare_dataset.py"),
            "--raw",
            str(out / "raw"),
            "--model",
            str(out / "model"),
            "--out",
            str(out / "data.h5"),
            "--max-length",
            "16",
        ],
        check=True,
    )


if __name__ == "__main__":
    main()
