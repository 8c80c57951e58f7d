"""What a study of runs is given: its folder, data sets with their settings, and keys of section [mining]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import UserError
from .files import write_text
from .outputs import MARKER, marker_text


def begin_study(out: Path, tool: str, kind: str) -> None:
    """Makes the folder that claim_collection() gave; one that is empty is marked as a tool's."""
    out.mkdir(parents=True, exist_ok=True)
    if not any(out.iterdir()):
        write_text(out / MARKER, marker_text(tool, kind, []))


@dataclass
class StudySet:
    name: str
    data: Path
    configs: list[Path]

    def source(self) -> list[str]:
        """Options that name the data and its settings."""
        return [*(word for config in self.configs for word in ("--config", str(config))), "--data.path", str(self.data)]


def parse_set(item: str) -> StudySet:
    name, separator, rest = item.partition("=")
    if not separator or not name or not rest:
        raise UserError(f"--set {item}: expected NAME=DATA.h5[,CONFIG.ini...]")
    data, *configs = rest.split(",")
    return StudySet(name, Path(data), [Path(config) for config in configs])


def parse_sets(items: list[str]) -> list[StudySet]:
    sets = [parse_set(item) for item in items]
    if len({one.name for one in sets}) < len(sets):
        raise UserError("--set: two data sets have one name")
    for path in (path for one in sets for path in (one.data, *one.configs)):
        if not path.is_file():
            raise UserError(f"{path}: no such file")
    return sets


def parse_mining(text: str, option: str = "--mining") -> dict[str, str]:
    """Keys of section [mining], KEY=VALUE,...; none of an empty text."""
    keys = {}
    for item in filter(None, text.split(",")):
        key, separator, value = item.partition("=")
        if not separator or not key.strip() or not value.strip():
            raise UserError(f"{option} {text}: expected KEY=VALUE,... of section [mining]")
        keys[f"mining.{key.strip()}"] = value.strip()
    return keys


def parse_mining_columns(text: str, option: str = "--mining") -> dict[str, str]:
    """The same of runs that mine: with a number of columns, unless there are none at all."""
    keys = parse_mining(text, option)
    if keys and not keys.get("mining.columns", "").isdigit():
        raise UserError(f"{option} {text}: expected columns=NUMBER among them")
    return keys
