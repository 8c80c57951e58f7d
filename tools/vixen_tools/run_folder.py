"""What a run folder of `vixen train` says of its run."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

from .errors import reading
from .outputs import MARKER, created_by_vixen


def is_run(folder: Path) -> bool:
    """Whether the marker in it says that `vixen train` made the folder."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return marker["kind"] == "run" and created_by_vixen(marker["created_by"])
    except (OSError, ValueError, LookupError, TypeError):
        return False


def read_settings(run: Path) -> dict[str, str]:
    """The keys of config.ini as section.key; empty when the run has none."""
    path = run / "config.ini"
    if not path.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#", ";"))
    with reading(path, "a run's configuration"):
        parser.read_string("[.]\n" + path.read_text(encoding="utf-8-sig"))
    return {
        (key if section == "." else f"{section}.{key}"): value for section in parser.sections() for key, value in parser[section].items()
    }
