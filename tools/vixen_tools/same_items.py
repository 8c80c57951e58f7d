"""Test queries that are labels themselves, told by the 'uid' of raw files: nearest to the query of all labels, and hardly ever relevant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .errors import UserError
from .files import LineReader
from .raw import relevant_labels

OPTION = "--filter-same-uid"


def same_item_pairs(queries: Path, labels: Path, required: bool) -> np.ndarray:
    """Pairs int64 [n, 2] of (row of `queries`, row of `labels`), by row, that have one uid and whose label is not relevant.

    required: a row without a uid is a UserError; otherwise it is nobody's. Of a uid 64 bits of a hash are kept, so 16 bytes a label are
    in memory, and one pair in a billion billion (labels x queries) is made by chance.
    """
    hashes = np.fromiter((uid for uid, _ in _rows(labels, required)), np.int64)
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    pairs: list[tuple[int, int]] = []
    for number, (uid, (where, row)) in enumerate(_rows(queries, required)):
        first, last = np.searchsorted(hashes, uid), np.searchsorted(hashes, uid, "right")
        if uid and first < last:
            relevant = set(relevant_labels(where, row).tolist())
            pairs += [(number, label) for label in order[first:last].tolist() if label not in relevant]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _rows(path: Path, required: bool) -> Iterator[tuple[int, tuple[str, dict]]]:
    """Hash of the uid (0: has none), place and content of every row that was found to be one before."""
    for line, content in LineReader(path):
        if not content.strip():
            continue
        row = json.loads(content)
        uid, where = row.get("uid"), f"{path}:{line}"
        if type(uid) in (str, int) and uid != "":
            digest = hashlib.blake2b(str(uid).encode("utf-8", "surrogatepass"), digest_size=8).digest()
            yield int.from_bytes(digest, "little", signed=True) or 1, (where, row)
        elif required:
            found = "is missing" if "uid" not in row else f"is {json.dumps(uid)[:40]}"
            raise UserError(f"{where}: 'uid' {found}, expected a string or a whole number ({OPTION})")
        else:
            yield 0, (where, row)
