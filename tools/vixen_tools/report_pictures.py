"""Pictures of a few rows of a raw folder, as data URIs for a self-contained page."""

from __future__ import annotations

import base64
import io
import itertools
import json
from pathlib import Path

from .errors import UserError, one_line, reading
from .files import LineReader
from .pictures import PictureSource
from .raw import find_raw

TYPES = {".webp": "image/webp", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
STEMS = {"train": "trn", "test": "tst"}
LARGEST_BYTES = 32 << 10  # of a picture that goes into a page as it is
THUMBNAIL_PIXELS = 128


def data_uris(raw: Path, split: str, rows: list[int]) -> dict[int, str]:
    """The first picture of each row that has one: row -> data URI. Rows count the lines that are not blank."""
    return {row: pictures[0] for row, pictures in thumbnails(raw, split, rows, 1).items()}


def thumbnails(raw: Path, split: str, rows: list[int], most: int) -> dict[int, list[str]]:
    """The first `most` pictures of each row that has any, as data URIs; large ones are made small."""
    wanted = set(rows)
    names: dict[int, list[str]] = {}
    path = find_raw(raw, STEMS[split])
    items = ((line, content) for line, content in LineReader(path) if content.strip())
    for row, (line, content) in enumerate(itertools.islice(items, max(rows, default=-1) + 1)):
        if row in wanted and (found := _pictures_of(f"{path}:{line}", content)[:most]):
            names[row] = [name for name in found if Path(name).suffix.lower() in TYPES]
    contents = read_pictures(raw, set(itertools.chain.from_iterable(names.values())))
    uris = {name: _data_uri(f"{raw}: picture {name}", TYPES[Path(name).suffix.lower()], content) for name, content in contents.items()}
    shown = {row: [uris[name] for name in found if name in uris] for row, found in names.items()}
    return {row: pictures for row, pictures in shown.items() if pictures}


def _data_uri(where: str, kind: str, content: bytes) -> str:
    if len(content) > LARGEST_BYTES:
        from PIL import Image

        with reading(where, "a picture"), Image.open(io.BytesIO(content)) as picture:
            small = picture.convert("RGB")
            small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
            out = io.BytesIO()
            small.save(out, "WEBP", quality=80)
        kind, content = TYPES[".webp"], out.getvalue()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _pictures_of(where: str, content: str) -> list[str]:
    """The names of a raw row's pictures."""
    with reading(where, "a row of JSON"):
        row = json.loads(content)
    images = row.get("images") if isinstance(row, dict) else None
    if not images:
        return []
    if not isinstance(images, list) or not all(isinstance(name, str) for name in images):
        raise UserError(f"{where}: 'images' is {one_line(images, 80)}, expected a list of file names")
    return images


def read_pictures(raw: Path, names: set[str]) -> dict[str, bytes]:
    """Bytes of the named pictures; those that are not there are left out."""
    if not names:
        return {}
    source = PictureSource(raw)
    if source.sequential:
        batches = source.batches(256, 0)
        return {name: data for batch, contents in batches for name, data in zip(batch, contents or [], strict=True) if name in names}
    return {name: source.read(name) for name in names.intersection(source.names)}
