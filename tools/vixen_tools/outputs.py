"""Outputs, held against inputs and against what lies there, before any work: no tool writes over what it reads or what vixen did not write.

A file is vixen's by its content (`made_by_vixen`), a folder by the marker `.vixen.json` in it and by holding nothing else than what the
marker lists. The program has the same rules (docs/architecture.md).
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from . import VERSION
from .errors import UserError

MARKER = ".vixen.json"
TSV_HEAD = b"query\tquery_text\trank\tlabel\tlabel_text\tscore\n"
GENERATOR = '<meta name="generator" content="vixen'
SVG_GENERATOR = '<svg data-generator="vixen'
_TOOLS = (
    "add_prompts",
    "augment_grid",
    "baselines",
    "bench_search",
    "checkpoint_bench",
    "compact_images",
    "embed_images",
    "fetch_model",
    "import_official",
    "label_side",
    "lora_step",
    "make_bundle",
    "make_configs",
    "make_xmc",
    "mining_study",
    "pecos_run",
    "prepare_dataset",
    "report",
    "scaling_study",
    "seed_study",
    "sentence_transformers_run",
    "split_dataset",
    "time_to_accuracy",
    "world_study",
)
_MAKER = re.compile(rf"(?:vixen(?: [a-z]+)?|(?:{'|'.join(_TOOLS)})\.py) \d+\.\d+\.\d+\b")
_LARGEST_JSON = 64 << 20
_MOST_ENTRIES = 10000

Inputs = Mapping[str, Path | Iterable[Path] | None]
"""What a tool reads, by the option that names it: {"--raw": folder, "--images": None, ...}."""


def claim(
    out: Path, inputs: Inputs, option: str = "--out", others: Inputs | None = None, bytes_needed: int = 0, shared: Collection[str] = ()
) -> Path:
    """The path at which the file `out` can be written: where it leads to when it is a link, else itself. Nothing is changed.

    UserError: it is an input or another output (`others`), lies in an input folder, is something else than a file that vixen made or
    an empty one, its folder cannot be written, or has less than `bytes_needed` free. shared: options whose folder people keep their
    outputs in as well: a new file, or one that vixen made, may stand in it beside what is read.
    """
    real = _real(out, option)
    _hold_against_inputs(out, real, inputs, option, shared)
    for name, path in _flat(others or {}):
        if _same(real, path):
            raise UserError(f"{option} {out}: is the output {name} {path} as well: give another {option}")
    _check_file(out, real, option)
    _check_room(out, real, option, bytes_needed)
    return real if out.is_symlink() else out


def claim_folder(out: Path, inputs: Inputs, option: str = "--out", bytes_needed: int = 0) -> Path:
    """As claim(), of a folder that is written as a whole: nothing there, an empty one, or one that vixen made and nobody added to."""
    real = _real(out, option)
    _hold_against_inputs(out, real, inputs, option)
    _check_folder(out, real, option)
    _check_room(out, real, option, bytes_needed)
    return real if out.is_symlink() else out


def claim_collection(out: Path, inputs: Inputs, option: str = "--out") -> Path:
    """As claim(), of a folder in which a study keeps folders of its own beside whatever else is there, inputs too."""
    real = _real(out, option)
    _hold_against_inputs(out, real, inputs, option, may_hold=True)
    if os.path.lexists(real) and not real.is_dir():
        raise UserError(f"{option} {out}: exists and is no folder: give another {option}")
    _check_room(out, real, option, 0)
    return real if out.is_symlink() else out


def claim_edit(path: Path, inputs: Inputs, option: str, bytes_needed: int) -> Path:
    """As claim(), of a file that is there and is changed: the caller knows by its content that it is of the kind to change."""
    real = _real(path, option)
    _hold_against_inputs(path, real, inputs, option)
    if not real.is_file():
        raise UserError(f"{path}: no such file")
    _check_room(path, real, option, bytes_needed)
    return real


def check_replaceable(out: Path, folder: bool) -> None:
    """UserError when what lies at `out` now, right before it is replaced, is not vixen's."""
    if folder:
        _check_folder(out, out, "--out")
    else:
        _check_file(out, out, "--out")


def write_marker(folder: Path, tool: str, kind: str) -> None:
    """Writes the marker of a whole folder; call it when all other files are there. tool: its file's name; kind: what the folder is."""
    files = sorted(path.relative_to(folder).as_posix() for path in _files(folder))
    (folder / MARKER).write_text(marker_text(tool, kind, files), encoding="utf-8")


def marker_text(tool: str, kind: str, files: list[str]) -> str:
    """The marker's content; files: relative names."""
    return json.dumps({"created_by": f"{tool} {VERSION}", "kind": kind, "files": files}, indent=2) + "\n"


def is_marked(folder: Path) -> bool:
    """Whether a marker of vixen's lies in the folder."""
    return _marked_files(folder) is not None


def made_by_vixen(path: Path) -> bool:
    """Whether a file's content says that vixen or one of its tools wrote it; so does a file without content."""
    with open(path, "rb") as file:
        head = file.read(4096)
    if not head or head.startswith((TSV_HEAD, SVG_GENERATOR.encode())):
        return True
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _hdf5_maker(path)
    if head.lstrip()[:1] == b"{":
        return path.stat().st_size <= _LARGEST_JSON and _is_own_json(path)
    return head.lstrip().lower().startswith(b"<!doctype html") and GENERATOR.encode() in head


