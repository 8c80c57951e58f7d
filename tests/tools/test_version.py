"""The version stands once, in tools/vixen_tools/__init__.py: the program has it from there, and files that repeat it agree."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from vixen_tools import VERSION

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("arguments", [["--version"], ["version"], ["train", "--version"], ["bench", "--version"]])
def test_the_program_prints_it(arguments: list[str]) -> None:
    done = subprocess.run([os.environ["VIXEN_BINARY"], *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"vixen {VERSION}\n", "")


@pytest.mark.parametrize(
    "name, pattern",
    [
        ("CITATION.cff", r"^version: [\"']?([\w.]+)[\"']?$"),
        ("pyproject.toml", r"^version = \"([\w.]+)\"$"),
        ("CMakeLists.txt", r"^project\(vixen VERSION (\d[\w.]*)"),
    ],
)
def test_files_that_repeat_it_agree(name: str, pattern: str) -> None:
    path = ROOT / name
    found = re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE) if path.exists() else []
    assert set(found) <= {VERSION}, f"{name} names version {found}, tools/vixen_tools has {VERSION}"
