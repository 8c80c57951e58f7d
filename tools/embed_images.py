#!/usr/bin/env python3
"""Embeds every picture of a raw folder with a frozen vision model into an IMAGES.h5; goes on where an interrupted run stopped."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from vixen_tools import VERSION
from vixen_tools.errors import UserError, run_tool, writing
from vixen_tools.file_lock import open_locked
from vixen_tools.files import publish
from vixen_tools.image_rows import BLOCK_ROWS, write_images
from vixen_tools.outputs import beside, claim
from vixen_tools.picture_decode import DECODER
from vixen_tools.pictures import ARCHIVES, PictureSource, decoded_batches
from vixen_tools.progress import Progress, waiting

if TYPE_CHECKING:  # torch is loaded late, so that the decoding processes do without
    import torch

    from vixen_tools.vision import VisionModel

SAVE_SECONDS = 20.0


class Partial:
    """Rows done so far, float16 [M, I] in a file beside the output, with a note of how many batches it holds.

    The note carries a fingerprint of everything that decides the numbers and the order, and a hash of the content of the pictures
    that are done: with another one the work begins anew. A picture that is not done yet may change, as a damaged one must.
    """

    @staticmethod
    def rows_path(out: Path) -> Path:
        return out.with_name(beside(out, "partial.f16"))

    @staticmethod
    def bytes_on_disk(out: Path) -> int:
        """What an earlier call's rows take up."""
        path = Partial.rows_path(out.resolve())
        return path.stat().st_blocks * 512 if path.is_file() else 0

    def __init__(self, out: Path, source: PictureSource, batch: int, width: int, fingerprint: str):
        self._note_path = out.with_name(beside(out, "partial.json"))
        self._rows_path = self.rows_path(out)
        self._source, self._batch, self._width, self._fingerprint = source, batch, width, fingerprint
        self._rows = len(source.names)
        self._places = {name: row for row, name in enumerate(source.names)}
        out.parent.mkdir(parents=True, exist_ok=True)
        self._file = open_locked(self._rows_path, f"{out}: another embed_images.py is writing it: wait for it, or give another --out")
        self._done = xxhash.xxh3_64()
        self.batches = self._read_note()
        self._file.truncate(self._rows * width * 2)
        self._saved = time.monotonic()

    def write(self, names: list[str], values: np.ndarray) -> None:
        """The rows of the next batch, float16."""
        for name, value in zip(names, values, strict=True):
            self._file.seek(self._places[name] * self._width * 2)
            self._file.write(value.tobytes())
        self._add_done(names)
        self.batches += 1
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        temporary = self._note_path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"fingerprint": self._fingerprint, "batches": self.batches, "content": self._done.hexdigest()}))
        os.replace(temporary, self._note_path)
        self._saved = time.monotonic()

    def blocks(self) -> Iterator[np.ndarray]:
        """float16 [.., I] in order."""
        self._file.flush()
        self._file.seek(0)
        for first in range(0, self._rows, BLOCK_ROWS):
            count = min(BLOCK_ROWS, self._rows - first)
            yield np.frombuffer(self._file.read(count * self._width * 2), np.float16).reshape(count, self._width)

    def remove(self) -> None:
        # names first, lock last: whoever opened the file before sees that it has no name any more
        self._note_path.unlink(missing_ok=True)
        self._rows_path.unlink(missing_ok=True)
        self._file.close()

    def _add_done(self, names: list[str]) -> None:
        for name in names:
            self._done.update(f"{name}\0{self._source.identity(name)}\n".encode())

    def _read_note(self) -> int:
        try:
            note = json.loads(self._note_path.read_text())
            batches = int(note["batches"])
            fits = note["fingerprint"] == self._fingerprint and os.fstat(self._file.fileno()).st_size == self._rows * self._width * 2
            if fits and 0 <= batches <= -(-self._rows // self._batch):
                self._add_done(self._source.order[: batches * self._batch])
                if note["content"] == self._done.hexdigest():
                    return batches
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # no note, or one of something else
        self._done = xxhash.xxh3_64()
        self._file.truncate(0)
        return 0


def to_half(values: np.ndarray, names: list[str], source: Path) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    bad = ~np.isfinite(half).all(axis=1)
    if bad.any():
        raise UserError(f"{source}: the embedding of picture '{names[int(np.argmax(bad))]}' is not finite as float16")
    return half


def embedded_batches(
    model: VisionModel, batches: Iterable[tuple[list[str], np.ndarray]], threads: int
) -> Iterator[tuple[list[str], np.ndarray]]:
    """(names, float32 [b, I]) in order; `threads` forward passes run at a time.

    On a CPU one thread a batch beats many threads in one batch threefold: the activations of 32 small pictures stay in
    the core's cache, and no thread waits for another.
    """
    waiting: deque = deque()
    failure = None
    with ThreadPoolExecutor(threads) as pool:
        try:
            try:
                for names, pictures in batches:
                    waiting.append((names, pool.submit(model.embed, pictures)))
                    if len(waiting) > 2 * threads:
                        done, future = waiting.popleft()
                        yield done, future.result()
            except UserError as error:  # a damaged picture: what came before it is not lost
                failure = error
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            pool.shutdown(cancel_futures=True)
    if failure is not None:
        raise failure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="folder with images/, images.zip or images.tar.gz")
    parser.add_argument("--model", default="efficientnet-lite0", help="efficientnet-lite0, or a SigLIP2 folder or repository")
    parser.add_argument("--out", type=Path, required=True, help="IMAGES.h5 to write")
    parser.add_argument("--input-size", type=int, help="pixels a side (default: the model's, 224 for efficientnet-lite0)")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--batch", type=int, default=32, help="pictures a forward pass (default 32; a GPU likes 256)")
    parser.add_argument("--workers", type=int, default=cores, help="processes that decode (default: all cores; 0: none)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda when there is one)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: bf16 where it is native")
    options = parser.parse_args()
    if options.batch < 1 or options.workers < 0:
        raise UserError(f"--batch {options.batch} --workers {options.workers}: expected at least 1 and 0")
    if options.input_size is not None and not 1 <= options.input_size <= 16384:
        raise UserError(f"--input-size {options.input_size}: expected 1..16384")
    with writing(options.out):
        embed(options, cores)


