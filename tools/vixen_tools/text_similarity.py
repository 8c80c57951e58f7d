"""Likeness of two short texts: shared trigrams of their words, in whatever order the words stand (PostgreSQL's pg_trgm)."""

from __future__ import annotations

import functools
import re

_WORD = re.compile(r"\w+")


def normal(text: str) -> str:
    """Letters' case, and what stands between the words, do not count: two texts that read the same become one."""
    return " ".join(_WORD.findall(text.casefold())) or " ".join(text.split())


@functools.lru_cache(maxsize=1 << 18)
def trigrams(text: str) -> frozenset[str]:
    """Of every word with two blanks in front and one behind it, so that beginnings count more than endings."""
    words = (f"  {word} " for word in normal(text).split())
    return frozenset(word[i : i + 3] for word in words for i in range(len(word) - 2))


def similarity(a: str, b: str) -> float:
    """Jaccard index of the trigrams, in [0, 1]; 0 where a text has none."""
    left, right = trigrams(a), trigrams(b)
    both = len(left & right)
    return both / (len(left) + len(right) - both) if both else 0.0
