"""A bundle is whole: it names no library that neither it, nor the machine's libc, nor torch has, and starts by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TOOLS

BUILD = Path(os.environ.get("VIXEN_BINARY", TOOLS.parent / "build/cuda/src/vixen")).resolve().parents[1]
#: No trace of where it was made, but for what any machine has.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "VIXEN_PYTHON": sys.executable}


@pytest.fixture(scope="module")
def bundle(tools, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    tools.run("make_bundle.py", "--build", BUILD, "--out", out, "--no-archive")
    return out / "vixen"


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=ENVIRONMENT | environment, timeout=100)


def test_every_library_is_somewhere(bundle):
    from make_bundle import OF_THE_MACHINE
    from vixen_tools.elf import ElfFile

    host = set(json.loads((bundle / "bundle.json").read_text())["host_libraries"])
    own = {path.name for path in (bundle / "lib").iterdir()}
    files = [path for path in (*bundle.glob("bin/*"), *bundle.glob("lib/**/*.so*")) if path.is_file()]
    assert {"vixen", "mpirun"} <= {path.name for path in files} and "libmpi.so.40" in own and "libtorch_cpu.so" in host
    for path in files:
        elf = ElfFile(path)
        assert all(name in own | host or OF_THE_MACHINE.match(name) for name in elf.needed()), (path, elf.needed())
        search_path = elf.search_path()
        assert search_path is None or search_path.startswith("$ORIGIN"), (path, search_path)
    assert not own & host and not any(OF_THE_MACHINE.match(name) for name in own)


def test_the_loader_takes_them_from_it(bundle):
    """What ldd would say: of the machine the C and C++ libraries, of Python's packages torch and what it brings."""
    from make_bundle import OF_THE_MACHINE

    torch = torch_path(bundle)
    found = run(bundle / "bin/vixen", LD_TRACE_LOADED_OBJECTS="1", LD_LIBRARY_PATH=torch).stdout
    assert "libmpi.so.40" in found and "not found" not in found
    site = str(Path(torch.split(":")[0]).parents[1])
    for line in found.splitlines():
        name, _, rest = line.strip().partition(" => ")
        place = rest.split(" (")[0]
        assert not place or str(place).startswith((f"{bundle}/", f"{site}/")) or OF_THE_MACHINE.match(name), line


def test_it_runs(bundle, tmp_path):
    done = run(bundle / "vixen", "--version")
    assert done.returncode == 0 and done.stdout.startswith("vixen "), done.stderr
    made = run(
        bundle / "bin/gpu_bench_inputs", "bert", tmp_path / "toy", 32, 2, 4, 64, 120, 128, 16, 40, LD_LIBRARY_PATH=torch_path(bundle)
    )
    assert made.returncode == 0, made.stderr
    words = ["--data.path", tmp_path / "toy/data.h5", "--model.path", tmp_path / "toy/model", "--run.dir", tmp_path / "run"]
    words += ["--train.epochs", 1, "--train.batch_size", 32, "--prototype.free_vectors", 8, "--threads", 1]
    done = run(bundle / "mpirun", "-n", 2, bundle / "vixen", "train", *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/metrics.json").is_file()


def torch_path(bundle: Path) -> str:
    return run(sys.executable, bundle / "launch/host_torch.py").stdout.strip()


def test_it_says_what_it_misses(bundle, tmp_path):
    done = run(bundle / "vixen", "--version", VIXEN_PYTHON="/no/python")
    assert done.returncode == 2 and done.stderr == "error: no /no/python here: VIXEN_PYTHON names a Python that has torch\n"
    wrong = tmp_path / "torch"
    wrong.mkdir()
    (wrong / "__init__.py").write_text("")
    done = run(bundle / "vixen", "--version", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2 and "no version.py that says which torch it is" in done.stderr
    (wrong / "version.py").write_text("__version__ = '2.10.0+cu130'\n")
    done = run(bundle / "vixen", "--version", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2 and "is torch 2.10.0+cu130, this bundle was built with 2.11" in done.stderr
    (wrong / "version.py").write_text("__version__ = '2.11.0+cu130'\n")
    done = run(bundle / "vixen", "--version", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2 and "comes without" in done.stderr and "libtorch_cpu.so" in done.stderr


def test_what_is_not_built_is_said(tools, tmp_path):
    (tmp_path / "build/src").mkdir(parents=True)
    assert "has no src/vixen: build it first" in tools.fails("make_bundle.py", "--build", tmp_path / "build", "--out", tmp_path / "out")
    (tmp_path / "build/src/vixen").write_text("")
    assert "has no tests/gpu_*: build them first" in tools.fails("make_bundle.py", "--build", tmp_path / "build", "--out", tmp_path / "out")


def test_search_paths_are_changed_in_place(tmp_path):
    from vixen_tools.elf import ElfFile
    from vixen_tools.errors import UserError

    copy = tmp_path / "vixen"
    copy.write_bytes((BUILD / "src/vixen").read_bytes())
    elf = ElfFile(copy)
    before = elf.search_path()
    assert before and elf.set_search_path("$ORIGIN/../lib")
    elf.write()
    assert ElfFile(copy).search_path() == "$ORIGIN/../lib" and ElfFile(copy).needed() == ElfFile(BUILD / "src/vixen").needed()
    with pytest.raises(UserError, match="has no room"):
        ElfFile(copy).set_search_path(before)
    (tmp_path / "text").write_text("no program")
    with pytest.raises(UserError, match="is no ELF file"):
        ElfFile(tmp_path / "text")
