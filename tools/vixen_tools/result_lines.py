"""Results of a long study, one JSON object a line: written as they come, so that a study that is started again does what is missing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from . import VERSION
from .errors import UserError, one_line, reading
from .files import write_text
from .outputs import created_by_vixen


class ResultLines:
    """The lines of a file that one tool appends to; a last line without its end, of a tool that was killed, is taken away."""

    def __init__(self, path: Path, tool: str):
        self.path, self._tool = path, f"{tool} {VERSION}"
        self.lines: list[dict[str, Any]] = []
        if not path.is_file():
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        for number, text in enumerate(whole.splitlines(), 1):
            with reading(f"{path}: line {number}", "JSON"):
                line = json.loads(text)
            if not isinstance(line, dict) or not created_by_vixen(line.get("created_by")):
                raise UserError(f"{path}: line {number} was not written by vixen ({one_line(text.decode(errors='replace'), 60)})")
            self.lines.append(line)
        if len(whole) < len(data):
            if not self.lines:
                raise UserError(f"{path}: exists and was not made by vixen: give another name, or remove it")
            write_text(path, whole.decode(), edited=True)

    def find(self, **key: object) -> dict[str, Any] | None:
        """The first line with these values."""
        return next((line for line in self.lines if all(line.get(name) == value for name, value in key.items())), None)

    def add(self, line: dict[str, Any]) -> None:
        """Appends a line and waits until the disk has it."""
        line = {"created_by": self._tool, **line}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(line)
