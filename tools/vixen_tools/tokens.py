"""Text to token ids with a Hugging Face folder's tokenizer.json, in batches on all cores."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path

import numpy as np

from .errors import UserError, reading
from .files import sha256

# The pieces of a prompt that config/config.hpp asks for by default; a closing one only where it is one special token.
DEFAULT_PIECES = ("This product text", "and its image")
DEFAULT_CLOSINGS = ("<|endoftext|>", "<|end_of_text|>")


class TextTokenizer:
    """The tokenizer of a model folder; texts are cut at max_length tokens (None: never), special tokens included, and
    never padded. Pieces of a prompt are never cut and get no special tokens around them.

    bos_token: the special token that stands in front of every text, with nothing behind it (Llama's <|begin_of_text|>); -1 where
    there is none, and where texts are closed as well ([CLS] .. [SEP]), as encoders do.
    """

    def __init__(self, model: Path, max_length: int | None):
        from tokenizers import Tokenizer

        self._path = model / "tokenizer.json"
        if not self._path.is_file():
            raise UserError(f"{self._path}: no such file; expected a Hugging Face model folder (see tools/fetch_model.py)")
        with self._reading():
            # not from_file: a byte order mark in front is left out, as of every JSON file
            self._tokenizer = Tokenizer.from_buffer(self._path.read_bytes().removeprefix(codecs.BOM_UTF8))
            self.special = self._tokenizer.num_special_tokens_to_add(is_pair=False)  # around every text
        if max_length is not None and max_length <= self.special:
            raise UserError(f"--max-length {max_length}: expected more than the {self.special} special tokens of {self._path}")
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        with self._reading():
            self._look_up()
        self.name = model.resolve().name
        self.sha256 = sha256(self._path)
        self.max_length = max_length
        self._cut()

    def _reading(self) -> AbstractContextManager[None]:
        """Around every call of the library: what is wrong in a tokenizer.json may show only when a text is encoded."""
        return reading(self._path, "a tokenizer.json that the tokenizers library can use")

    def _look_up(self) -> None:
        self._special_ids = {number for number, token in self._tokenizer.get_added_tokens_decoder().items() if token.special}
        self.bos_token = self._find_bos()
        self.vocabulary = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Lengths int64 [n] and ids int32 [sum of lengths] of the texts."""
        with self._reading():
            rows = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=True)]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return lengths, np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum()))

    def encode_prompts(self, pieces: Iterable[str]) -> dict[str, list[int]]:
        """Token ids of each piece, tokenised by itself; one that the tokenizer does not know whole is a UserError."""
        prompts: dict[str, list[int]] = {}
        for piece in pieces:
            try:
                # a command line's bytes, whatever the locale takes them for
                piece = piece if piece.isprintable() else os.fsencode(piece).decode("utf-8")
            except UnicodeError:
                raise UserError(f"prompt '{piece[:80]}': not UTF-8") from None
            shown = f"'{piece[:80]}'"
            if not piece:
                raise UserError(f"prompt {shown}: is empty, expected a text (an empty string in a template needs no prompt)")
            ids = self._encode_piece(piece)
            if not ids:
                raise UserError(f"prompt {shown}: {self._path} makes no token of it, expected at least one")
            unknown = self._unknown_id()
            if unknown is not None and unknown in ids:
                raise UserError(f"prompt {shown}: {self._path} does not know all of it, its token {ids.index(unknown)} is the unknown one")
            prompts[piece] = ids
        return prompts

    def default_prompts(self) -> list[str]:
        """The default pieces that this tokenizer can encode."""
        pieces = [piece for piece in DEFAULT_PIECES if (ids := self._encode_piece(piece)) and self._unknown_id() not in ids]
        for closing in DEFAULT_CLOSINGS:
            number = self._tokenizer.token_to_id(closing)
            if number in self._special_ids and self._encode_piece(closing) == [number]:
                pieces.append(closing)
        return pieces

    def _encode_piece(self, piece: str) -> list[int]:
        self._tokenizer.no_truncation()
        with self._reading():
            ids = self._tokenizer.encode(piece, add_special_tokens=False).ids
        self._cut()
        return ids

    def _cut(self) -> None:
        if self.max_length is not None:
            self._tokenizer.enable_truncation(self.max_length)

    def _unknown_id(self) -> int | None:
        # models that do not say which it is (Unigram) call it <unk>
        return self._tokenizer.token_to_id(getattr(self._tokenizer.model, "unk_token", None) or "<unk>")

    def _find_bos(self) -> int:
        empty, some = (self._tokenizer.encode(text).ids for text in ("", "a"))
        plain = self._tokenizer.encode("a", add_special_tokens=False).ids
        if len(empty) == 1 and empty[0] in self._special_ids and some == empty + plain:
            return empty[0]
        return -1
