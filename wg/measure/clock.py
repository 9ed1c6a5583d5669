"""Named clocks: where a run's seconds went.

Every moment belongs to exactly one name: entering a section pauses the one around it. Wall time
is monotonic, CPU time is the whole process's and its finished children's. On a GPU the device is
synchronised at every change of section, so that queued work is charged to the section that queued
it.

One thread works a clock. Others may read it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

SECTIONS = ("init", "compile", "data_prep", "train", "eval", "log", "checkpoint")
# What a recipe is charged for. Loading (init), judging (eval), and book-keeping (log,
# checkpoint) are the experimenter's cost, the same for all arms or chosen by the experimenter.
HEADLINE = ("train", "compile", "data_prep")

Totals = dict[str, dict[str, float]]
Kind = Literal["wall", "cpu"]


class Clock:
    """Exclusive section timer.

    earlier: totals of an interrupted attempt of the same run, to go on from. They are the last
    ones *recorded*, not those of the checkpoint that training resumes from: work that a crash
    threw away stays charged.
    """

    def __init__(
        self,
        earlier: Mapping[str, Mapping[str, float]] | None = None,
        synchronize: Callable[[], None] = lambda: None,
    ) -> None:
        self._totals: Totals = {
            s: {"wall": 0.0, "cpu": 0.0, **((earlier or {}).get(s, {}))} for s in SECTIONS
        }
        self.synchronize = synchronize
        self._stack: list[str] = []
        self._last = _now()
        self._lock = threading.Lock()  # a reader must not come between a sum and its stack

    def _wait(self) -> None:
        """For queued work of the section on top of the stack."""
        if self._stack:
            self.synchronize()

    def _settle(self) -> None:
        """Charge the time since the last change to the section on top of the stack."""
        now = _now()
        if self._stack:
            _add(self._totals[self._stack[-1]], self._last, now)
        self._last = now

    def push(self, section: str) -> None:
        assert section in SECTIONS, section
        self._wait()
        with self._lock:
            self._settle()
            self._stack.append(section)

    def pop(self) -> None:
        self._wait()
        with self._lock:
            self._settle()
            self._stack.pop()

    @contextmanager
    def __call__(self, section: str) -> Iterator[None]:
        self.push(section)
        try:
            yield
        finally:
            self.pop()

    def totals(self) -> Totals:
        """Seconds so far, ``{section: {"wall": s, "cpu": s}}``, rounded to a microsecond."""
        self._wait()
        with self._lock:
            self._settle()
            return _rounded(self._totals)

    def reading(self) -> tuple[str | None, Totals]:
        """(section, :meth:`totals`) from any thread. The clock stays as it is, and the device is
        not waited for: that would break into a CUDA graph that is being recorded."""
        with self._lock:
            section = self._stack[-1] if self._stack else None
            found = {s: dict(t) for s, t in self._totals.items()}
            if section is not None:
                _add(found[section], self._last, _now())
        return section, _rounded(found)


def _add(total: dict[str, float], since: tuple[float, float], now: tuple[float, float]) -> None:
    total["wall"] += now[0] - since[0]
    total["cpu"] += now[1] - since[1]


def _rounded(totals: Totals) -> Totals:
    return {s: {k: round(v, 6) for k, v in t.items()} for s, t in totals.items()}


def _now() -> tuple[float, float]:
    """(wall, CPU) seconds. A program that the process has run and waited for (a compiler) is its
    doing too."""
    ran = os.times()
    return time.monotonic(), time.process_time() + ran.children_user + ran.children_system


def headline(totals: Mapping[str, Mapping[str, float]], kind: Kind) -> float:
    """Seconds that a recipe is charged for: train + compile + data_prep of the run."""
    return sum(totals[s][kind] for s in HEADLINE if s in totals)


def headline_kind(device_type: str) -> Kind:
    """Wall seconds where the device is the run's own (a GPU); process CPU seconds on a CPU,
    which is shared and noisy."""
    return "cpu" if device_type == "cpu" else "wall"


def maximum(a: Mapping[str, Any], b: Mapping[str, Any]) -> Totals:
    """The later of two readings, section by section (over ranks, or over attempts)."""
    return {s: {k: max(a[s][k], b[s][k]) for k in ("wall", "cpu")} for s in a}
