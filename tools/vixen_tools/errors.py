"""The boundary of all tools: a mistake of the user's is one line on stderr and exit code 2, as in the program itself; a bug is a trace.

Whatever comes from outside is turned into a UserError where its file is known: `reading` around calls of a library that reads a
file, `writing` around the making of an output. What is left for run_tool is what the operating system says by itself.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .content import what_it_is
from .terminal import escape, guarded_output

TOOLS = str(Path(__file__).resolve().parents[1])
LINE_LIMIT = 1000
#: how the loader says that a package lacks a library, as torch does beside a binary for CPUs (requirements-cpu.txt)
MISSING_LIBRARY = re.compile(r"lib[\w.+-]+: cannot open shared object file")
#: errno that only writing brings
OF_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# Invisible, though no category says so: fillers, the blank Braille cell, joiners and variation selectors.
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)}


class UserError(Exception):
    """The message is one line that names the file and line, what was found and what was expected."""


def run_tool(main: Callable[[], int | None]) -> None:
    """Runs a tool's main and ends the process where it fails. Exit code: what main returns; 2 after a UserError or what the
    operating system refuses (files, standard output, memory, a package that is missing); 130 after Ctrl-C; 1 with a trace after a bug."""
    formatwarning, warnings.formatwarning = warnings.formatwarning, lambda text, *_: f"warning: {shown(one_line(text))}\n"
    try:
        with guarded_output(), _echoes_dropped() as echoes:
            code, message = _outcome(main)
            if message:
                print(f"error: {_cut(shown(message))}", file=sys.stderr)
                gc.collect()
    finally:
        warnings.formatwarning = formatwarning
    if echoes:
        if not code:
            code = 2
            print(f"error: an HDF5 file was not written whole: {_cut(shown(reason(echoes[0])))}", file=sys.stderr)
        sys.stderr.flush()
        # HDF5 crashes when it ends with a file that it could neither write nor close
        os._exit(code)
    if code:
        sys.exit(code)


@contextmanager
def _echoes_dropped() -> Iterator[list[BaseException]]:
    """Drops what an HDF5 file that cannot be flushed says once more, and again, when it is collected: it was raised where it was written.

    The list holds what was dropped. h5py goes through both hooks.
    """
    hooks = (sys.excepthook, sys.unraisablehook)
    dropped: list[BaseException] = []

    def drop(error: BaseException | None, otherwise: Callable[[], None]) -> None:
        if isinstance(error, (OSError, RuntimeError)) and _is_raised_by_h5py(error):
            dropped.append(error)
        else:
            otherwise()

    sys.excepthook = lambda kind, error, trace: drop(error, lambda: hooks[0](kind, error, trace))
    sys.unraisablehook = lambda echo: drop(echo.exc_value, lambda: hooks[1](echo))
    try:
        yield dropped
    finally:
        sys.excepthook, sys.unraisablehook = hooks


def _is_raised_by_h5py(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.startswith("h5py")


def _outcome(main: Callable[[], int | None]) -> tuple[int, str]:
    """Exit code and error line of a tool's main; a bug passes through."""
    try:
        try:
            code = main() or 0
        except SystemExit as ending:  # of argparse, and of tools with a code of their own
            if isinstance(ending.code, str):
                raise
            code = ending.code or 0
        sys.stdout.flush()
        return code, ""
    except UserError as error:
        return 2, str(error)
    except KeyboardInterrupt:
        return 130, "interrupted"
    except OSError as error:
        return 2, _said_by_system(error)
    except MemoryError as error:
        return 2, f"out of memory: {one_line(error) or 'the machine has no more'}"
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if not package or package in _own_modules():
            raise
        return 2, f"the Python package {package} is not installed: launch/setup --tools installs those of all tools"
    except ImportError as error:
        if not MISSING_LIBRARY.match(str(error)):
            raise
        return 2, f"a library of a Python package is not installed ({one_line(error)}): launch/setup --tools installs those of all tools"


