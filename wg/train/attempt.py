"""What an attempt at a run holds: the lock of its directory, its signals, its log."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wg.errors import UserError


class Log:
    """Prints lines with the run's name and the time since its start, and keeps them."""

    def __init__(self, run_dir: Path, name: str, quiet: bool) -> None:
        self.path, self.name, self.quiet = run_dir / "log.txt", name, quiet
        self.start = time.monotonic()

    def __call__(self, text: str) -> None:
        if self.quiet:
            return
        minutes, seconds = divmod(int(time.monotonic() - self.start), 60)
        line = f"[{self.name} {minutes}:{seconds:02d}] {text}"
        self.keep(line)
        try:
            print(line, flush=True)
        except OSError:  # nobody listens any more (a pipe into head, a closed terminal): train on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def keep(self, text: str) -> None:
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(text + "\n")


@contextmanager
def only_one(run_dir: Path) -> Iterator[None]:
    """Two processes in one run directory would mix their records."""
    with open(run_dir / "lock", "w") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{run_dir} is being trained by another process; wait for it or stop it."
            ) from None
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM interrupts like Ctrl-C. The recorder takes both over while steps are made, so that
    a step is finished and the state saved first."""
    old = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def once(number: int, frame: Any) -> None:
        # A terminal's Ctrl-C comes from the terminal and from the launcher: the second must not
        # break into the writing of the end.
        for s in old:
            signal.signal(s, signal.SIG_IGN)
        raise KeyboardInterrupt

    for s in old:
        signal.signal(s, once)
    try:
        yield
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)
