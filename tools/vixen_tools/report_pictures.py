"""Pictures of a few rows of a raw folder, as data URIs for a self-contained page."""

from __future__ import annotations

import base64
import itertools
import json
import tarfile
import zipfile
from pathlib import Path

from .files import LineReader
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
    contents = read_pictures(raw, set(names.values()))
    return {row: f"data:{TYPES[Path(name).suffix.lower()]};base64,{base64.b64encode(contents[name]).decode()}"
            for row, name in names.items() if name in contents and Path(name).suffix.lower() in TYPES}


def read_pictures(raw: Path, names: set[str]) -> dict[str, bytes]:
    """Bytes of the named files in images/, images.zip or images.tar.gz; those that are not there are left out."""
    folder, archive, tarball = raw / "images", raw / "images.zip", raw / "images.tar.gz"
    if folder.is_dir():
        return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    if archive.is_file():
        with zipfile.ZipFile(archive) as file:
            return {name: file.read(name) for name in names & set(file.namelist())}
    if tarball.is_file():
        with tarfile.open(tarball) as file:
            members = ((member, member.name.removeprefix("./").removeprefix("images/")) for member in file if member.isfile())
            return {name: file.extractfile(member).read() for member, name in members if name in names}
    return {}
