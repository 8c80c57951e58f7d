"""The grid of a scaling study (tools/scaling_study.py): models x ranks x batch sizes x seeds over one data set, from a TOML file."""

from __future__ import annotations

import itertools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError, reading

KEYS = {"data", "configs", "options", "model", "grid"}
OWN = {  # of `vixen train`, which the grid sets: by what
    "data.path": "data",
    "model.path": "path of a [[model]]",
    "run.dir": "--out",
    "train.batch_size": "grid.batch",
    "train.seed": "grid.seeds",
}


@dataclass(frozen=True)
class Model:
    name: str
    path: str
    options: tuple[str, ...]  # --key value of vixen train


@dataclass(frozen=True)
class Cell:
    model: Model
    ranks: int
    batch: int
    seed: int

    @property
    def name(self) -> str:
        """Of its run folder and its line of a job array."""
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', self.model.name).strip('-.')}-w{self.ranks}-b{self.batch}-s{self.seed}"


@dataclass(frozen=True)
class Grid:
    path: Path
    data: str
    configs: tuple[str, ...]
    options: tuple[str, ...]
    cells: tuple[Cell, ...]

    def words(self, cell: Cell) -> list[str]:
        """What `vixen train` and `vixen plan` are told of a cell, but for its seed and run folder."""
        words = [word for config in self.configs for word in ("--config", config)]
        words += ["--data.path", self.data, "--model.path", cell.model.path, *self.options, *cell.model.options]
        return [*words, "--train.batch_size", str(cell.batch)]


class _Table:
    """A table of the file, each value asked for by key and kind; what nobody asked for is a mistake."""

    def __init__(self, path: Path, name: str, values: dict[str, Any], known: set[str]):
        self._where, self._values = f"{path}: {name}" if name else str(path), values
        for key in values:
            if key not in known:
                raise UserError(f"{self._where}: unknown key {key}, expected one of {', '.join(sorted(known))}")

    def get(self, key: str, kind: type, what: str, default: Any = None) -> Any:
        value = self._values.get(key, default)
        if value is None:
            raise UserError(f"{self._where}: {key} is missing, expected {what}")
        if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
            raise UserError(f"{self._where}: {key} = {value!r}, expected {what}")
        return value

    def numbers(self, key: str, least: int, default: list[int] | None = None) -> list[int]:
        what = f"a list of whole numbers, at least {least}, none twice"
        values = self.get(key, list, what, default)
        if not values or not all(type(value) is int and value >= least for value in values) or len(set(values)) < len(values):
            raise UserError(f"{self._where}: {key} = {values!r}, expected {what}")
        return list(values)

    def options(self) -> tuple[str, ...]:
        words: list[str] = []
        for key, value in self.get("options", dict, "a table of options of vixen train, by their quoted keys", {}).items():
            if isinstance(value, (dict, list)):
                raise UserError(f'{self._where}: options.{key} is a {type(value).__name__}: quote the key, as in "train.epochs" = 2')
            if key in OWN:
                raise UserError(f"{self._where}: options.{key}: is set by {OWN[key]}")
            words += [f"--{key}", str(value).lower() if isinstance(value, bool) else str(value)]
        return tuple(words)


def read_grid(path: Path) -> Grid:
    """UserError that names file and key where it is not a grid. Paths in it are taken as they stand, from the current folder."""
    with reading(path, "a grid (TOML)"):
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    top = _Table(path, "", values, KEYS)
    axes = _Table(path, "grid", top.get("grid", dict, "a table with ranks, batch and seeds"), {"ranks", "batch", "seeds"})
    models = []
    for number, entry in enumerate(top.get("model", list, "at least one [[model]]"), 1):
        table = _Table(path, f"model {number}", entry if isinstance(entry, dict) else {}, {"name", "path", "options"})
        models.append(Model(table.get("name", str, "a name"), table.get("path", str, "a model folder"), table.options()))
    if not models:
        raise UserError(f"{path}: model is empty, expected at least one [[model]]")
    configs = top.get("configs", list, "a list of configuration files", [])
    ranks, batches, seeds = axes.numbers("ranks", 1), axes.numbers("batch", 1), axes.numbers("seeds", 0, [0])
    cells = tuple(Cell(*cell) for cell in itertools.product(models, ranks, batches, seeds))
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: two models have names that are alike ({', '.join(model.name for model in models)})")
    return Grid(path, top.get("data", str, "a data set (HDF5)"), tuple(map(str, configs)), top.options(), cells)
