"""A small made-up source tree that a check of the real one is tried on."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile
import unittest
from typing import ClassVar

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"


def write_tree(root: pathlib.Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class TreeCheck(unittest.TestCase):
    """`tool` run on the files `good` with changes."""

    tool = ""
    good: ClassVar[dict[str, str]] = {}

    def run_on(self, changes: dict[str, str]) -> tuple[int, str]:
        with tempfile.TemporaryDirectory() as folder:
            write_tree(pathlib.Path(folder), {**self.good, **changes})
            done = subprocess.run([sys.executable, TOOLS / self.tool, folder], capture_output=True, text=True, check=False)
            return done.returncode, done.stdout

    def assert_fault(self, changes: dict[str, str], *words: str) -> None:
        code, text = self.run_on(changes)
        self.assertEqual(code, 1, text)
        self.assertIn(" 1 faults", text)
        for word in words:
            self.assertIn(word, text)
