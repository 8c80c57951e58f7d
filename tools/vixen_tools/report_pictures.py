"""Pictures of a few rows of a raw folder, as data URIs for a self-contained page."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path

from .errors import UserError, one_line, reading
from .files import LineReader
from .pictures import PictureSource
from .raw import find_raw

TYPES = {".webp": "image/webp", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
STEMS = {"train": "trn", "test": "tst"}


def data_uris(raw: Path, split: str, rows: list[int]) -> dict[int, str]:
    """The first picture of each row that has one: row -> data URI. Rows count the lines that are not blank."""
    wanted = set(rows)
    names: dict[int, str] = {}
    path = find_raw(raw, STEMS[split])
    items = ((line, content) for line, content in LineReader(path) if content.strip())
    for row, (line, content) in enumerate(itertools.islice(items, max(rows, default=-1) + 1)):
        if row in wanted and (name := _first_picture(f"{path}:{line}", content)):
            names[row] = name
    contents = read_pictures(raw, {name for name in names.values() if Path(name).suffix.lower() in TYPES})
    return {
        row: f"data:{TYPES[Path(name).suffix.lower()]};base64,{base64.b64encode(contents[name]).decode()}"
        for row, name in names.items()
        if name in contents
    }


def _first_picture(where: str, content: str) -> str | None:
    """The name of a raw row's first picture, None where it has none."""
    with reading(where, "a row of JSON"):
        row = json.loads(content)
    images = row.get("images") if isinstance(row, dict) else None
    if not images:
        return None
    if not isinstance(images, list) or not isinstance(images[0], str):
        raise UserError(f"{where}: 'images' is {one_line(images, 80)}, expected a list of file names")
    return images[0]


def read_pictures(raw: Path, names: set[str]) -> dict[str, bytes]:
    """Bytes of the named pictures; those that are not there are left out."""
    if not names:
        return {}
    source = PictureSource(raw)
    if source.sequential:
        batches = source.batches(256, 0)
        return {name: data for batch, contents in batches for name, data in zip(batch, contents or [], strict=True) if name in names}
    return {name: source.read(name) for name in names.intersection(source.names)}
