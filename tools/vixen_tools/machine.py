"""What machine a figure was measured on, in words that can be compared."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")  # keep libraries from what the CPU could do


def _cpuinfo() -> dict[str, str]:
    """The first CPU's lines of /proc/cpuinfo, keys as they stand there."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(errors="replace") if path.is_file() else ""
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def describe_machine(threads: int) -> dict[str, Any]:
    """CPU, instruction sets, what the environment keeps libraries from, cores that this process may use, memory in GB, threads."""
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "limits": {name: os.environ[name] for name in LIMITS if os.environ.get(name)},
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
        "threads": threads,
    }


def has_bf16() -> bool:
    """Whether the CPU has products of bf16 that libraries are allowed to use (as launch/quickstart decides)."""
    machine = describe_machine(0)
    return not machine["limits"] and bool({"avx512_bf16", "amx_bf16"} & set(machine["instructions"]))
