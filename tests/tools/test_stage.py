"""launch/stage: copies that are checked, shared, named after what they are of, and removed when nobody asks for them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

STAGE = Path(__file__).resolve().parents[2] / "launch/stage"


def stage(*arguments: object, code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run([str(STAGE), *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done


def copies(done: subprocess.CompletedProcess) -> dict[str, Path]:
    return {source: Path(copy) for source, copy in (line.split("\t") for line in done.stdout.splitlines())}


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "a model"
    (folder / "sub").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(os.urandom(3_000_000))
    (folder / "empty").write_bytes(b"")
    (folder / "sub/with a blank.txt").write_text("words\n")
    data = tmp_path / "data.h5"
    data.write_bytes(os.urandom(100_000))
    return folder, data


def test_a_copy_is_made_once_and_again_when_it_is_damaged(sources: tuple[Path, Path], tmp_path: Path) -> None:
    folder, data = sources
    node = tmp_path / "node/vixen"
    first = stage(node, folder, data)
    found = copies(first)
    assert list(found) == [str(folder), str(data)] and first.stderr.count("done in") == 2
    assert found[str(data)].name.endswith("-data.h5"), "as what it is read as"
    for path in sorted(folder.rglob("*")):
        copy = found[str(folder)] / path.relative_to(folder)
        assert copy.is_dir() if path.is_dir() else copy.read_bytes() == path.read_bytes()
    assert found[str(data)].read_bytes() == data.read_bytes()
    assert copies(stage("--where", node, folder, data)) == found

    before = found[str(data)].stat().st_mtime_ns
    second = stage(node, folder, data)
    assert copies(second) == found and second.stderr.count("is there") == 2 and "done in" not in second.stderr
    assert found[str(data)].stat().st_mtime_ns == before, "the second job copies nothing"

    with (found[str(folder)] / "weights.bin").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"damage")
    third = stage(node, folder, data)
    assert third.stderr.count("copied again") == 1 and "data.h5 is there" in third.stderr.replace(str(found[str(data)]), "data.h5")
    assert (found[str(folder)] / "weights.bin").read_bytes() == (folder / "weights.bin").read_bytes()
    (found[str(folder)] / "empty").unlink()
    assert stage(node, folder).stderr.count("copied again") == 1
    assert (found[str(folder)] / "empty").exists()


def test_a_source_that_has_changed_is_another_copy(sources: tuple[Path, Path], tmp_path: Path) -> None:
    _, data = sources
    old = copies(stage(tmp_path / "node", data))[str(data)]
    data.write_bytes(b"other content")
    new = copies(stage(tmp_path / "node", data))[str(data)]
    assert new != old and new.read_bytes() == b"other content" and old.exists()


def test_those_who_come_at_once_copy_once(sources: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = sources
    command = [str(STAGE), str(tmp_path / "node"), str(folder)]
    all_of_them = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=120) for process in all_of_them]
    assert all(process.returncode == 0 for process in all_of_them), said
    assert sum("done in" in err for _, err in said) == 1 and sum("is there" in err for _, err in said) == 3
    assert len({out for out, _ in said}) == 1


def test_what_nobody_asks_for_is_removed(sources: tuple[Path, Path], tmp_path: Path) -> None:
    folder, data = sources
    node = tmp_path / "node"
    old = copies(stage(node, folder))[str(folder)]
    long_ago = time.time() - 15 * 86400
    os.utime(f"{old}.used", (long_ago, long_ago))
    assert "removed" not in stage("--keep-days", 0, node, data).stderr and old.exists()
    assert "not asked for in 14 days, removed" in stage(node, data).stderr
    assert not list(node.glob(f"{old.name}*"))
    assert stage(node, data).stderr.count("is there") == 1


def test_mistakes_are_one_line(sources: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = sources
    assert stage(tmp_path / "node", tmp_path / "missing", code=2).stderr == f"[stage] {tmp_path}/missing: no such file or folder\n"
    assert "expected a number" in stage("--jobs", "many", tmp_path / "node", folder, code=2).stderr
    (tmp_path / "file").write_text("")
    assert stage(tmp_path / "file", folder, code=2).stderr == f"[stage] {tmp_path}/file: cannot be written\n"