def choose_device(wanted: str | None) -> torch.device:
    """The torch device; one that is not there is a UserError."""
    import torch  # here, so that the decoding processes do not load it

    try:
        device = torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise UserError(f"--device {wanted}: expected cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {wanted}: expected cpu, cuda or cuda:N")
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise UserError(f"--device {wanted}: there is no such GPU here ({torch.cuda.device_count()} found)")
    return device


def fingerprint(source: PictureSource, model: VisionModel, batch: int, dtype: torch.dtype) -> str:
    """Of what decides a row and its place besides the pictures' content."""
    described = [
        DECODER,
        model.name,
        model.content(),
        model.preprocess.size,
        model.preprocess.resample,
        model.width,
        batch,
        str(dtype),
        source.order,
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def embed(options: argparse.Namespace, cores: int) -> None:
    sources = [options.raw / name for name in ("images", *ARCHIVES)]
    inputs: dict[str, Path | Iterable[Path] | None] = {
        "--raw": sources,
        "--model": Path(options.model),
    }
    claim(options.out, inputs)  # before the pictures are listed, which may take minutes
    device = choose_device(options.device)
    with waiting(f"{options.raw}: pictures listed"):
        source = PictureSource(options.raw)
    import torch

    from vixen_tools.vision import choose_precision, expected_width, open_model

    # the rows twice: those of the unfinished work, of which an earlier call may have left some, and the output
    rows_bytes = 2 * expected_width(options.model) * len(source.names)
    out = claim(options.out, inputs, bytes_needed=max(rows_bytes, 2 * rows_bytes - Partial.bytes_on_disk(options.out)))
    dtype = choose_precision(options.precision, device)
    threads = 1
    if device.type == "cpu":
        torch.set_num_threads(1)
        threads = cores
    model = open_model(options.model, options.input_size, device, dtype)
    begin = time.monotonic()
    partial = Partial(out, source, options.batch, model.width, fingerprint(source, model, options.batch, dtype))
    if partial.batches:
        print(f"{options.out}: going on after {partial.batches * options.batch:,} pictures", file=sys.stderr)
    label = f"{source.path.name}: {model.name} at {model.preprocess.size} px, {str(dtype).removeprefix('torch.')}"
    skipped = min(partial.batches * options.batch, len(source.names))
    batches = decoded_batches(source, model.preprocess, options.batch, partial.batches, options.workers)
    try:
        with Progress(label, len(source.names) - skipped, "pictures") as progress:
            for names, values in embedded_batches(model, batches, threads):
                partial.write(names, to_half(values, names, source.path))
                progress.add(len(names))
    finally:
        partial.save()
    temporary = out.with_name(beside(out, "tmp"))
    made_by = f"embed_images.py {VERSION}"
    with waiting(f"{out.name}: written"):
        write_images(temporary, source.names, model.width, partial.blocks(), model.name, model.preprocess.size, made_by)
    publish(temporary, out)
    partial.remove()
    done = max(len(source.names) - skipped, 1)
    seconds = time.monotonic() - begin
    print(
        f"{options.out}: {len(source.names):,} x {model.width}, {out.stat().st_size / 1e6:.1f} MB, "
        f"{1000 * seconds / done:.2f} ms a picture",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run_tool(main)
