"""Pictures of a raw folder, read from images/, images.zip or images.tar.gz without unpacking, and decoded in worker processes.

b: pictures of a batch; S: input size in pixels. This file must not import torch: every worker process imports it.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from .errors import UserError, one_line, shown
from .picture_archives import ENDINGS, Folder, Member, Tar, Zip, member_of
from .picture_decode import Preprocess, decode

ARCHIVES = ("images.zip", "images.tar.gz", "images.tgz", "images.tar")


class PictureSource:
    """All pictures of a raw folder: names sorted; order is the order in which they are read best.

    A picture whose name is not UTF-8 is left out with a line on stderr, as no row can name it.
    """

    def __init__(self, raw: Path):
        if not raw.is_dir():
            raise UserError(f"{raw}: no such folder")
        found = [raw / name for name in ("images", *ARCHIVES) if (raw / name).exists()]
        if not found:
            raise UserError(f"{raw}: has no images/, images.zip or images.tar.gz")
        self.path = found[0]
        if len(found) > 1:
            print(f"{raw}: has {' and '.join(path.name for path in found)}: {self.path.name} is used, the rest is not", file=sys.stderr)
        self.container = open_container(self.path)
        self.sequential = isinstance(self.container, Tar)
        members = self._nameable(self.container.scan())
        self._members_by_name = {member.name: member for member in members}
        if len(self._members_by_name) != len(members):
            self._refuse_same_name(members)
        if not members:
            raise UserError(f"{self.path}: holds no picture ({', '.join(ENDINGS)})")
        # by bytes, so that /names can be searched as bytes
        self.names = sorted(self._members_by_name, key=str.encode)
        self.order = [member.name for member in members] if self.sequential else self.names

    def batches(self, size: int, skip: int) -> Iterator[tuple[list[str], list[bytes] | None]]:
        """Names of each batch in order, beginning with batch `skip`, with their bytes when only this process can read them."""
        if not isinstance(self.container, Tar):
            for first in range(skip * size, len(self.order), size):
                yield self.order[first : first + size], None
            return
        names: list[str] = []
        contents: list[bytes] = []
        count = 0
        for name, data in self.container.contents(skip * size, self._members_by_name):
            count += 1
            names.append(name)
            contents.append(data)
            if len(names) == size:
                yield names, contents
                names, contents = [], []
        if names:
            yield names, contents
        if count != max(len(self.order) - skip * size, 0):
            raise UserError(
                f"{self.path}: has {count} pictures where there were {len(self.order) - skip * size}: changed while it was read"
            )

    def member(self, name: str) -> str:
        """What the container calls the picture."""
        return self._members_by_name[name].inside

    def identity(self, name: str) -> str:
        """What tells the picture's content from another under the same name."""
        return self._members_by_name[name].identity

    def read(self, name: str) -> bytes:
        """A picture's file, of a source that is not sequential."""
        assert not isinstance(self.container, Tar)
        return self.container.read(self.member(name))

    def _nameable(self, members: list[Member]) -> list[Member]:
        for member in members:
            if "\0" in member.name:
                raise UserError(f"{self.path}: picture '{one_line(member.name, 200)}': has a zero byte in its name: pack the pictures anew")
        kept = [member for member in members if _is_unicode(member.name)]
        if len(kept) < len(members):
            first = next(member.name for member in members if not _is_unicode(member.name))
            print(
                f"{self.path}: left out {len(members) - len(kept):,} with names that are not UTF-8, the first is "
                f"'{shown(one_line(first, 200))}': no row can name them",
                file=sys.stderr,
            )
        return kept

    def _refuse_same_name(self, members: list[Member]) -> None:
        seen: dict[str, Member] = {}
        for member in members:
            if other := seen.get(member.name):
                raise UserError(
                    f"{self.path}: two members have the same picture name '{one_line(member.name, 200)}': "
                    f"'{one_line(other.inside, 200)}' and '{one_line(member.inside, 200)}', expected one"
                )
            seen[member.name] = member


def open_container(path: Path) -> Folder | Zip | Tar:
    """images/ or an archive, by its name."""
    return Folder(path) if path.is_dir() else Zip(path) if path.suffix == ".zip" else Tar(path)


def _is_unicode(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


_containers: dict[Path, Folder | Zip | Tar] = {}  # of a worker process


def decode_batch(source: Path | str | Folder | Zip | Tar, members: list[str], contents: list[bytes] | None, how: Preprocess) -> np.ndarray:
    """uint8 [b, S, S, 3] of the pictures. source: where they are read; a path in a worker process, which opens it once."""
    container = _container(Path(source)) if isinstance(source, (Path, str)) else source
    out = np.empty((len(members), how.size, how.size, 3), np.uint8)
    for i, member in enumerate(members):
        if contents is not None:
            data = contents[i]
        else:
            assert not isinstance(container, Tar), "a tar's contents are handed over"
            data = container.read(member)
        out[i] = decode(data, how, member_of(container.path, member))
    return out


def _container(path: Path) -> Folder | Zip | Tar:
    if path not in _containers:
        _containers[path] = open_container(path)
    return _containers[path]


def decoded_batches(source: PictureSource, how: Preprocess, size: int, skip: int, workers: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """(names, uint8 [b, S, S, 3]) in order; at most 2 * workers + 1 batches are held. workers = 0: in this process."""
    path = source.path
    tasks = ((names, ([source.member(name) for name in names], contents, how)) for names, contents in source.batches(size, skip))
    if workers == 0:
        for names, task in tasks:
            yield names, decode_batch(source.container, *task)
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
