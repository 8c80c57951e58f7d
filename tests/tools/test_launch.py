"""The launchers' choices: which preset is built where, which packages the CPU build needs, which sources are compiled together."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import unity_groups

ROOT = Path(__file__).resolve().parents[2]


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    "needs_gpu, release, gpu, built, environment, preset",
    [
        (False, "13.0", False, False, {}, "cuda"),
        (False, "12.8", False, False, {}, "cpu"),
        (True, "13.0", False, False, {}, "cpu"),
        (True, "13.0", True, False, {}, "cuda"),
        (True, "13.0", True, False, {"CUDA_VISIBLE_DEVICES": ""}, "cpu"),
        (True, "13.0", False, True, {}, "cuda"),
        (True, "12.8", True, False, {}, "cpu"),
        (True, "13.0", False, False, {"VIXEN_PRESET": "cuda"}, "cuda"),
    ],
)
def test_preset(tmp_path, needs_gpu, release, gpu, built, environment, preset):
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    script(tmp_path / "bin/nvcc", f"echo 'Cuda compilation tools, release {release}, V{release}.1'")
    script(tmp_path / "bin/nvidia-smi", f"echo '{'GPU 0: H100' if gpu else 'no devices'}'")
    if built:
        script(tmp_path / "build/cuda/src/vixen", "")
    code = f"vixen_preset_needs_gpu={int(needs_gpu)}; . {tmp_path}/launch/common.sh; echo $vixen_preset $(gpu_count)"
    own = {name: value for name, value in os.environ.items() if name not in ("VIXEN_PRESET", "CUDA_VISIBLE_DEVICES")}
    done = subprocess.run(
        ["bash", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**own, **environment, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
    )
    visible = gpu and environment.get("CUDA_VISIBLE_DEVICES") != ""
    assert done.stdout.split() == [preset, str(int(preset == "cuda" and visible))]


def test_cpu_list_is_what_libtorch_cpu_needs():
    """What libtorch_cpu.so and libc10.so name as needed is in a listed package or on every system; no package is listed without need."""
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements-cpu.txt").read_text(), re.MULTILINE))
    packages = {name: importlib.metadata.distribution(name) for name in pinned}
    assert {name: package.version.split("+")[0] for name, package in packages.items()} == pinned
    holds = {name: {file.name for file in package.files or ()} for name, package in packages.items()}
    library = Path(str(packages["torch"].locate_file("torch"))) / "lib"
    needed = set()
    for name in ("libtorch_cpu.so", "libc10.so"):
        dynamic = subprocess.run(["readelf", "-d", library / name], capture_output=True, text=True, check=True).stdout
        needed |= set(re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic))
    of_packages = {name: needed & files for name, files in holds.items()}
    assert all(of_packages.values()), of_packages
    rest = needed.difference(*of_packages.values())
    assert not [name for name in rest if not re.fullmatch(r"(lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|gomp)|ld-linux-.*)\.so\.\d", name)], rest


def test_sources_that_define_the_same_name_stay_apart():
    first = "namespace vixen {\nnamespace {\n\nint helper(int x) {\n  return x;\n}\n\n}  // namespace\n}  // namespace vixen\n"
    same = "namespace {\nstruct Other {};\nconstexpr int helper = 3;\n}  // namespace\n"
    public = "namespace vixen {\nint helper(double x) {\n  int inner = 2;\n}\n}\n"
    found = unity_groups.groups([first, same, public, "#define helper 1\n", "static void helper();\n"], 1000)
    assert found[0] != found[1] and len({found[i] for i in (0, 1, 3, 4)}) == 4
    assert found[2] in (found[0], found[1], found[3], found[4])
    assert unity_groups.own_names(first) == {"helper"} and unity_groups.own_names(public) == set()
    assert {"Other", "helper"} <= unity_groups.own_names(same)


def test_sources_together_are_no_longer_than_asked():
    texts = ["x\n" * lines for lines in (700, 600, 500, 400, 2000)]
    found = unity_groups.groups(texts, 1200)
    for group in set(found):
        members = [text.count("\n") for text, own in zip(texts, found, strict=True) if own == group]
        assert sum(members) <= 1200 or len(members) == 1


def test_groups_are_printed_in_the_order_given(tmp_path):
    (tmp_path / "a.cpp").write_text("namespace {\nint f() { return 1; }\n}  // namespace\n")
    (tmp_path / "b.cpp").write_text("\n")
    (tmp_path / "c.cpp").write_text("namespace {\nint f() { return 2; }\n}  // namespace\n")
    done = subprocess.run(
        [sys.executable, ROOT / "tools/unity_groups.py", "100", *(tmp_path / f"{n}.cpp" for n in "abc")],
        capture_output=True,
        text=True,
        check=True,
    )
    a, b, c = done.stdout.strip().split(";")
    assert a != c and b in (a, c)
