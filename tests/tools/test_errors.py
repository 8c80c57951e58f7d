"""The boundary of the Python tools: what comes from outside is one line and exit code 2, a bug is a trace and exit code 1."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest
from conftest import TOOLS

PREAMBLE = f"import sys; sys.path.insert(0, {str(TOOLS)!r})\nfrom pathlib import Path\nfrom vixen_tools.errors import *\n"


def run(body: str, environment: dict[str, str] | None = None, shell: str = "") -> subprocess.CompletedProcess:
    """A process whose main is `body`; `shell`: redirections behind it."""
    code = PREAMBLE + "def main():\n" + "".join(f"    {line}\n" for line in body.splitlines()) + "run_tool(main)\n"
    command = ["bash", "-c", f'"$0" -c "$1" {shell}', sys.executable, code]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **(environment or {})}, errors="surrogateescape"
    )


def line_of(result: subprocess.CompletedProcess, code: int = 2) -> str:
    assert result.returncode == code, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0].removeprefix("error: ")


@pytest.mark.parametrize(
    "body, expected",
    [
        ("raise UserError('a.txt:3: found x, expected y')", "a.txt:3: found x, expected y"),
        (
            "raise UserError('a\\nb\\u200b\\ufeff\\x1b[0m\\u202e\\udcff \\U000e0041.txt')",
            "a\\x0ab\\u200b\\ufeff\\x1b[0m\\u202e\\xff \\U000e0041.txt",
        ),
        ("open('x' * 300)", "x" * 300 + ": File name too long"),
        ("open(b'nothing\\xff')", "nothing\\xff: No such file or directory"),
        ("import os; os.rename('nothing', 'other')", "nothing -> other: No such file or directory"),
        ("raise OSError(5, 'Input/output error')", "Input/output error"),
        ("[0] * (1 << 62)", "out of memory: the machine has no more"),
        (
            "import numpy; numpy.empty(1 << 58, 'u1')",
            "out of memory: Unable to allocate 256. PiB for an array with shape (288230376151711744,) and data type uint8",
        ),
        (
            "import no_such_package.part",
            "the Python package no_such_package is not installed: launch/setup --tools installs those of all tools",
        ),
        (
            "raise ImportError('libcudnn.so.9: cannot open shared object file: No such file or directory')",
            "a library of a Python package is not installed (libcudnn.so.9: cannot open shared object file: No such file or "
            "directory): launch/setup --tools installs those of all tools",
        ),
        ("import h5py; h5py.File('/dev/full', 'w')", "/dev/full: No space left on device"),
    ],
)
def test_what_comes_from_outside_is_one_line(body, expected):
    assert line_of(run(body)) == expected


@pytest.mark.parametrize(
    "number", sorted({errno.ELOOP, errno.EINVAL, errno.ENOTEMPTY, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.ESTALE, errno.EMFILE})
)
def test_every_refusal_of_the_system_is_one_line(number):
    assert line_of(run(f"raise OSError({number}, {os.strerror(number)!r}, 'some/file')")) == f"some/file: {os.strerror(number)}"


@pytest.mark.parametrize(
    "body", ["1 / 0", "undefined", "assert False", "{}['x']", "'\\udcff'.encode()", "import vixen_tools.nothing", "from re import nothing"]
)
def test_a_bug_is_a_trace(body):
    result = run(body)
    assert result.returncode == 1 and "Traceback" in result.stderr and "error: " not in result.stderr


def test_other_endings():
    assert line_of(run("raise KeyboardInterrupt"), 130) == "interrupted"
    assert (run("return 1").returncode, run("sys.exit(3)").returncode, run("print('x')").stdout) == (1, 3, "x\n")
    assert run("import warnings; warnings.warn('two\\nlines')").stderr == "warning: two lines\n"


TEXT = r"print('gr\u00f6\u00dfe \u6f22 \udcff')"


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"PYTHONIOENCODING": "utf-8"}, "größe 漢 \\xff\n"),
        ({"PYTHONIOENCODING": "latin-1"}, os.fsdecode("größe \\u6f22 \\xff\n".encode("latin-1"))),
        ({"PYTHONIOENCODING": "ascii"}, "gr\\xf6\\xdfe \\u6f22 \\xff\n"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "gr\\xf6\\xdfe \\u6f22 \\xff\n"),
    ],
)
def test_any_text_can_be_shown(environment, expected):
    result = run(TEXT, environment)
    assert (result.returncode, result.stdout, result.stderr) == (0, expected, "")


@pytest.mark.parametrize(
    "body",
    [
        "print('x')",
        "for _ in range(100000): print('x' * 80)",
        "import argparse; argparse.ArgumentParser(description='d').parse_args(['--help'])",
    ],
)
@pytest.mark.parametrize("shell, expected", [("> /dev/full", "No space left on device"), (">&-", "is closed"), ("| true", "Broken pipe")])
def test_a_standard_output_that_fails(body, shell, expected):
    if shell == "| true":
        body, shell = "import time; time.sleep(.5)\n" + body, "| true; exit ${PIPESTATUS[0]}"
    assert line_of(run(body, shell=shell)) == f"standard output: {expected}"


def test_nothing_on_a_closed_standard_output_is_no_fault():
    assert run("Path('/dev/null').read_bytes()", shell=">&- <&-").returncode == 0
    assert run("raise UserError('x')", shell="2>&-").returncode == 2
    assert run("print('x', file=sys.stderr)", shell="2> /dev/full").returncode == 0


def test_a_file_opened_next_is_no_standard_stream(tmp_path):
    assert run(f"file = open({str(tmp_path / 'x')!r}, 'w'); print(file.fileno())", shell="2>&- <&-").stdout > "2"


@pytest.mark.parametrize(
    "body, expected",
    [
        ("import json; json.loads('[' * 100000)", "nested too deeply"),
        (
            "import json; json.loads('9' * 5000)",
            "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; "
            "use sys.set_int_max_str_digits() to increase the limit",
        ),
        (
            "import numpy; numpy.load(path)",
            "This file contains pickled (object) data. If you trust the file you can "
            "load it unsafely using the `allow_pickle=` keyword argument or `pickle.load()`.",
        ),
        ("raise type('PanicException', (BaseException,), {})('at the Rust side')", "at the Rust side"),
        ("raise ValueError(object())", "the file"),
        ("import struct; raise struct.error()", "error"),
        ("raise {}['x']", "'x'"),
    ],
)
def test_reading(tmp_path, body, expected):
    path = tmp_path / "file"
    path.write_bytes(b"something")
    assert line_of(run(f"path = Path({str(path)!r})\nwith reading(path, 'a table'): {body}")) == f"{path}: not a table: {expected}"


def test_reading_leaves_own_faults_and_says_the_system_s(tmp_path):
    result = run("with reading(Path('x'), 'a table'): open(Path('/'))")
    assert line_of(result) == "x: cannot be read: Is a directory"
    (tmp_path / "vixen_tools").mkdir()
    result = run(
        f"code = compile('undefined', {str(TOOLS / 'vixen_tools/x.py')!r}, 'exec')\nwith reading(Path('x'), 'a table'): exec(code)"
    )
    assert result.returncode == 1 and "NameError" in result.stderr
    assert "out of memory" not in line_of(run("with reading(Path('x'), 'a table'): [0] * (1 << 62)"))


@pytest.mark.parametrize(
    "content, kind",
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "a Git LFS pointer to the file, not the file itself (git lfs pull fetches it)",
        ),
        (b"\n<!DOCTYPE html><html>", "an HTML page, as a download leaves that was answered by a web page"),
        (b'<?xml version="1.0"?><Error>', "an XML document, as a download leaves that a server refused"),
        (b"PK\3\4rest", "a zip archive"),
        (b"\x1f\x8b\x08", "gzip data"),
        (b"\x80\x04\x95", "a pickle"),
        (b"", "empty"),
        (bytes(600), "nothing but zero bytes, as a download leaves that was cut short"),
        (b'{"a": 1}', "JSON text"),
        (b"\xff\xfe{\0", "UTF-16 text"),
        (b"GGUF\3\0\0\0", "a GGUF file"),
        (b"\x89HDF\r\n\x1a\n", None),
        (b"some text", None),
        (b"[section]\nkey = 1\n", None),
    ],
)
def test_what_a_file_is(tmp_path, content, kind):
    from vixen_tools.content import what_it_is

    path = tmp_path / "file"
    path.write_bytes(content)
    assert what_it_is(path, "a readable HDF5 file") == kind
    assert what_it_is(tmp_path, "a readable HDF5 file") == "a folder" and what_it_is(tmp_path / "nothing") is None


def test_writing_names_the_output_and_no_temporary(tmp_path):
    full = "import h5py, numpy\nout = Path('data.h5')\nwith writing(out):\n    h5py.File('/dev/full', 'w')"
    assert line_of(run(full)) == "data.h5: cannot be written: no space left on device"
    limited = f"out = Path({str(tmp_path)!r}) / 'data.h5'\nwith writing(out): (out.parent / '.data.h5.tmp').write_bytes(bytes(1 << 20))"
    result = subprocess.run(
        [
            "bash",
            "-c",
            'ulimit -f 4; "$0" -c "$1"',
            sys.executable,
            PREAMBLE + "def main():\n    " + limited.replace("\n", "\n    ") + "\nrun_tool(main)",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert line_of(result) == f"{tmp_path}/data.h5: cannot be written: file too large"
    assert line_of(run("with writing(Path('data.h5')): open('nothing')")) == "nothing: No such file or directory"


def test_long_lines_lose_their_middle():
    line = line_of(run(f"raise UserError({json.dumps('x' * 3000 + ': the reason')})"))
    assert len(line) < 1020 and line.endswith("xx: the reason")
