"""HDF5 files that can be written to the end of a full disk: HDF5 crashes when a write fails while it flushes or closes."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

ALIGNMENT_BYTES = 64


class _Store(io.FileIO):
    """A file that takes what cannot be written as written and keeps the failure, for the one who closes it."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        while len(view) and self.failure is None:
            view = view[self._try(functools.partial(super().write, view)) or len(view) :]
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        self._try(lambda: super(_Store, self).truncate(size))
        return size or 0

    def _try(self, action: Callable[[], int | None]) -> int | None:
        try:
            return action()
        except OSError as error:
            self.failure = error
            return None


@contextmanager
def hdf5_output(path: Path, mode: str, aligned: bool = True) -> Iterator[h5py.File]:
    """An HDF5 file to write ("w") or change ("r+"), readable by HDF5 1.8 and later; `aligned`: every new dataset begins at a multiple of
    64 bytes. What the file system refuses is an OSError at the latest when it is closed."""
    alignment = {"alignment_threshold": 1, "alignment_interval": ALIGNMENT_BYTES} if aligned else {}
    with _Store(path, {"w": "w+", "r+": "r+"}[mode]) as store:
        try:
            with h5py.File(store, mode, libver=("earliest", "v108"), **alignment) as file:
                yield file
        except Exception:
            # HDF5 reads back what could not be written, and finds it damaged
            if store.failure is None:
                raise
        if store.failure is not None:
            raise store.failure from None
