"""Time that passes where no event is due, written down all the same.

Preparing the data, compiling and scoring may each take minutes without an event that holds a clock.
A kill would throw them away uncharged, each time. Steps have events enough (wg.train.recorder).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from wg.measure.clock import Clock
from wg.measure.record import Record


@contextmanager
def ledger(record: Record | None, clock: Clock, every: float) -> Iterator[None]:
    """While it lasts, no more than ``every`` seconds outside of steps are off the record. Only the
    rank that has the record keeps one."""
    if record is None:
        yield
        return
    record.written = time.monotonic()  # what came before is loading, which no recipe is charged for
    over = threading.Event()
    # A daemon: a process that ends in any other way must not wait for it.
    keeper = threading.Thread(
        target=_keep, args=(record, clock, every, over), name="ledger", daemon=True
    )
    try:
        keeper.start()
        yield
    finally:
        over.set()
        if keeper.is_alive():  # not when a Ctrl-C came before it was
            keeper.join()


def _keep(record: Record, clock: Clock, every: float, over: threading.Event) -> None:
    pause = every
    while not over.wait(pause):
        pause = record.written + every - time.monotonic()
        if pause > 0:
            continue
        pause = every
        section, spent = clock.reading()
        # Not within a step: the recipe would be charged for the writing.
        if section != "train":
            record.write("ledger", section=section, spent=spent)
