"""Content hashes (docs/data-format.md): XXH3-64 of the bytes of datasets, computed while they are written, 16 hexadecimal digits."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xxhash


def hash_of(values: Iterable[int]) -> str:
    """One hash for several datasets: that of their hashes as 8-byte little-endian numbers, in order."""
    return f"{xxhash.xxh3_64_intdigest(b''.join(value.to_bytes(8, 'little') for value in values)):016x}"


class ContentHash:
    """XXH3-64 (seed 0) of a dataset's values, little-endian and row by row, block after block."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_64()

    def update(self, block: np.ndarray) -> None:
        if block.size:  # a view of no bytes cannot be made
            self._hash.update(np.ascontiguousarray(block, block.dtype.newbyteorder("<")).view(np.uint8).reshape(-1).data)

    def value(self) -> int:
        return self._hash.intdigest()
