"""tests/clang_tidy.py: which sources stand for what changed, against which commit, and how clang is told of them."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "clang_tidy.py"
spec = importlib.util.spec_from_file_location("clang_tidy", SCRIPT)
assert spec and spec.loader
clang_tidy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(clang_tidy)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout with one commit on main; call it with git's words."""
    monkeypatch.setattr(clang_tidy, "ROOT", tmp_path)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q", "-b", "main")
    for name, text in {
        "src/base/a.hpp": "",
        "src/base/a.cpp": '#include "base/a.hpp"\n',
        "src/base/only.hpp": "",
        "src/base/user.cpp": '#include "base/only.hpp"\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git("add", "-A")
    git("commit", "-qm", "one")
    return git


def test_the_base_is_where_the_branch_began_or_the_commit_before(repository, tmp_path):
    first = repository("rev-parse", "HEAD")
    assert clang_tidy.base_commit() is None, "the only commit has none before it"
    (tmp_path / "src/base/a.hpp").write_text("// changed\n")
    repository("commit", "-qam", "two")
    assert clang_tidy.base_commit() == first, "on the main branch"
    second = repository("rev-parse", "HEAD")
    repository("checkout", "-qb", "branch")
    for text in ("// three\n", "// four\n"):
        (tmp_path / "src/base/only.hpp").write_text(text)
        repository("commit", "-qam", text)
    assert clang_tidy.base_commit() == second
    (tmp_path / "src/base/user.cpp").write_text('#include "base/only.hpp"\n// not committed\n')
    assert clang_tidy.changed_files(second) == ["src/base/only.hpp", "src/base/user.cpp"]


def test_a_header_is_seen_through_its_source_or_one_that_includes_it(repository):
    compiled = {"src/base/a.cpp", "src/base/user.cpp"}
    assert clang_tidy.sources_of(["src/base/a.hpp"], compiled) == ["src/base/a.cpp"]
    assert clang_tidy.sources_of(["a.md", "src/base/only.hpp", "src/base/a.cpp"], compiled) == ["src/base/a.cpp", "src/base/user.cpp"]
    assert clang_tidy.sources_of(["src/kernels/x.cu"], compiled) == []


def test_clang_gets_the_text_of_the_precompiled_header(repository, tmp_path):
    build = tmp_path / "build/cpu"
    build.mkdir(parents=True)
    (build / "cmake_pch.hxx").write_text("#include <string>\n")
    command = f"g++ -Werror -Winvalid-pch -include {build}/cmake_pch.hxx -c {tmp_path}/src/base/a.cpp"
    files = [tmp_path / "src/base/a.cpp", tmp_path / "src/base/k.cu", build / "made.cpp"]
    (build / "compile_commands.json").write_text(json.dumps([{"file": str(file), "command": command, "directory": "."} for file in files]))
    assert clang_tidy.write_database(build, build / "tidy") == {"src/base/a.cpp"}
    (entry,) = json.loads((build / "tidy/compile_commands.json").read_text())
    assert entry["command"] == f"g++ -include {build}/tidy/pch0.hxx -c {tmp_path}/src/base/a.cpp"
    assert (build / "tidy/pch0.hxx").read_text() == "#include <string>\n"


def test_a_build_of_merged_sources_is_read_as_single_files(tmp_path, monkeypatch):
    cache = tmp_path / "CMakeCache.txt"
    cache.write_text("VIXEN_UNITY:BOOL=OFF\nCMAKE_BUILD_TYPE:STRING=Release\n")
    assert clang_tidy.folder_of_single_files(tmp_path) == tmp_path
    asked = []

    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(clang_tidy.subprocess, "run", run)
    cache.write_text("VIXEN_UNITY:BOOL=ON\nVIXEN_CUDA:BOOL=ON\nCMAKE_BUILD_TYPE:STRING=Release\n")
    assert clang_tidy.folder_of_single_files(tmp_path) == tmp_path / "single-files"
    wanted = ["-DVIXEN_UNITY=OFF", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]
    assert asked[0][-4:] == [*wanted, "-DCMAKE_BUILD_TYPE=Release", "-DVIXEN_CUDA=ON"]
