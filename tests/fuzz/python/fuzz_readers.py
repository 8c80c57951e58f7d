#!/usr/bin/env python3
"""Damages valid inputs of the Python tools and reads them: each must be accepted or refused in one line (UserError), soon and
in bounded memory.

Input N of a kind depends on --seed and N alone, so that one can be made again: --first N --count 1. What is at fault is kept in --keep.
Exit code 1 when there is any fault.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from kinds import KINDS, Kind

from vixen_tools.errors import UserError

CPU_SECONDS, SECONDS = 20, 120  # of one input: a picture of 100 million pixels takes several
MEMORY_BYTES = 2 << 30  # of one input, above what the process has
CHUNK = 500  # inputs that one child process reads: what kills it costs only a restart
ACCEPTED, REFUSED, FAULT = b"a", b"r", b"f"


def outcome(kind: Kind, path: Path) -> tuple[bytes, str]:
    """What a reader makes of the file; a text for a fault."""
    try:
        kind.read(path)
    except UserError as error:
        if not str(error).strip() or (path.name.split(".")[0] not in str(error) and "images." not in str(error)):
            return FAULT, f"the line does not name the file: {error}"
        return REFUSED, ""
    except Exception:
        return FAULT, traceback.format_exc()
    return ACCEPTED, ""


def make(kind: Kind, seeds: list[bytes], name: str, seed: int, number: int) -> bytes:
    rng = random.Random(f"{name} {seed} {number}")
    return kind.damage(rng.choice(seeds), rng, seeds)


def read_chunk(kind: Kind, seeds: list[bytes], name: str, seed: int, numbers: range, folder: Path, pipe: int) -> None:
    """In a child process: one letter for each input into the pipe, behind a fault its text and a zero byte."""
    for name_of_signal in (signal.SIGPROF, signal.SIGALRM):  # ends the process even in the middle of a library
        signal.signal(name_of_signal, signal.SIG_DFL)
    own = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY_BYTES, own + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries in C complain there
    for number in numbers:
        path = folder / kind.name
        path.write_bytes(make(kind, seeds, name, seed, number))
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        letter, text = outcome(kind, path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        path.unlink(missing_ok=True)
        os.write(pipe, letter + (text.encode("utf-8", "replace").replace(b"\0", b"") + b"\0" if text else b""))


def run_chunk(kind: Kind, seeds: list[bytes], name: str, seed: int, numbers: range, counts: collections.Counter) -> dict[int, str]:
    """Reads the inputs, in as many child processes as it takes; the faults by number."""
    faults: dict[int, str] = {}
    while numbers:
        with tempfile.TemporaryDirectory(prefix="vixen-fuzz-") as folder:
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.close(reading)
                    read_chunk(kind, seeds, name, seed, numbers, Path(folder), writing)
                    os._exit(0)
                except BaseException:
                    os.write(writing, FAULT + traceback.format_exc().encode() + b"\0")
                    os._exit(3)
            os.close(writing)
            with os.fdopen(reading, "rb") as pipe:
                answers = pipe.read()
            _, status = os.waitpid(child, 0)
        place = done = 0
        while place < len(answers):
            letter = answers[place : place + 1]
            counts[letter] += 1
            place += 1
            if letter == FAULT:
                end = answers.index(b"\0", place)
                faults[numbers[min(done, len(numbers) - 1)]] = answers[place:end].decode("utf-8", "replace")
                place = end + 1
            done += 1
        if os.WIFSIGNALED(status) and done < len(numbers):
            what = signal.Signals(os.WTERMSIG(status)).name
            faults[numbers[done]] = (
                f"more than {CPU_SECONDS} s of work, or {SECONDS} s" if what in ("SIGPROF", "SIGALRM") else f"ended by {what}"
            )
            counts[FAULT] += 1
            done += 1
        numbers = numbers[max(done, 1) :]
    return faults


def fuzz(name: str, seed: int, first: int, count: int, seconds: float, keep: Path) -> int:
    """Reads `count` inputs of a kind, or those of `seconds`; prints and keeps the faults and returns how many there were."""
    kind, begin = KINDS[name], time.monotonic()
    counts: collections.Counter[bytes] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="vixen-fuzz-") as folder:
        seeds = kind.seeds(Path(folder))
        for i, content in enumerate(seeds):  # a seed that is refused would hide what is behind
            path = Path(folder) / kind.name
            path.write_bytes(content)
            letter, text = outcome(kind, path)
            if letter == FAULT:
                raise SystemExit(f"{name}: seed {i} is at fault:\n{text}")
    kinds_of_fault: collections.Counter = collections.Counter()
    for number in range(first, first + count, CHUNK):
        faults = run_chunk(kind, seeds, name, seed, range(number, min(number + CHUNK, first + count)), counts)
        for at, text in faults.items():
            last = text.strip().splitlines()[-1]
            kinds_of_fault[last.split(":")[0]] += 1
            if kinds_of_fault[last.split(":")[0]] <= 3:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{seed}-{at}").write_bytes(make(kind, seeds, name, seed, at))
                print(f"{name} --seed {seed} --first {at} --count 1:\n{text}", file=sys.stderr)
        if time.monotonic() - begin > seconds:
            break
    done = sum(counts.values())
    print(
        f"{name}: {done:,} inputs, {counts[ACCEPTED]:,} accepted, {counts[REFUSED]:,} refused, {counts[FAULT]:,} faults, "
        f"{time.monotonic() - begin:.0f} s",
        flush=True,
    )
    return counts[FAULT]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=(*KINDS, "all"), default="all", help="default all")
    parser.add_argument("--count", type=int, default=300, help="inputs of each kind (default 300)")
    parser.add_argument("--seconds", type=float, default=600, help="the most for each kind (default 600)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input (default 0)")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "vixen-fuzz-faults", help="folder for inputs at fault")
    options = parser.parse_args()
    shutil.rmtree(options.keep, ignore_errors=True) if options.keep.name == "vixen-fuzz-faults" else None
    faults = [
        fuzz(name, options.seed, options.first, options.count, options.seconds, options.keep)
        for name in (KINDS if options.kind == "all" else [options.kind])
    ]
    sys.exit(1 if any(faults) else 0)


if __name__ == "__main__":
    main()
