"""Progress of a long stage: a bar on a terminal, a plain line every few seconds anywhere else."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType


class Progress:
    """Counts `unit`s; `total` (optional) is in the same unit, unless set() is used with a fraction. Use as a context manager."""

    def __init__(self, label: str, total: int | None = None, unit: str = "rows", seconds: float = 5.0):
        self._label, self._total, self._unit, self._seconds = label, total, unit, seconds
        self._count = 0
        self._fraction: float | None = None
        self._begin = self._last = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=label, unit=f" {unit}", unit_scale=True, leave=False)

    def __enter__(self) -> Progress:
        return self

    def add(self, count: int = 1, fraction: float | None = None) -> None:
        """`count` more are done; `fraction` in [0,1] says how far that is when the total is unknown."""
        self._count += count
        self._fraction = fraction
        if self._bar is not None:
            if fraction is not None:
                self._bar.set_postfix_str(f"{100 * fraction:.0f}%", refresh=False)
            self._bar.update(count)
            return
        now = time.monotonic()
        if now - self._last >= self._seconds:
            self._last = now
            print(self._line(now), file=sys.stderr, flush=True)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        if kind is None:
            self._fraction = None
            self._total = None
            print(self._line(time.monotonic()), file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        elapsed = max(now - self._begin, 1e-9)
        parts = [f"{self._label}: {self._count:,}"]
        done = self._fraction
        if self._total:
            parts[0] += f"/{self._total:,}"
            done = self._count / self._total
        parts[0] += f" {self._unit}"
        if done:
            parts.append(f"{100 * done:.0f}%")
        parts.append(f"{self._count / elapsed:,.0f}/s")
        parts.append(f"{elapsed:.1f} s")
        if done and done > 0.01:
            parts.append(f"{elapsed * (1 - done) / done:.0f} s left")
        return ", ".join(parts)


@contextlib.contextmanager
def waiting(label: str, first: float = 2.0, seconds: float = 5.0) -> Iterator[None]:
    """For a stage that cannot say how far it is, as another program: how long it has taken so far, on stderr.

    Nothing is said of a stage that takes less than `first` seconds; then a line in place on a terminal, elsewhere one every `seconds`.
    """
    done, begin, live = threading.Event(), time.monotonic(), sys.stderr.isatty()

    def report() -> None:
        pause = first
        while not done.wait(pause):
            elapsed = f"{label}: {time.monotonic() - begin:.0f} s"
            print(f"\r\033[K{elapsed}" if live else elapsed, end="" if live else "\n", file=sys.stderr, flush=True)
            pause = 1.0 if live else seconds

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if live and time.monotonic() - begin >= first:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
