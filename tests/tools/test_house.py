"""The house rules that a script can see: layering of src/, libraries kept to their room, files of readable size."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for path in (ROOT / "src").rglob("*") if path.suffix in {".cpp", ".hpp", ".cu", ".cuh", ".inl"})

# What a folder may include besides itself: everything below it (docs/architecture.md). Peers do not include each other.
LAYERS = [{"base"}, {"shard", "config", "device"}, {"comm", "kernels", "data"}, {"model", "cluster"}, {"search"}, {"train", "eval"},
          {"commands"}]
# A header that may be included in one folder only.
ROOMS = {"mpi.h": "comm", "nccl.h": "comm", "hdf5.h": "data", "faiss/": "search", "boost/program_options": "config"}
MAX_LINES = 600


def includes(path: Path) -> list[tuple[int, str]]:
    """(line number, what is between the quotes or brackets)."""
    pattern = re.compile(r'\s*#\s*include\s*[<"]([^>"]+)[>"]')
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(number, match.group(1)) for number, line in enumerate(lines, 1) if (match := pattern.match(line))]


def layer_of(folder: str) -> int:
    return next(place for place, folders in enumerate(LAYERS) if folder in folders)


def layering_faults(path: Path, folder: str) -> list[str]:
    known = set().union(*LAYERS)
    faults = []
    for number, name in includes(path):
        used = name.split("/")[0]
        if "/" in name and used in known and used != folder and layer_of(used) >= layer_of(folder):
            faults.append(f"{path.relative_to(ROOT)}:{number}: {folder} must not include {name}")
    return faults


def room_faults(path: Path, folder: str) -> list[str]:
    return [f"{path.relative_to(ROOT)}:{number}: {name} belongs to src/{room} only" for number, name in includes(path)
            for start, room in ROOMS.items() if name.startswith(start) and folder != room]


def folder_of(path: Path) -> str | None:
    parts = path.relative_to(ROOT / "src").parts
    return parts[0] if len(parts) > 1 else None


def test_every_folder_has_its_layer():
    folders = {folder for path in SOURCES if (folder := folder_of(path))}
    assert folders and folders <= set().union(*LAYERS)


def test_includes_go_downward_only():
    assert [fault for path in SOURCES if (folder := folder_of(path)) for fault in layering_faults(path, folder)] == []


def test_libraries_stay_in_their_room():
    assert [fault for path in SOURCES if (folder := folder_of(path)) for fault in room_faults(path, folder)] == []


def test_cuda_files_do_not_see_torch():
    faults = [f"{path.relative_to(ROOT)}:{number}: {name}" for path in SOURCES if path.suffix in {".cu", ".cuh"}
              for number, name in includes(path) if name.startswith(("torch/", "ATen/", "c10/"))]
    assert faults == []


def test_files_are_of_readable_size():
    scripts = [path for folder in ("tools", "tests", "launch", "slurm") for path in (ROOT / folder).rglob("*")
               if path.suffix in {".py", ".cpp", ".hpp", ".sh"}]
    long = {str(path.relative_to(ROOT)): count for path in [*SOURCES, *scripts]
            if (count := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES}
    assert long == {}


@pytest.mark.parametrize(("folder", "line", "faulty"), [
    ("model", '#include "train/trainer.hpp"', True),
    ("comm", '#include "kernels/norm.hpp"', True),
    ("train", '#include "model/encoder.hpp"', False),
    ("base", '#include "base/check.hpp"', False),
])
def test_the_layering_check_sees_a_fault(tmp_path, monkeypatch, folder, line, faulty):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "src" / folder / "x.cpp"
    path.parent.mkdir(parents=True)
    path.write_text(f"#include <vector>\n{line}\n")
    assert bool(layering_faults(path, folder)) == faulty


def test_the_room_check_sees_a_fault(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "src" / "train" / "x.cpp"
    path.parent.mkdir(parents=True)
    path.write_text("#include <mpi.h>\n")
    assert room_faults(path, "train") and not room_faults(path, "comm")
