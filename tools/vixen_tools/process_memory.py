"""What a process holds in memory, and since when its peak counts, from /proc (Linux)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Memory:
    now_bytes: int  # resident
    peak_bytes: int  # the most that was resident since the process began, or since reset_peak


def memory_of(pid: int | str) -> Memory:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return Memory(*(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")))


def part_of(pid: int | str) -> int:
    """Bytes that are resident now, pages that several processes map divided among them."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


def reset_peak(pid: int | str) -> int:
    """Lets the peak count from now on, where the kernel allows it; returns the bytes that are resident now."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError as error:
        print(f"the peak of process {pid} counts from its start: /proc/{pid}/clear_refs: {error.strerror}", file=sys.stderr)
    return memory_of(pid).now_bytes
