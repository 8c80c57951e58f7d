#!/usr/bin/env python3
"""clang-tidy with warnings as errors: over what changed, within bounded time, or over the whole tree.

    tests/clang_tidy.py --build build/cpu [--base COMMIT] [--seconds 300] [--all] [FILE...]

Changed is what differs, committed or not, from where this branch left the main one (origin/main, else main), or, on that one itself,
from the commit before. A changed header is checked through the source of its name, else through the first one that includes it.
CUDA sources are left out: clang 14 does not know CUDA 13. What the time does not suffice for is named. Exit code 1 on findings,
77 where there is no clang-tidy or no compile_commands.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CANNOT = 77


def git(*words: str) -> str | None:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def base_commit() -> str | None:
    """Where the branch left the main one; on the main branch itself the commit before; None where there is none."""
    head = git("rev-parse", "HEAD")
    for main in ("origin/main", "main"):
        base = git("merge-base", "HEAD", main)
        if base and base != head:
            return base
    return git("rev-parse", "--verify", "-q", "HEAD~1")


def changed_files(base: str) -> list[str]:
    listed = git("diff", "--name-only", "--diff-filter=d", base) or ""
    return listed.splitlines()


def sources_of(changed: Iterable[str], compiled: set[str]) -> list[str]:
    """The compiled sources through which the changed files are seen, those that changed themselves first."""
    changed = [name for name in changed if name.startswith(("src/", "tests/"))]
    found = [name for name in changed if name in compiled]
    for name in changed:
        if not name.endswith((".hpp", ".inl")):
            continue
        own = re.sub(r"\.(hpp|inl)$", ".cpp", name)
        include = re.sub(r"^(src|tests)/", "", name)
        users = [own] if own in compiled else (git("grep", "-lF", f'#include "{include}"', "--", "*.cpp") or "").splitlines()
        found += [user for user in users if user in compiled][:1]
    return list(dict.fromkeys(found))


def folder_of_single_files(build: Path) -> Path:
    """`build`, or, where it compiles several sources at a time, a folder inside it that is configured to compile each by itself."""
    cache = dict(re.findall(r"^(\w+):\w+=(.*)$", (build / "CMakeCache.txt").read_text(), flags=re.M))
    if cache.get("VIXEN_UNITY") != "ON":
        return build
    folder = build / "single-files"
    wanted = ["-DVIXEN_UNITY=OFF", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]
    same = [f"-D{name}={cache[name]}" for name in ("CMAKE_BUILD_TYPE", "CMAKE_CUDA_COMPILER", "VIXEN_CUDA") if name in cache]
    done = subprocess.run(["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *wanted, *same], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{folder} cannot be configured:\n{done.stdout}{done.stderr}")
    return folder


def write_database(build: Path, out: Path) -> set[str]:
    """compile_commands.json as clang reads it: GCC's precompiled header replaced by its text. Returns the sources, relative to the root."""
    out.mkdir(parents=True, exist_ok=True)
    entries = json.loads((build / "compile_commands.json").read_text())
    headers: dict[str, str] = {}
    kept, names = [], set()
    for entry in entries:
        path = Path(entry["file"])
        if path.suffix != ".cpp" or not path.is_relative_to(ROOT) or path.is_relative_to(build):
            continue
        for header in re.findall(r"-include (\S+/cmake_pch\.hxx)", entry["command"]):
            if header not in headers:
                headers[header] = str(out / f"pch{len(headers)}.hxx")
                shutil.copyfile(header, headers[header])
            entry["command"] = entry["command"].replace(f"-include {header}", f"-include {headers[header]}")
        entry["command"] = re.sub(r" -(Winvalid-pch|Werror)\b", "", entry["command"])
        kept.append(entry)
        names.add(str(path.relative_to(ROOT)))
    (out / "compile_commands.json").write_text(json.dumps(kept))
    return names


def check(name: str, database: Path) -> tuple[str, str]:
    """What clang-tidy finds, empty when nothing, and how long it took."""
    command = ["clang-tidy", "-p", str(database), "--quiet", "--warnings-as-errors=*", "--extra-arg=-Wno-unknown-warning-option", name]
    begin = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    counted = r"^(\d+ warnings? (and \d+ errors? )?generated\.|Suppressed .*|Use -header-filter.*|\d+ warnings? treated as errors?)$\n?"
    said = re.sub(counted, "", done.stdout + done.stderr, flags=re.M).strip()
    return (said or f"clang-tidy: exit code {done.returncode}") if done.returncode else "", f"{time.monotonic() - begin:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True, help="a configured build folder")
    parser.add_argument("--base", help="compare with this commit")
    parser.add_argument("--seconds", type=float, default=300, help="no file is begun after so long (default 300)")
    parser.add_argument("--all", action="store_true", help="every source, without a limit of time")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("files", nargs="*", help="these sources, in place of those that changed")
    options = parser.parse_args()
    build = options.build.resolve()
    for missing, what in (
        (not shutil.which("clang-tidy"), "no clang-tidy here"),
        (not (build / "compile_commands.json").is_file(), f"{build} is not configured"),
    ):
        if missing:
            print(f"skipped: {what}")
            return CANNOT
    compiled = write_database(folder_of_single_files(build), build / "clang-tidy")
    if options.all:
        files = sorted(compiled)
    elif options.files:
        files = options.files
    else:
        base = options.base or base_commit()
        if base is None:
            print("skipped: nothing to compare with: no main branch and no commit before this one")
            return CANNOT
        files = sources_of(changed_files(base), compiled)
        print(f"against {git('describe', '--always', '--tags', base) or base}: {len(files)} sources to check")

    end = float("inf") if options.all else time.monotonic() + options.seconds
    left_out: list[str] = []

    def one(name: str) -> tuple[str, str, str]:
        if time.monotonic() > end:
            left_out.append(name)
            return name, "", ""
        return name, *check(name, build / "clang-tidy")

    faulty = 0
    with ThreadPoolExecutor(max(1, options.jobs)) as pool:
        for place, (name, found, seconds) in enumerate(pool.map(one, files), 1):
            if seconds:
                print(f"[{place}/{len(files)}] {name} {seconds}" + (f"\n{found}" if found else ""), flush=True)
            faulty += bool(found)
    if left_out:
        print(
            f"left out after {options.seconds:.0f} s: {len(left_out)} of {len(files)} sources (all: ninja lint-tidy): {' '.join(left_out)}"
        )
    print(f"clang-tidy: {len(files) - len(left_out)} sources checked, {faulty} with findings")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
