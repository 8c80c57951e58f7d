"""Numbers on a command line that a tool can use: argparse's types, which refuse with one line and exit code 2."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

LARGEST = (1 << 31) - 1


def whole(lowest: int = -LARGEST, highest: int = LARGEST) -> Callable[[str], int]:
    """A whole number within bounds: none that an array, a library in C or a seed cannot take."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text[:40]}' found, expected a whole number") from None
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"{text[:40]} found, expected a whole number from {lowest} to {highest}")
        return value

    return parse


def finite(text: str) -> float:
    """A number that is neither infinite nor none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text[:40]}' found, expected a finite number")
    return value


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    value = finite(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text[:40]} found, expected a number from 0 to 1")
    return value
