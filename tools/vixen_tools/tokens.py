"""Text to token ids with a Hugging Face folder's tokenizer.json, in batches on all cores."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np

from .errors import UserError, one_line
from .files import sha256


class TextTokenizer:
    """The tokenizer of a model folder; texts are cut at max_length tokens, special tokens included, and never padded."""

    def __init__(self, model: Path, max_length: int):
        from tokenizers import Tokenizer

        path = model / "tokenizer.json"
        if not path.is_file():
            raise UserError(f"{path}: no such file; expected a Hugging Face model folder (see tools/fetch_model.py)")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise UserError(f"{path}: not a tokenizer that the tokenizers library reads: {one_line(error)}") from None
        special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if max_length <= special:
            raise UserError(f"--max-length {max_length}: expected more than the {special} special tokens of {path}")
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self.name = model.resolve().name
        self.sha256 = sha256(path)
        self.max_length = max_length
        self.vocabulary = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Lengths int64 [n] and ids int32 [sum of lengths] of the texts."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=True)]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return lengths, np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum()))
