"""Unfinished work beside an output, kept where the process is killed, so that the same command goes on from it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from . import VERSION
from .errors import UserError, writing
from .file_lock import open_locked
from .files import sync
from .outputs import beside, created_by_vixen

NOTE, LOCK, OUTPUT = "note.json", "lock", "data.h5"
_OWN = re.compile(r"note\.json|note\.tmp|lock|data\.h5|(?:label|train|test)\.[a-z]+(?:\.lengths)?")


class PartialWork:
    """The folder .OUT.partial, held by one process at a time. Use as a context manager: it is removed at the end and after an error,
    and stays after a kill or Ctrl-C.

    made_from: what decides the content of the work, by the name under which a person knows it. Work that was made from something else
    is thrown away, which is said. note: what was saved last, {} where work begins anew.
    """

    def __init__(self, out: Path, made_from: Mapping[str, str]):
        self._out, self._made_from = out, dict(made_from)
        self.folder = out.with_name(beside(out, "partial"))
        self.note: dict[str, Any] = {}

    def __enter__(self) -> PartialWork:
        try:
            self._lock = self._open_locked()
        except OSError as error:
            raise UserError(f"{self._out}: cannot write here ({error.strerror})") from None
        try:
            self._refuse_others()
            self.note = self._read_note()
            if not self.note:
                self.start_over()
        except BaseException:
            self._lock.close()
            raise
        self._writing = writing(self._out)
        self._writing.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt) and self.note:
            self._lock.close()
            print(
                f"{self._out}: what is done is kept in {self.folder.name} beside it, the same command goes on from there", file=sys.stderr
            )
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.close()
        self._writing.__exit__(kind, error, trace)

    def save(self, note: Mapping[str, Any]) -> None:
        """Puts down what is done, at once and for good; the caller has synced the files that it speaks of."""
        self.note = dict(note)
        record = {"created_by": f"vixen {VERSION}", "made_from": self._made_from, "note": self.note}
        temporary = self.folder / "note.tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.folder / NOTE)
        sync(self.folder)

    def start_over(self) -> None:
        """Removes all that is there but the lock."""
        self.note = {}
        # the note first: without it nothing counts as done
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name != NOTE):
            if path.name != LOCK:
                path.unlink()

    def _open_locked(self) -> BinaryIO:
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the folder was removed by the one who held it
                return open_locked(self.folder / LOCK, f"{self._out}: another process is writing it: wait for it, or give another --out")

    def _refuse_others(self) -> None:
        for path in sorted(self.folder.iterdir()):
            if not _OWN.fullmatch(path.name) or path.is_symlink() or not path.is_file():
                raise UserError(f"{self.folder}: holds {path.name}, which vixen did not write: remove it, or give another --out")

    def _read_note(self) -> dict[str, Any]:
        try:
            record = json.loads((self.folder / NOTE).read_text(encoding="utf-8"))
            if not created_by_vixen(record["created_by"]):
                return {}
            note, before = dict(record["note"]), dict(record["made_from"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return {}  # none was saved yet
        changed = [name for name in {**before, **self._made_from} if before.get(name) != self._made_from.get(name)]
        if changed:
            print(f"{self._out}: starting over, unfinished work beside it was made with another {', '.join(changed)}", file=sys.stderr)
            return {}
        return note