def created_by_vixen(value: object) -> bool:
    """Whether the value of a `created_by` names vixen or one of its tools."""
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    return isinstance(value, str) and _MAKER.match(value) is not None


def beside(out: Path, ending: str) -> str:
    """A hidden name beside `out`, short enough where that one is not: for what is there only while the output is made."""
    return f".{os.fsdecode(os.fsencode(out.name)[:120])}.{ending}"


def _real(out: Path, option: str) -> Path:
    try:
        real = out.resolve()
    except RuntimeError:
        raise UserError(f"{option} {out}: cannot write here (a loop of links)") from None
    _mode(out, real, option)
    return real


def _hold_against_inputs(out: Path, real: Path, inputs: Inputs, option: str, shared: Collection[str] = (), may_hold: bool = False) -> None:
    for name, path in _flat(inputs):
        if not path.exists():
            continue
        found = f"an input ({name} {path}): give another {option}"
        if _same(real, path):
            raise UserError(f"{option} {out}: is {found}")
        if not may_hold and any(_same(real, parent) for parent in path.resolve().parents):
            raise UserError(f"{option} {out}: holds {found}")
        if path.is_dir():
            beside = name in shared and _same(real.parent, path) and (not os.path.lexists(real) or (real.is_file() and made_by_vixen(real)))
            if not beside and any(_same(parent, path) for parent in real.parents):
                raise UserError(f"{option} {out}: lies in {found}")
            if not beside and real.is_file() and (linked := _entry_of(path, real)):
                raise UserError(f"{option} {out}: is a part of {found} (as {linked})")


def _flat(inputs: Inputs) -> Iterator[tuple[str, Path]]:
    for name, paths in inputs.items():
        for path in [paths] if isinstance(paths, (str, Path)) else paths or ():
            yield name, Path(path)


def _same(a: Path, b: Path) -> bool:
    """Whether two paths are one file or folder: links of both kinds and a file system that is blind to case count."""
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):
        return a == b.resolve()


def _entry_of(folder: Path, file: Path) -> str | None:
    """The name under which the file lies directly in the folder, by a link of either kind."""
    with os.scandir(folder) as entries:
        return next((entry.name for entry in itertools.islice(entries, _MOST_ENTRIES) if _same(Path(entry.path), file)), None)


def _check_file(out: Path, real: Path, option: str) -> None:
    mode = _mode(out, real, option)
    if mode is None:
        return
    if stat.S_ISDIR(mode):
        raise UserError(f"{option} {out}: is a folder, expected the name of a file")
    if not stat.S_ISREG(mode):
        raise UserError(f"{option} {out}: is no regular file: give another {option}")
    if not made_by_vixen(real):
        raise UserError(f"{option} {out}: exists and was not made by vixen: give another {option}, or remove it")


def _check_folder(out: Path, real: Path, option: str) -> None:
    mode = _mode(out, real, option)
    if mode is None:
        return
    if not stat.S_ISDIR(mode):
        raise UserError(f"{option} {out}: exists and is no folder: give another {option}, or remove it")
    if not any(real.iterdir()):
        return
    listed = _marked_files(real)
    if listed is None:
        raise UserError(f"{option} {out}: exists and was not made by vixen (no {MARKER}): give another {option}, or remove it")
    folders = {parent.as_posix() for name in listed for parent in Path(name).parents}
    for path in sorted(real.rglob("*")):
        name = path.relative_to(real).as_posix()
        if "__pycache__" in name.split("/") or path.name.startswith(".nfs"):  # Python's and NFS's own
            continue
        if name not in (folders if path.is_dir() and not path.is_symlink() else listed):
            raise UserError(f"{option} {out}: holds {name}, which vixen did not write: give another {option}, or remove it")


def _mode(out: Path, real: Path, option: str) -> int | None:
    """The kind of what lies there; None: nothing."""
    try:
        return os.stat(real).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # too long, a loop of links, a zero byte
        raise UserError(f"{option} {out}: cannot write here ({getattr(error, 'strerror', error)})") from None


def _marked_files(folder: Path) -> set[str] | None:
    """The files that the marker lists and itself; None without a marker of vixen's."""
    try:
        record = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        if created_by_vixen(record["created_by"]) and all(isinstance(name, str) for name in record["files"]):
            return {*record["files"], MARKER}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return None


def _check_room(out: Path, real: Path, option: str, bytes_needed: int) -> None:
    """UserError unless a file can be made in the folder, or in the nearest one that is there, and has the room."""
    folder = next((parent for parent in real.parents if os.path.lexists(parent)), real)
    try:
        if len(os.fsencode(real.name)) > os.pathconf(folder, "PC_NAME_MAX"):
            raise UserError(f"{option} {out}: cannot write here (File name too long)")
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"{option} {out}: cannot write here ({error.strerror})") from None
    if free < bytes_needed:
        raise UserError(
            f"{option} {out}: needs about {bytes_needed / 1e9:.3g} GB, its file system has {free / 1e9:.3g} GB free: give another {option}"
        )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _hdf5_maker(path: Path) -> bool:
    from .hdf5_file import open_hdf5

    try:
        with open_hdf5(path) as file:
            return created_by_vixen(file.attrs.get("created_by"))
    except Exception:  # damaged in whatever way: nothing says that it is vixen's
        return False


def _is_own_json(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    if created_by_vixen(content.get("created_by")):
        return True
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in content.values())
    return numbers and {"P@1", "queries", "labels"} <= content.keys()
