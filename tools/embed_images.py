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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vixen_tools import VERSION
from vixen_tools.errors import UserError, run_tool, writing
from vixen_tools.files import publish
from vixen_tools.image_rows import BLOCK_ROWS, write_images
from vixen_tools.pictures import PictureSource, decoded_batches
from vixen_tools.progress import Progress

SAVE_SECONDS = 20.0


class Partial:
    """Rows done so far, float16 [M, I] in a file beside the output, with a note of how many batches it holds.

    The note carries a fingerprint of everything that decides the numbers: with another one the work begins anew.
    """

    def __init__(self, out: Path, rows: int, width: int, fingerprint: str):
        self._note_path = out.with_name(f".{out.name}.partial.json")
        self._rows_path = out.with_name(f".{out.name}.partial.f16")
        self._fingerprint = fingerprint
        self.batches = self._read_note(rows * width * 2)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with open(self._rows_path, "ab") as file:
                file.truncate(rows * width * 2)
        except OSError as error:
            raise UserError(f"{out}: cannot write here ({error.strerror})") from None
        self._file = open(self._rows_path, "r+b")
        self._width = width
        self._rows = rows
        self._saved = time.monotonic()

    def write(self, places: np.ndarray, values: np.ndarray) -> None:
        """Rows `places` of the result."""
        for place, value in zip(places, values):
            self._file.seek(int(place) * self._width * 2)
            self._file.write(value.tobytes())
        self.batches += 1
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        temporary = self._note_path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"fingerprint": self._fingerprint, "batches": self.batches}))
        os.replace(temporary, self._note_path)
        self._saved = time.monotonic()

    def blocks(self):
        """float16 [.., I] in order."""
        self._file.flush()
        self._file.seek(0)
        for first in range(0, self._rows, BLOCK_ROWS):
            count = min(BLOCK_ROWS, self._rows - first)
            yield np.frombuffer(self._file.read(count * self._width * 2), np.float16).reshape(count, self._width)

    def remove(self) -> None:
        self._file.close()
        self._rows_path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)

    def _read_note(self, expected_bytes: int) -> int:
        try:
            note = json.loads(self._note_path.read_text())
            if note["fingerprint"] == self._fingerprint and self._rows_path.stat().st_size == expected_bytes:
                return int(note["batches"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self._rows_path.unlink(missing_ok=True)
        return 0


def to_half(values: np.ndarray, names: list[str], source: Path) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    bad = ~np.isfinite(half).all(axis=1)
    if bad.any():
        raise UserError(f"{source}: the embedding of picture '{names[int(np.argmax(bad))]}' is not finite as float16")
    return half


def embedded_batches(model, batches, threads: int):
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

    with writing(options.out):
        embed(options, cores)


def embed(options: argparse.Namespace, cores: int) -> None:
    source = PictureSource(options.raw)
    import torch  # here, so that the decoding processes do not load it

    from vixen_tools.vision import choose_precision, open_model

    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = choose_precision(options.precision, device)
    threads = 1
    if device.type == "cpu":
        torch.set_num_threads(1)
        threads = cores
    model = open_model(options.model, options.input_size, device, dtype)
    begin = time.monotonic()
    places = {name: row for row, name in enumerate(source.names)}
    described = [model.name, model.preprocess.size, model.preprocess.resample, model.width, options.batch, str(dtype),
                 str(source.path.resolve()), os.path.getmtime(source.path), source.order]
    partial = Partial(options.out, len(source.names), model.width, hashlib.sha256(json.dumps(described).encode()).hexdigest())
    if partial.batches:
        print(f"{options.out}: going on after {partial.batches * options.batch:,} pictures", file=sys.stderr)
    label = f"{source.path.name}: {model.name} at {model.preprocess.size} px, {str(dtype).removeprefix('torch.')}"
    skipped = min(partial.batches * options.batch, len(source.names))
    batches = decoded_batches(source, model.preprocess, options.batch, partial.batches, options.workers)
    try:
        with Progress(label, len(source.names) - skipped, "pictures") as progress:
            for names, values in embedded_batches(model, batches, threads):
                half = to_half(values, names, source.path)
                partial.write(np.array([places[name] for name in names]), half)
                progress.add(len(names))
    finally:
        partial.save()
    temporary = options.out.with_name(f".{options.out.name}.tmp")
    write_images(temporary, source.names, model.width, partial.blocks(), model.name, model.preprocess.size,
                 f"embed_images.py {VERSION}")
    publish(temporary, options.out)
    partial.remove()
    done = max(len(source.names) - skipped, 1)
    seconds = time.monotonic() - begin
    print(f"{options.out}: {len(source.names):,} x {model.width}, {options.out.stat().st_size / 1e6:.1f} MB, "
          f"{1000 * seconds / done:.2f} ms a picture", file=sys.stderr)


if __name__ == "__main__":
    run_tool(main)
