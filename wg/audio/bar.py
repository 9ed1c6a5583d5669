"""A progress bar for work that is usually over before one is worth showing."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

APPEARS_AFTER = 2.0  # seconds
LINE_EVERY = 30.0  # seconds between lines where there is no terminal to draw on


class LateBar:
    """Progress on stderr once the work takes a while: a bar on a terminal, else now and then a
    line for the log.

    ``total`` counts steps, or bytes with ``as_bytes``; ``wanted=False`` shows nothing. Use it
    as a context.
    """

    def __init__(self, total: int, text: str, wanted: bool = True, as_bytes: bool = False) -> None:
        self.total, self.text, self.wanted, self.as_bytes = total, text, wanted, as_bytes
        self.done = 0
        self.started = self.last_line = time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> LateBar:
        return self

    def advance(self, n: int = 1) -> None:
        """``n`` more steps are done."""
        self.move_to(self.done + n)

    def move_to(self, done: int) -> None:
        """``done`` steps are done in all."""
        self.done = done
        if not self.wanted:
            return
        now = time.monotonic()
        if not sys.stderr.isatty():
            if now - self.last_line > LINE_EVERY:
                self.last_line = now
                share = 100 * self.done / max(self.total, 1)
                print(f"{self.text}: {share:.0f}%", file=sys.stderr, flush=True)
            return
        if self.bar is None and now - self.started > APPEARS_AFTER:
            self.bar = Progress(*self._columns(), console=Console(stderr=True), transient=True)
            self.bar.start()
            self.bar.add_task(self.text, total=self.total)
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=self.done)

    def _columns(self) -> list[ProgressColumn]:
        counts: list[ProgressColumn] = [MofNCompleteColumn()]
        if self.as_bytes:
            counts = [DownloadColumn(), TransferSpeedColumn()]
        text = TextColumn("{task.description}", markup=False)  # it names files
        return [text, BarColumn(), *counts, TimeRemainingColumn()]

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
