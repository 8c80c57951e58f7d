"""Pictures of a raw folder, read from images/, images.zip or images.tar.gz without unpacking, and decoded in worker processes.

b: pictures of a batch; S: input size in pixels. This file must not import torch: every worker process imports it.
"""

from __future__ import annotations

import io
import multiprocessing
import tarfile
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .errors import UserError, one_line

ENDINGS = (".webp", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff")
ARCHIVES = ("images.zip", "images.tar.gz", "images.tgz", "images.tar")


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes S x S pixels: the resampling filter of PIL."""

    size: int
    resample: int


def picture_name(member: str) -> str | None:
    """The name of an archive's member as the raw rows give it, None when it is no picture."""
    name = member.removeprefix("./").removeprefix("images/")
    hidden = name.rsplit("/", 1)[-1].startswith(".") or name.startswith("__MACOSX/")
    return name if name.lower().endswith(ENDINGS) and not hidden else None


class PictureSource:
    """All pictures of a raw folder: names sorted; order is the order in which they are read best."""

    def __init__(self, raw: Path):
        if not raw.is_dir():
            raise UserError(f"{raw}: no such folder")
        found = [raw / name for name in ("images", *ARCHIVES) if (raw / name).exists()]
        if not found:
            raise UserError(f"{raw}: has no images/, images.zip or images.tar.gz")
        self.path = found[0]
        self.sequential = self.path.is_file() and self.path.suffix != ".zip"
        members = self._members()
        self._members_by_name = dict(members)
        if len(self._members_by_name) != len(members):
            raise UserError(f"{self.path}: two members have the same picture name")
        if not members:
            raise UserError(f"{self.path}: holds no picture ({', '.join(ENDINGS)})")
        # by bytes, so that /names can be searched as bytes
        self.names = sorted(self._members_by_name, key=str.encode)
        self.order = [name for name, _ in members] if self.sequential else self.names

    def batches(self, size: int, skip: int) -> Iterator[tuple[list[str], list[bytes] | None]]:
        """Names of each batch in order, beginning with batch `skip`, with their bytes when only this process can read them."""
        if not self.sequential:
            for first in range(skip * size, len(self.order), size):
                yield self.order[first : first + size], None
            return
        names: list[str] = []
        contents: list[bytes] = []
        count = 0
        with _tar(self.path) as archive:
            for member in _tar_members(self.path, archive):
                name = picture_name(member.name)
                if name is None or not member.isfile():
                    continue
                count += 1
                if count <= skip * size:
                    continue
                names.append(name)
                contents.append(archive.extractfile(member).read())
                if len(names) == size:
                    yield names, contents
                    names, contents = [], []
        if names:
            yield names, contents

    def member(self, name: str) -> str:
        return self._members_by_name[name]

    def _members(self) -> list[tuple[str, str]]:
        if self.path.is_dir():
            paths = (str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())
        elif self.sequential:
            with _tar(self.path) as archive:
                paths = [member.name for member in _tar_members(self.path, archive) if member.isfile()]
        else:
            try:
                with zipfile.ZipFile(self.path) as archive:
                    paths = archive.namelist()
            except zipfile.BadZipFile as error:
                raise UserError(f"{self.path}: not a readable zip file: {one_line(error)}") from None
        return [(name, path) for path in paths if (name := picture_name(path)) is not None]


def _tar(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r|*")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path}: not a readable tar file: {one_line(error)}") from None


def _tar_members(path: Path, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    try:
        for member in archive:
            archive.members = []  # otherwise every member's header stays in memory
            yield member
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged tar file: {one_line(error)}") from None


_archives: dict[str, zipfile.ZipFile] = {}  # of a worker process


def decode_batch(path: str, members: list[str], contents: list[bytes] | None, how: Preprocess) -> np.ndarray:
    """uint8 [b, S, S, 3] of the pictures. Runs in a worker process."""
    out = np.empty((len(members), how.size, how.size, 3), np.uint8)
    for i, member in enumerate(members):
        try:
            data = contents[i] if contents is not None else _read(path, member)
            out[i] = decode(data, how)
        except (OSError, ValueError, SyntaxError, zipfile.BadZipFile, zlib.error, Image.DecompressionBombError) as error:
            raise UserError(f"{path}: picture '{member}' cannot be read: {one_line(error, 200)}") from None
    return out


def decode(data: bytes, how: Preprocess) -> np.ndarray:
    """uint8 [S, S, 3]: RGB, what is transparent over white, resized without keeping the aspect (as the vision models do)."""
    with Image.open(io.BytesIO(data)) as picture:
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        picture = picture.convert("RGB")
        if picture.size != (how.size, how.size):
            picture = picture.resize((how.size, how.size), how.resample)
        return np.asarray(picture)


def _read(path: str, member: str) -> bytes:
    if not path.endswith(".zip"):
        return (Path(path) / member).read_bytes()
    if path not in _archives:
        _archives[path] = zipfile.ZipFile(path)
    return _archives[path].read(member)


def decoded_batches(source: PictureSource, how: Preprocess, size: int, skip: int,
                    workers: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """(names, uint8 [b, S, S, 3]) in order; at most 2 * workers + 1 batches are held. workers = 0: in this process."""
    path = str(source.path)
    tasks = ((names, ([source.member(name) for name in names], contents, how)) for names, contents in source.batches(size, skip))
    if workers == 0:
        for names, task in tasks:
            yield names, decode_batch(path, *task)
        return
    # spawn: forking a process that runs torch's threads may hang
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    waiting: deque = deque()
    try:
        for names, task in tasks:
            waiting.append((names, pool.submit(decode_batch, path, *task)))
            if len(waiting) > 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    except BrokenProcessPool:
        raise UserError(f"{path}: a process that decodes pictures died (out of memory?): try fewer --workers") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
