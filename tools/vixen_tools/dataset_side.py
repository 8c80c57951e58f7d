"""One side of a data set while it is made: its spools on disk, which rows were kept, what was wrong, and how to go on behind a saved state.

n: rows read so far.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .ragged import RaggedSpool

_FAULTS = ("empty_texts", "zero_labels", "invisible")


@dataclass
class Fault:
    """How often, and the first line."""

    count: int = 0
    first_line: int = 0

    def add(self, line: int) -> None:
        self.first_line = self.first_line or line
        self.count += 1


class Side:
    """Spools of one side in `folder`, and the map from rows of the source to rows kept. state: what state() gave, to go on from there;
    OSError, EOFError or KeyError where files or numbers of it are missing.

    last_line: the source's line of the last row; done: whether the source was read to its end.
    """

    def __init__(self, folder: Path, name: str, state: dict[str, Any] | None = None):
        parts = {"tokens": np.int32, "images": np.int64, "texts": np.uint8, **({} if name == "label" else {"labels": np.int32})}
        self.empty_texts, self.zero_labels, self.invisible = Fault(), Fault(), Fault()
        self.rows_read = self.last_line = self.missing_images = 0
        self.done = False
        if state:
            for fault in _FAULTS:
                setattr(self, fault, Fault(**state[fault]))
            for key in ("rows_read", "last_line", "missing_images", "done"):
                setattr(self, key, state[key])
        self.spools: dict[str, RaggedSpool] = {}
        with contextlib.ExitStack() as opened:
            for part, dtype in parts.items():
                self.spools[part] = RaggedSpool(folder / f"{name}.{part}", dtype, state["spools"][part] if state else None)
                opened.callback(self.spools[part].close)
            # one flag a row, in a file as the rest
            self._kept = RaggedSpool(folder / f"{name}.kept", np.bool_, state["kept"] if state else None)
            opened.pop_all()

    def keep(self, keep: np.ndarray) -> None:
        """Whether each of the next rows is kept, bool."""
        self._kept.append(np.array([len(keep)]), keep)
        self.rows_read += len(keep)

    def row_map(self) -> np.ndarray:
        """int32 [n]: row kept as, -1 when dropped."""
        out, first, kept = np.empty(self.rows_read, np.int32), 0, 0
        for keep in self._kept.blocks():
            numbers = np.cumsum(keep, dtype=np.int32) + np.int32(kept - 1)
            out[first : first + len(keep)] = np.where(keep, numbers, np.int32(-1))
            first, kept = first + len(keep), int(numbers[-1]) + 1
        return out

    def state(self) -> dict[str, Any]:
        return {
            "rows_read": self.rows_read,
            "last_line": self.last_line,
            "missing_images": self.missing_images,
            "done": self.done,
            "spools": {part: spool.state() for part, spool in self.spools.items()},
            "kept": self._kept.state(),
            **{fault: asdict(getattr(self, fault)) for fault in _FAULTS},
        }

    def sync(self) -> None:
        for spool in (*self.spools.values(), self._kept):
            spool.sync()

    def close(self) -> None:
        for spool in (*self.spools.values(), self._kept):
            spool.close()
