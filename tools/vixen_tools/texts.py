"""What becomes of a text before the tokenizer sees it, and which texts show nothing."""

from __future__ import annotations

import unicodedata

from .errors import shown

# a tokenizer drops a zero byte and NEL or takes them for part of a word: they become blanks as every other line end does
_BLANKS = str.maketrans(dict.fromkeys((0, 9, 10, 11, 12, 13, 133, 8232, 8233), " "))


def clean_text(text: str) -> str:
    """One line of valid UTF-8 without blanks at its ends: tabs, line ends, zero bytes and NEL become blanks, lone surrogates '?'."""
    if text.isprintable():  # holds none of these
        return text.strip()
    return text.translate(_BLANKS).encode("utf-8", "replace").decode("utf-8").strip()


def is_invisible(text: str) -> bool:
    """Whether every character of a text that is not empty shows nothing: zero-width, format and control characters, blanks, fillers."""
    return not (text[0].isascii() and text[0].isalnum()) and all(map(_shows_nothing, text))


def _shows_nothing(character: str) -> bool:
    # what private use and a later Unicode put in a font is shown by it
    return character == " " or (shown(character) != character and unicodedata.category(character) not in ("Co", "Cn"))
