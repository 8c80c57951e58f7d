#!/usr/bin/env python3
"""Checks that src/ keeps its layering: what a folder may include, where foreign headers may appear, how long files get.

    check_layering.py [SRC]      prints one line a fault and exits with 1 when there is any

The order of folders is that of docs/architecture.md: a folder includes itself and lower ones, never its peers.
"""

import pathlib
import re
import sys
from collections.abc import Iterator

# Lowest first; folders of one line are peers.
LAYERS = [
    ["base"],
    ["shard", "config", "device"],
    ["kernels", "data"],
    ["comm"],
    ["model", "cluster"],
    ["search"],
    ["objective", "checkpoint", "prototypes", "retrieval"],
    ["sampling", "mining"],
    ["plan"],
    ["train", "eval"],
    ["bench"],
    ["doctor"],
    ["commands"],
    ["main.cpp"],
]
LEVEL = {folder: level for level, folders in enumerate(LAYERS) for folder in folders}

# Subfolders that are layers of their own: which others of their folder each may include (and all files of the folder
# itself). A subfolder that is not listed is free.
PARTS = {
    "model": {
        "weights": set(),
        "adapters": {"weights"},
        "fusion": {"weights", "adapters"},
        "bert": {"weights", "adapters"},
        "decoder": {"weights", "adapters"},
    },
}

# Headers that have one room: (pattern, folders that may include them).
ROOMS = [
    (r"mpi\.h", {"comm"}),
    (r"nccl\.h", {"comm"}),
    (r"hdf5(_hl)?\.h|H5\w*\.h", {"data"}),
    (r"faiss/.*", {"search"}),
    (r"boost/.*", {"config"}),
    (r"openssl/.*", {"base"}),
]
TORCH = re.compile(r"(torch|ATen|c10|caffe2)/")
NO_TORCH_FOLDERS = {"base", "shard", "config"}
SOURCES = {".hpp", ".cpp", ".h", ".cu", ".cuh", ".inl"}
MOST_LINES = 600
# Not defined anywhere: code under it would silently be gone.
CONDITION = re.compile(r"^\s*#\s*(?:if|ifdef|ifndef|elif)\b.*\bVIXEN_CUDA\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def folder_of(path: pathlib.Path, src: pathlib.Path) -> str:
    """The folder of src/ that a file belongs to; files of src/ itself stand for themselves."""
    return path.relative_to(src).parts[0]


def part_of(path: pathlib.PurePath) -> str:
    """The subfolder of FOLDER/SUBFOLDER/FILE, "" of FOLDER/FILE."""
    return "/".join(path.parts[1:-1])


def include_faults(folder: str, path: pathlib.Path, src: pathlib.Path, kind: str, header: str) -> Iterator[str]:
    """What is wrong with one include, as texts."""
    if kind == '"':
        target = header.split("/")[0]
        if "/" not in header or target not in LEVEL or not (src / header).is_file():
            yield f'"{header}" is no file of src/: expected "folder/file"'
        elif target != folder and LEVEL[target] >= LEVEL[folder]:
            what = "a peer" if LEVEL[target] == LEVEL[folder] else "a higher layer"
            yield f"{folder} includes {header}: {target} is {what}"
        elif target == folder:
            part, other = part_of(path.relative_to(src)), part_of(pathlib.PurePath(header))
            allowed = PARTS.get(folder, {}).get(part)
            if allowed is not None and other and other != part and other not in allowed:
                yield f"{folder}/{part} includes {header}: {folder}/{other} is not below it"
        return
    for pattern, rooms in ROOMS:
        if re.fullmatch(pattern, header) and folder not in rooms:
            yield f"<{header}> belongs to {', '.join(sorted(rooms))} only"
    if TORCH.match(header):
        if header == "torch/torch.h":
            yield "<torch/torch.h> takes 25 s to compile: include the ATen headers needed"
        if path.suffix in {".cu", ".cuh"}:
            yield f"<{header}> in a CUDA file: kernels take raw pointers and shapes"
        if folder in NO_TORCH_FOLDERS:
            yield f"<{header}>: {folder} knows no tensors"


def faults_of(src: pathlib.Path) -> Iterator[str]:
    """One line "path:line: fault" for everything wrong below `src`."""
    for path in sorted(p for p in src.rglob("*") if p.suffix in SOURCES and p.is_file()):
        folder = folder_of(path, src)
        if folder not in LEVEL:
            yield f"{path}:1: {folder} has no place in the layering (tools/check_layering.py)"
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > MOST_LINES:
            yield f"{path}:{len(lines)}: {len(lines)} lines, at most {MOST_LINES}"
        for number, line in enumerate(lines, 1):
            if CONDITION.match(line):
                yield f"{path}:{number}: VIXEN_CUDA in a condition: what a build lacks is another file (no_cuda.cpp)"
            match = INCLUDE.match(line)
            if match:
                for fault in include_faults(folder, path, src, *match.groups()):
                    yield f"{path}:{number}: {fault}"


def main() -> int:
    src = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "src")
    if not src.is_dir():
        print(f"{src}: no such folder", file=sys.stderr)
        return 2
    faults = list(faults_of(src))
    for fault in faults:
        print(fault)
    files = sum(1 for p in src.rglob("*") if p.suffix in SOURCES)
    print(f"{files} files, {len(faults)} faults")
    return 1 if faults or not files else 0


if __name__ == "__main__":
    sys.exit(main())