@contextmanager
def reading(path: Path | str, what: str) -> Iterator[None]:
    """What a library raises while it reads `path` becomes a UserError: "PATH: not WHAT: reason" (`what`: "a readable HDF5 file").

    Put calls of libraries in it and as little else as can be: an error of this repository's own code stays one. `path` may say more
    than a file ("images.zip: member a.png").
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except RecursionError:
        raise UserError(f"{path}: not {what}: nested too deeply") from None
    except MemoryError as error:
        raise UserError(f"{path}: not {what}, or too large for this machine's memory: {reason(error)}") from None
    except OSError as error:
        if error.errno is not None and not _is_format_error(error):
            raise UserError(f"{path}: cannot be read: {os.strerror(error.errno)}") from None
        raise UserError(f"{path}: not {what}: {_found(path, what, error)}") from None
    except ModuleNotFoundError:
        raise
    except Exception as error:
        if _is_own_fault(error):
            raise
        raise UserError(f"{path}: not {what}: {_found(path, what, error)}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of libraries in Rust, which derive it from BaseException
            raise
        raise UserError(f"{path}: not {what}: {_found(path, what, error)}") from None


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turns a refusal of the file system while `out` is made into a UserError that names it and no temporary name.

    HDF5 and shutil say the reason only in their text.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = _number_of(error)
        if number is None or not _is_of_output(error, number, out):
            raise
        raise UserError(f"{out}: cannot be written: {os.strerror(number).lower()}") from None


def shown(text: object) -> str:
    """The text with what cannot be seen in it escaped: control, zero-width, bidi and other format characters, odd blanks,
    undecodable bytes, unassigned ones."""
    return "".join(escape(c) if _is_invisible(c) else c for c in str(text))


def one_line(value: object, limit: int = 600) -> str:
    """The value's text on one line, cut at `limit` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def reason(error: BaseException, limit: int = 300) -> str:
    """What an exception of a library says, for a line that names the file already: no object's address, never empty."""
    text = re.sub(r"<?[\w.]+ object at 0x[0-9a-f]+>?", "the file", one_line(error, limit))
    refused = re.search(r"error message = '([^']*)'", text)
    return refused.group(1) if refused else text or type(error).__name__


def _found(path: Path | str, what: str, error: BaseException) -> str:
    kind = what_it_is(path, what) if isinstance(path, Path) else None
    return f"it is {kind}" if kind else reason(error)


def _is_invisible(character: str) -> bool:
    if " " <= character <= "~":
        return False
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp", "Zs") or ord(character) in _INVISIBLE or 0xE0100 <= ord(character) <= 0xE01EF


def _cut(text: str) -> str:
    """A long line without its middle: names stand at its beginning, reasons at its end."""
    return text if len(text) <= LINE_LIMIT else f"{text[: LINE_LIMIT // 2]} ... {text[-LINE_LIMIT // 2 :]}"


def _said_by_system(error: OSError) -> str:
    number = _number_of(error)
    name = re.search(r"(?:filename|name) = '([^']*)'", str(error))
    # the first argument of two is what the system was asked for, the second where it should go
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes, os.PathLike))]
    where = " -> ".join(names) or (name.group(1) if name else "")
    if number is None:
        return f"{where or 'a file'}: {reason(error)}"
    known = (
        error.strerror
        if number == error.errno and error.strerror and "\n" not in error.strerror and "errno = " not in error.strerror
        else None
    )
    return f"{where + ': ' if where else ''}{known or os.strerror(number)}"


def _number_of(error: BaseException) -> int | None:
    """The errno of an exception, also one that is only in its text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"errno = (\d+)|\[Errno (\d+)\]", str(error))
    return int(found.group(1) or found.group(2)) if found else None


def _is_of_output(error: BaseException, number: int, out: Path) -> bool:
    """Whether it was the output that was refused, and not a file read meanwhile."""
    name = getattr(error, "filename", None)
    if isinstance(name, (str, bytes)):
        path = Path(os.fsdecode(name))
        return path == out or (out.parent in path.parents and any(part.startswith(f".{out.name[:30]}") for part in path.parts))
    return number in OF_OUTPUT or "write failed" in str(error)


def _is_format_error(error: OSError) -> bool:
    """Libraries raise OSError for what is in a file as well; the operating system's own says no more than its number's text."""
    return error.errno in (0, None) or (
        error.filename is None and error.strerror != os.strerror(error.errno) and "errno = " not in str(error)
    )


def _is_own_fault(error: BaseException) -> bool:
    """A name that does not exist or a broken promise in a frame of ours. A library in C has no frame, so other types count as its."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    own = isinstance(error, (NameError, AssertionError)) or type(getattr(error, "obj", None)).__module__.startswith(
        ("vixen_tools", "__main__")
    )
    return own and trace is not None and trace.tb_frame.f_code.co_filename.startswith(TOOLS)


def _own_modules() -> set[str]:
    return {"vixen_tools", *(path.stem for path in Path(TOOLS).glob("**/*.py"))}
