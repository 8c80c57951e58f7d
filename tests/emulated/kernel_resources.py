#!/usr/bin/env python3
"""What ptxas says of every CUDA kernel: registers, spills and shared memory, for sm_80 and sm_90a.

    kernel_resources.py [--nvcc NVCC] [--table] [FILE.cu ...]     all of src/*/cuda without a FILE

Prints a line a kernel and architecture, or with --table the tables of docs/kernels.md. Exits with 1 where a kernel has something in
local memory, spilled registers or an array, which each thread would then keep in global memory; with 77 where there is no nvcc.
"""

import argparse
import concurrent.futures
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

SOURCES = pathlib.Path(__file__).resolve().parents[2] / "src"
ARCHITECTURES = ["80", "90a"]
# What a table tells of each kernel: the encoders' forms are for vectors of two types and single columns, the search's for rows of three,
# those of 2-means for rows of two types (unit rows), for vectors and for single columns.
FORMS = {
    "kernels": ("<bf16, 8,", "<fp32, 4,", ", 1,"),
    "search": ("<fp32,", "<fp16,", "<bf16,"),
    "cluster": ("<fp16,", "<4,", "<1,"),
    "objective": ("<fp32,",),
}
SKIPPED = 77

ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\w+)'")
MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")
KERNEL = re.compile(r"(\w+)(?:<([^>]*)>)?\(")


class Kernel(NamedTuple):
    """One kernel for one architecture."""

    name: str
    architecture: str
    registers: int
    stack_bytes: int
    spill_bytes: int
    shared_bytes: int  # static: what a launch adds is in the head of the kernel's file


def demangled(names: list[str]) -> list[str]:
    """Names as C++ writes them, or as they are where there is no c++filt."""
    filt = shutil.which("c++filt")
    if filt is None:
        return names
    return subprocess.run([filt], input="\n".join(names), capture_output=True, text=True, check=True).stdout.split("\n")


def short(name: str) -> str:
    """The name and its template arguments of a full name: backward<bf16, 8>."""
    match = KERNEL.search(name.replace("(anonymous namespace)", ""))
    if match is None:
        return name
    if match[2] is None:
        return match[1].removesuffix("_kernel")
    arguments = match[2].replace("vixen::", "").replace("Bfloat16", "bf16").replace("Float16", "fp16").replace("float", "fp32")
    return f"{match[1].removesuffix('_kernel')}<{arguments}>"


def parsed(text: str) -> list[Kernel]:
    """The kernels that ptxas -v told of, in its order."""
    found: list[Kernel] = []
    entry: tuple[str, str] = ("", "")
    stack = spill = 0
    for line in text.splitlines():
        if match := ENTRY.search(line):
            entry = (match[1], match[2])
        elif match := MEMORY.search(line):
            stack, spill = int(match[1]), int(match[2]) + int(match[3])
        elif match := USED.search(line):
            found.append(Kernel(*entry, int(match[1]), stack, spill, int(match[2] or 0)))
    names = demangled([kernel.name for kernel in found])
    return [kernel._replace(name=short(name)) for kernel, name in zip(found, names, strict=False)]


def compiled(nvcc: str, source: pathlib.Path) -> list[Kernel]:
    """The kernels of one file."""
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in ARCHITECTURES]
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-std=c++17", "-O2", f"-I{SOURCES}", "--expt-relaxed-constexpr", *targets, "-Xptxas", "-v"]
        done = subprocess.run([*command, "-c", str(source), "-o", f"{folder}/kernel.o"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{source}: nvcc failed\n{done.stderr}")
    kernels = parsed(done.stdout + done.stderr)
    if not kernels:
        sys.exit(f"{source}: ptxas told of no kernel\n{done.stderr}")
    return kernels


def most(kernels: list[Kernel], form: str) -> str:
    """Such as 31 / 30: most registers of a form, for each architecture; of a kernel of one form, that."""
    found = [kernel for kernel in kernels if form in kernel.name]
    if not found and any("<" in kernel.name for kernel in kernels):
        return ""  # has no such form
    found = found or kernels
    return " / ".join(str(max(kernel.registers for kernel in found if kernel.architecture == arch)) for arch in ARCHITECTURES)


def table(source: pathlib.Path, kernels: list[Kernel]) -> list[str]:
    """Rows of Markdown, one a kernel: registers of the forms of whole vectors and of single columns, local memory, shared memory."""
    rows = []
    for name in dict.fromkeys(kernel.name.split("<")[0] for kernel in kernels):
        forms = [kernel._replace(name=kernel.name.replace(">", ",")) for kernel in kernels if kernel.name.split("<")[0] == name]
        registers = " | ".join(most(forms, form) for form in FORMS.get(source.parent.parent.name, FORMS["kernels"]))
        local = max(kernel.stack_bytes + kernel.spill_bytes for kernel in forms)
        rows.append(f"| `{source.name}` {name} | {registers} | {local} | {max(kernel.shared_bytes for kernel in forms)} |")
    return rows


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", default=shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc")
    parser.add_argument("--table", action="store_true", help="Markdown instead of lines")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    if shutil.which(options.nvcc) is None:
        print(f"skipped: no nvcc at {options.nvcc}")
        return SKIPPED
    files = options.files or [file for folder in FORMS for file in sorted((SOURCES / folder / "cuda").glob("*.cu"))]
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        found = list(pool.map(lambda source: compiled(options.nvcc, source), files))
    wrong = 0
    for source, kernels in zip(files, found, strict=True):
        if options.table:
            print("\n".join(table(source, kernels)))
        for kernel in kernels:
            local = kernel.stack_bytes + kernel.spill_bytes
            wrong += local > 0
            if not options.table or local > 0:
                print(
                    f"{source.name} {kernel.name} sm_{kernel.architecture}: {kernel.registers} registers, {kernel.spill_bytes} bytes"
                    f" spilled, {kernel.stack_bytes} of stack, {kernel.shared_bytes} shared" + (": LOCAL MEMORY" if local else "")
                )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
