"""The record of a run: append-only events on disk, the truth that everything else mirrors.

One JSON object a line in ``events.jsonl``. Every event has ``event``, ``time`` (Unix seconds),
``attempt`` (1, 2, ... a resumed run starts a new one). Kinds and their own fields:

    start     run, arm, seed, machine, versions, threads, ranks, device, clock_kind, corpus,
              plan, donor, resumed_step, parameters
    train     step, samples_seen, audio_seconds, loss, loss_steps, lr, segment_length,
              batch_size, active_flows, active_channels, skipped_steps, nonfinite_steps,
              model_flops, joules, clock
              (loss: mean over the loss_steps since the last one whose loss was finite;
              skipped_steps: all that were not made, since the start; nonfinite_steps: those of
              them that were no matter of fp16's loss scale; model_flops: spent since the start,
              on the way to these weights; joules: of the clock's train section, lost work
              included, null without a meter)
    clock     step, joules, clock: nothing but time has passed, since steps are slow
    ledger    section, spent: nothing but time has passed, outside of steps. spent: clock totals in
              the middle of that section (null: of none), for an attempt after a kill to go on from;
              not `clock`, whose readings are between pieces of work and held against the calendar
    snapshot  index, step, audio_seconds, clock, model_flops, joules, joules_of (what the meter
              counts, or why there is none), path, sha256
    rollback  from_step, step, audio_seconds, snapshot, cause, mend, skipped_steps,
              nonfinite_steps, clock: the run diverged at from_step and went back to the state of
              step (0: the start); snapshot: the folder of the last good weights; an end follows
    trained   step, clock, model_flops, joules, joules_of, peak_memory_bytes, peak_memory_of
              (process | gpu tensors; of the rank that used most): training has reached its
              end; only scoring may be left
    score     index, step, audio_seconds, sha256, set (grid | held_out), sigma, metrics,
              utterances; a later one of the same weights, noise and utterances adds its metrics
    ends      set, ends (name -> metric -> mean): the ends of the metrics' scales on the run's
              corpus (wg.measure.ends); a later one adds its metrics
    samples   audio (utterance id -> file in the run directory)
    end       status (finished | interrupted | failed | refused), reason, clock, step,
              audio_seconds, model_flops, joules, joules_of; peak_memory_bytes and
              peak_memory_of unless there is a `trained`

Numbers that are not finite are written as null: JSON has none.
"""

from __future__ import annotations

import functools
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from wg.measure.clock import maximum

Event = dict[str, Any]
Listener = Callable[[Event], None]

_TOTALS = ("clock", "spent")  # fields that hold clock totals


class Record:
    """Appends events; each line is flushed, so that a kill loses at most the line in flight.
    Several threads may write: lines, times and clocks follow each other."""

    def __init__(self, run_dir: Path, listeners: Iterable[Listener] = ()) -> None:
        self.path = run_dir / "events.jsonl"
        self.listeners = list(listeners)
        earlier = read_events(run_dir)
        self.written = time.monotonic()  # when clock totals last were
        self._clock = last_clock(earlier)
        self._lock = threading.Lock()
        self.attempt = 1 + max((e["attempt"] for e in earlier), default=0)
        _end_last_line(self.path)

    def write(self, event: str, **fields: Any) -> Event:
        """Clocks never fall: where rank 0 writes its own after the maximum over ranks, that
        maximum stays."""
        with self._lock:
            for name in _TOTALS:
                if name in fields:
                    before = self._clock
                    self._clock = maximum(fields[name], before) if before else fields[name]
                    fields[name] = self._clock
                    self.written = time.monotonic()
            line: Event = {"event": event, "time": time.time(), "attempt": self.attempt, **fields}
            clean = finite(line)
            with open(self.path, "a", encoding="utf-8") as f:
                f.write(json.dumps(clean, ensure_ascii=False) + "\n")
                f.flush()
                os.fsync(f.fileno())
            for listen in self.listeners:
                listen(clean)
        return clean


