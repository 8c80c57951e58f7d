"""Where this machine's Python has the libraries of torch that a bundle needs: prints their folders for LD_LIBRARY_PATH.

A bundle (tools/make_bundle.py) brings everything but torch. bundle.json beside this file's folder says what it was built with. Exit code
2 with one line where torch is missing, another one, or without a library that the bundle needs.
"""

import importlib.util
import json
import pathlib
import re
import sys


def refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def version_of(torch: pathlib.Path) -> str | None:
    """As the package itself says: one that was built from source may have no metadata."""
    try:
        text = (torch / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^__version__ = ['\"]([^'\"]+)", text, re.MULTILINE)
    return found and found[1]


def main() -> int:
    bundle = json.loads((pathlib.Path(__file__).resolve().parents[1] / "bundle.json").read_text(encoding="utf-8"))
    wanted, kind = bundle["torch"], bundle["preset"]
    spec = importlib.util.find_spec("torch")  # not imported: that takes seconds
    if spec is None or not spec.submodule_search_locations:
        return refuse(
            f"{sys.executable} has no torch: expected {wanted} (pip install torch=={wanted}.0), or VIXEN_PYTHON=/a/python that has it"
        )
    torch = pathlib.Path(next(iter(spec.submodule_search_locations)))
    version = version_of(torch)
    if version is None:
        return refuse(f"{torch}: no version.py that says which torch it is: expected {wanted}")
    if version.split(".")[:2] != wanted.split("."):
        return refuse(f"{torch}: is torch {version}, this bundle was built with {wanted}: give another Python by VIXEN_PYTHON")
    folders = [torch / "lib", *sorted(torch.parent.glob("nvidia/*/lib"))]
    missing = [name for name in bundle["host_libraries"] if not any((folder / name).exists() for folder in folders)]
    if missing:
        return refuse(f"{torch}: torch {version} comes without {', '.join(missing)}, which this bundle ({kind}) needs")
    used = [folder for folder in folders if any((folder / name).exists() for name in bundle["host_libraries"])]
    print(":".join(map(str, used)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
