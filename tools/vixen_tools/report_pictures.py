"""Pictures of a few rows of a raw folder, as data URIs for a self-contained page."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path

from .files import LineReader
from .pictures import PictureSource
from .raw import find_raw

TYPES = {".webp": "image/webp", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
STEMS = {"train": "trn", "test": "tst"}


def data_uris(raw: Path, split: str, rows: list[int]) -> dict[int, str]:
    """The first picture of each row that has one: row -> data URI. Rows count the lines that are not blank."""
    wanted = set(rows)
    names: dict[int, str] = {}
    items = (content for _, content in LineReader(find_raw(raw, STEMS[split])) if content.strip())
    for row, content in enumerate(itertools.islice(items, max(rows, default=-1) + 1)):
        if row in wanted and (images := json.loads(content).get("images")):
            names[row] = images[0]
    contents = read_pictures(raw, {name for name in names.values() if Path(name).suffix.lower() in TYPES})
    return {row: f"data:{TYPES[Path(name).suffix.lower()]};base64,{base64.b64encode(contents[name]).decode()}"
            for row, name in names.items() if name in contents}


def read_pictures(raw: Path, names: set[str]) -> dict[str, bytes]:
    """Bytes of the named pictures; those that are not there are left out."""
    if not names:
        return {}
    source = PictureSource(raw)
    if source.sequential:
        return {name: data for batch, contents in source.batches(256, 0) for name, data in zip(batch, contents) if name in names}
    return {name: source.read(name) for name in names.intersection(source.names)}
