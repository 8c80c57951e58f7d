#!/usr/bin/env python3
"""Packs the program, the tests for GPUs and the libraries that they need, torch apart, into a folder that runs elsewhere, and an archive.

    ninja -C build/cuda bundle_parts
    tools/make_bundle.py --out out/bundle            # out/bundle/vixen/ and out/bundle/vixen-VERSION-cuda.tar.xz

On a machine of the same processor kind with Python and torch 2.11, and nothing else:

    tar xf vixen-VERSION-cuda.tar.xz    # or python3 -c 'import tarfile; tarfile.open("vixen-VERSION-cuda.tar.xz").extractall()'
    vixen/vixen --version
    vixen/mpirun -n 2 vixen/vixen doctor
    vixen/run_all --device cuda

Libraries are found by $ORIGIN; torch, NCCL and the CUDA runtime are those of `python3`, or of VIXEN_PYTHON. The C and C++ libraries
are the machine's: at least as new as where the bundle was made. MPI is Open MPI, for one node. Needs ldd, strip and xz.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from vixen_tools import VERSION
from vixen_tools.elf import ElfFile
from vixen_tools.errors import UserError, run_tool
from vixen_tools.files import publish, work_folder
from vixen_tools.outputs import claim_folder, write_marker
from vixen_tools.progress import waiting

ROOT = Path(__file__).resolve().parents[1]
BYTES_NEEDED = 600 << 20
#: Of the machine that a bundle comes to: the C and C++ libraries, the driver's; OpenMP is torch's.
OF_THE_MACHINE = re.compile(
    r"(ld-linux.*|linux-vdso|libc|libm|libpthread|libdl|librt|libutil|libresolv|libnsl|libstdc\+\+|libgcc_s|libgomp|libcuda|libnvidia-.*)\.so(\.|$)"
)
#: Parts of Open MPI for networks between nodes and for OpenSHMEM, which bring libraries of their own.
LEFT_OUT_OF_MPI = re.compile(
    r"mca_(btl_(ofi|openib|uct|usnic)|mtl_.*|osc_ucx|pml_(ucx|cm)|atomic_.*|spml_.*|scoll_.*|sshmem_.*|memheap_.*)\.so"
)
LAUNCHERS = ("vixen", "mpirun", "run_all")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, help="build folder (default: build/cuda, else build/cpu)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--no-archive", action="store_true", help="the folder alone")
    return parser.parse_args()


def build_folder(wish: Path | None) -> Path:
    folder = wish or next(
        (path for path in (ROOT / "build/cuda", ROOT / "build/cpu") if (path / "src/vixen").exists()), ROOT / "build/cuda"
    )
    if not (folder / "src/vixen").is_file():
        raise UserError(f"--build {folder}: has no src/vixen: build it first (ninja -C {folder} bundle_parts)")
    return folder


def programs_of(build: Path) -> list[Path]:
    """The program and the tests for GPUs."""
    tests = [path for path in sorted((build / "tests").glob("gpu_*")) if path.is_file() and path.stat().st_mode & 0o111]
    if not tests:
        raise UserError(f"--build {build}: has no tests/gpu_*: build them first (ninja -C {build} bundle_parts)")
    return [build / "src/vixen", *tests]


def output_of(*command: object) -> str:
    try:
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise UserError(f"{command[0]}: not found, and a bundle needs it: install it first") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"{' '.join(map(str, command))}: {(error.stderr or error.stdout).strip().splitlines()[-1:]}") from None


def libraries_of(program: Path) -> dict[str, Path]:
    """All that the loader would bring for a program or library: name -> file."""
    found = {}
    for line in output_of("ldd", program).splitlines():
        name, _, rest = line.strip().partition(" => ")
        if rest.startswith("not found"):
            raise UserError(f"{program}: needs {name}, which is not found here")
        if rest:
            found[name] = Path(rest.rsplit(" (", 1)[0])
    return found


class OpenMpi:
    """Where the Open MPI of this machine lies."""

    def __init__(self) -> None:
        mpirun = shutil.which("mpirun")
        if mpirun is None or shutil.which("ompi_info") is None:
            raise UserError("no mpirun and ompi_info on the PATH: a bundle packs Open MPI")
        self.programs = {"mpirun": Path(mpirun).resolve()}
        if orted := shutil.which("orted"):
            self.programs["orted"] = Path(orted).resolve()
        paths = dict(
            line.split(":", 2)[1:]
            for line in output_of("ompi_info", "--path", "all", "--parsable").splitlines()
            if line.startswith("path:")
        )
        self.parts = [path for path in sorted(Path(paths["pkglibdir"]).glob("mca_*.so")) if not LEFT_OUT_OF_MPI.fullmatch(path.name)]
        self.texts = Path(paths["pkgdatadir"])
        self.settings = Path(paths["sysconfdir"])


class Bundle:
    def __init__(self, folder: Path):
        self.folder = folder
        self.torch_folders: list[Path] = []  # torch's own libraries, and NVIDIA's that came with it
        self.host_libraries: set[str] = set()
        self.done: set[str] = set()

    def add_program(self, source: Path, name: str) -> None:
        self._add_elf(source, self.folder / "bin" / name, "$ORIGIN/../lib", required=True)

    def add_part(self, source: Path, folder: str) -> None:
        """A library that another one opens by its name."""
        self._add_elf(source, self.folder / "lib" / folder / source.name, "$ORIGIN/..", required=False)

    def _add_elf(self, source: Path, target: Path, search_path: str, required: bool) -> None:
        libraries = libraries_of(source)
        if torch := libraries.get("libtorch_cpu.so"):
            self.torch_folders = [torch.parent, *torch.parents[2].glob("nvidia/*/lib")]
        for name, path in libraries.items():
            # Whichever was found here: one process must not have two CUDA runtimes.
            if any((folder / name).exists() for folder in self.torch_folders):
                self.host_libraries.add(name)
            elif name not in self.done and not OF_THE_MACHINE.match(name):
                self.done.add(name)
                self._copy(path.resolve(), self.folder / "lib" / name, "$ORIGIN", required=False)
        self._copy(source, target, search_path, required)

    @staticmethod
    def _copy(source: Path, target: Path, search_path: str, required: bool) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        output_of("strip", "--strip-unneeded", "-o", target, source)
        elf = ElfFile(target)
        if elf.set_search_path(search_path):
            elf.write()
        elif required:
            raise UserError(f"{source}: has no RPATH or RUNPATH, in whose place that of the bundle would go")

    def copy_text(self, source: Path, name: str) -> None:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.h5"))
        elif source.exists():
            shutil.copy(source, target)


def fill(bundle: Bundle, build: Path) -> None:
    for program in programs_of(build):
        bundle.add_program(program, program.name)
    mpi = OpenMpi()
    for name, program in mpi.programs.items():
        bundle.add_program(program, name)
    for part in mpi.parts:
        bundle.add_part(part, "openmpi")
    bundle.copy_text(mpi.texts, "share/openmpi")
    bundle.copy_text(mpi.settings, "etc/openmpi")
    pmix = libraries_of(next(part for part in mpi.parts if part.name.startswith("mca_pmix_ext"))).get("libpmix.so.2")
    if pmix is not None:
        pmix = pmix.resolve()
        for part in sorted((pmix.parent / "pmix").glob("*.so")):
            bundle.add_part(part, "pmix")
        bundle.copy_text(pmix.parents[1] / "share/pmix", "share/pmix")
    if not bundle.torch_folders:
        raise UserError(f"{build / 'src/vixen'}: names no libtorch_cpu.so")
    for name in LAUNCHERS:
        bundle.copy_text(ROOT / "launch/bundle/start", name)
    bundle.copy_text(ROOT / "launch/bundle/host_torch.py", "launch/host_torch.py")
    bundle.copy_text(ROOT / "launch/mpi.env", "launch/mpi.env")
    bundle.copy_text(ROOT / "tests/gpu/run_all.py", "tests/gpu/run_all.py")
    bundle.copy_text(ROOT / "tests/parity/goldens", "tests/parity/goldens")
    for name in ("LICENSE", "README.md", "docs/gpu.md", "docs/measurements/README.md"):
        bundle.copy_text(ROOT / name, name)
    record = {
        "created_by": f"make_bundle.py {VERSION}",
        "version": VERSION,
        "preset": build.name,
        "torch": "2.11",
        "host_libraries": sorted(bundle.host_libraries),
    }
    (bundle.folder / "bundle.json").write_text(json.dumps(record, indent=2) + "\n")


def pack(folder: Path, archive: Path) -> None:
    """An archive with the folder in it, its files as root's, in the order of their names."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        return info

    # The programs are linked from the same objects: a dictionary that reaches from one to the next keeps one copy of them.
    words = ["xz", "--lzma2=preset=1,dict=128MiB", "-c"]
    with open(archive, "wb") as file, subprocess.Popen(words, stdin=subprocess.PIPE, stdout=file) as xz:
        assert xz.stdin is not None
        with tarfile.open(fileobj=xz.stdin, mode="w|") as tar:
            tar.add(folder, folder.name, filter=plain)
        xz.stdin.close()
        if xz.wait() != 0:
            raise UserError(f"xz failed with exit code {xz.returncode}")


def main() -> None:
    args = arguments()
    out = claim_folder(args.out, {"--build": args.build}, bytes_needed=BYTES_NEEDED)
    build = build_folder(args.build)
    with work_folder(out) as work:
        whole = work / "bundle"
        bundle = Bundle(whole / "vixen")
        with waiting("collecting programs and libraries"):
            fill(bundle, build)
        archive = whole / f"vixen-{VERSION}-{build.name}.tar.xz"
        if not args.no_archive:
            with waiting("packing"):
                pack(bundle.folder, archive)
        write_marker(whole, "make_bundle.py", "bundle")
        publish(whole, out)
    libraries = len(list((out / "vixen/lib").glob("*.so*")))
    size = sum(path.stat().st_size for path in (out / "vixen").rglob("*") if path.is_file())
    print(f"{out / 'vixen'}: {size / 2**20:.1f} MiB, {libraries} libraries; of the host's torch: {len(bundle.host_libraries)}")
    if not args.no_archive:
        print(f"{out / archive.name}: {(out / archive.name).stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_tool(main)