def finite(value: Any) -> Any:
    """``value`` with every number that is not finite replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value


def read_events(run_dir: Path) -> list[Event]:
    """All events in order. A last line cut short by a kill is left out."""
    path = run_dir / "events.jsonl"
    if not path.exists():
        return []
    events = []
    # Not splitlines(): a file name may hold one of Unicode's other line ends.
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            if line:
                events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events


def _end_last_line(path: Path) -> None:
    """A kill may have left half a line; the next event must start on its own."""
    if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        with open(path, "a", encoding="utf-8") as f:
            f.write("\n")


def last_clock(events: Iterable[Event]) -> dict[str, Any] | None:
    """The largest clock totals on record, section by section: what was spent, whichever rank or
    attempt wrote it down."""
    clocks = [e[name] for e in events for name in _TOTALS if name in e]
    return functools.reduce(maximum, clocks) if clocks else None


def last_joules(events: Iterable[Event]) -> float:
    """The largest energy on record: what was spent, whichever attempt wrote it down."""
    return max((e["joules"] for e in events if e.get("joules") is not None), default=0.0)


def status(events: list[Event]) -> str:
    """finished, interrupted, failed, refused, or running (started, not ended: perhaps killed)."""
    if not events:
        return "new"
    ends = [e for e in events if e["event"] in ("start", "end")]
    return str(ends[-1]["status"]) if ends and ends[-1]["event"] == "end" else "running"


def train_curve(events: list[Event]) -> list[Event]:
    """Train events without those of abandoned attempts: where a resumed run passed the same
    step again, the later attempt counts."""
    return _latest(events, "train", lambda e: e["step"])


def snapshots(events: list[Event]) -> list[Event]:
    """By index; the newest of each, as an attempt may have taken one again."""
    return _latest(events, "snapshot", lambda e: e["index"])


def scores(events: list[Event], which: str) -> list[Event]:
    """Scores on ``which`` set (grid or held_out), one a snapshot, in order.

    Events about the same weights, noise and utterances are one score: metrics that a later one
    adds stand beside the earlier ones, and what both have is the later's. Of other weights (a
    resumed run passed the snapshot again) or other speech, the later event counts alone.
    """
    by_index: dict[int, Event] = {}
    for e in events:
        if e["event"] == "score" and e["set"] == which:
            earlier = by_index.get(e["index"])
            by_index[e["index"]] = e if earlier is None else _merged(earlier, e)
    return [by_index[k] for k in sorted(by_index)]


def _merged(old: Event, new: Event) -> Event:
    one, other = old.get("utterances") or {}, new.get("utterances") or {}
    same = all(old.get(k) == new.get(k) for k in ("sha256", "sigma"))
    if not same or one.keys() != other.keys():
        return new
    return {
        **old,
        **new,
        "metrics": {**old["metrics"], **new["metrics"]},
        "utterances": {u: {**one[u], **other[u]} for u in one},
    }


def scale_ends(events: list[Event]) -> dict[str, dict[str, float | None]]:
    """Name -> metric -> mean: the ends of the scales on record, all metrics together."""
    found: dict[str, dict[str, float | None]] = {}
    for e in events:
        if e["event"] == "ends":
            for name, metrics in e["ends"].items():
                found.setdefault(name, {}).update(metrics)
    return found


def attempt_spans(events: list[Event]) -> tuple[tuple[float, float], ...]:
    """(first, last) Unix seconds of every attempt to train. `wg score` is none: it starts
    nothing."""
    times: dict[int, list[float]] = {}
    started = {e["attempt"] for e in events if e["event"] == "start"}
    for e in events:
        if e["attempt"] in started:
            times.setdefault(e["attempt"], []).append(e["time"])
    return tuple((min(t), max(t)) for _, t in sorted(times.items()))


def _latest(events: list[Event], kind: str, key: Callable[[Event], int]) -> list[Event]:
    by_key: dict[int, Event] = {}
    for e in events:
        if e["event"] == kind:
            by_key[key(e)] = e
    return [by_key[k] for k in sorted(by_key)]
