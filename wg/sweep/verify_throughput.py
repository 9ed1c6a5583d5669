"""The seconds of a sweep's runs against what ``wg bench arms`` measured of their steps.

CPU seconds of a run are held by its own wall clock from above only; here they are held by another
measurement, made with all arms in turn. The other way round, the file cannot be changed without
the runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from wg.measure.record import Event
from wg.measure.verify_clock import section
from wg.sweep.verify_subject import Subject, listed

FILE = "throughput.json"  # beside the runs
# Factors by which the seconds of a run may be fewer, or more, than the bench has for its audio.
# Honest runs: 0.75 to 1.31 (53 runs of 13 arms in two sweeps on one machine). While others keep a
# machine's caches busy a CPU second does less; a GPU's steps may wait for data (not measured).
FASTER = 1.6
SLOWER = {"cpu": 2.0, "wall": 4.0}
# The same of an arm's runs in the middle, relative to the other arms: 0.94 to 1.33.
BETWEEN_ARMS = 1.75
LONG_ENOUGH = 5.0  # seconds of steps, for them to be known


def check_throughput(runs: list[Subject], sweep_dir: Path) -> tuple[list[str], list[str]]:
    """(faults, notes)."""
    path = sweep_dir / FILE
    if not path.is_file():
        kind = "wall" if all(r.start.get("clock_kind") == "wall" for r in runs) else "CPU"
        return [], [f"no wg bench arms: {kind} seconds rest on the runs' own clocks"]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = [r for r in found["arms"].values() if not r["refused"]]
        return _check(runs, found["machine"], rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return [f"{FILE} is damaged: run `wg bench arms` again, or delete it"], []


def _check(
    runs: list[Subject], machine: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[str]]:
    faults = [f for row in rows for f in _own(row)]
    here = [r for r in runs if _machine(r) == {k: machine.get(k) for k in _SAME}]
    arms: dict[str, dict[str, float]] = {}
    unknown = []
    for arm in sorted({str(r.identity.get("arm")) for r in here}):
        own = [r for r in here if str(r.identity.get("arm")) == arm]
        row = next((row for row in rows if set(row["runs"]) & {r.name for r in own}), None)
        if row is None:
            unknown.append(arm)
            continue
        ratios = {r.name: ratio for r in own if (ratio := _ratio(r.events, row)) is not None}
        faults += _out(ratios, arm, str(row["clock"]))
        if ratios:
            arms[arm] = ratios
    faults += _odd({a: median(found.values()) for a, found in arms.items() if len(found) > 1})
    notes = []
    if unknown:
        notes.append(f"wg bench arms has no {listed(unknown)}: their seconds are their own clocks'")
    if len(here) < len(runs):
        notes.append(f"wg bench arms was made on another machine than {len(runs) - len(here)} runs")
    return faults, notes


_SAME = ("cpu", "gpu", "cores", "device", "threads")


def _machine(run: Subject) -> dict[str, Any]:
    about = {**(run.start.get("machine") or {})}
    return {k: {**about, **run.start}.get(k) for k in _SAME}


def _own(row: Mapping[str, Any]) -> Iterator[str]:
    """What is summed up in a row follows from its raw seconds."""
    clock, phases, raw = row["clock"], row["phases"], row["raw"]
    audio = sum(p["steps"] * p["samples"] for p in phases) / row["sampling_rate"]
    each = [median(t["steps"][i][clock] for t in raw) for i in range(len(phases))]
    whole = median(
        sum(p["steps"] * s[clock] for p, s in zip(phases, t["steps"], strict=True)) for t in raw
    )
    said = [p["seconds"] for p in phases]
    if any(abs(a - b) > 1e-6 * b for a, b in zip(said, each, strict=True)) or (
        abs(row["audio_seconds_per_second"] * whole - audio) > 1e-6 * audio
    ):
        yield f"{FILE}: the throughput of {row['run']} is not what its raw seconds give"


def _ratio(events: Sequence[Event], row: Mapping[str, Any]) -> float | None:
    """Seconds of a run's steps over what the bench has for the same audio, from line to line of
    its log, so that what a crash threw away counts on both sides."""
    lines = [e for e in events if e["event"] == "train"]
    spent = benched = 0.0
    for a, b in pairwise(lines):
        if a["attempt"] == b["attempt"]:
            spent += section(b, "train", row["clock"]) - section(a, "train", row["clock"])
            benched += _seconds(row, b["audio_seconds"]) - _seconds(row, a["audio_seconds"])
    return spent / benched if max(spent, benched) >= LONG_ENOUGH and benched > 0 else None


def _seconds(row: Mapping[str, Any], audio_seconds: float) -> float:
    """Seconds that the bench has for a run's first ``audio_seconds``, shape by shape."""
    seconds, left = 0.0, audio_seconds
    for i, phase in enumerate(row["phases"]):
        step = phase["samples"] / row["sampling_rate"]
        here = left if i == len(row["phases"]) - 1 else min(left, phase["steps"] * step)
        seconds += here / step * phase["seconds"]
        left -= here
    return seconds


def _out(ratios: Mapping[str, float], arm: str, clock: str) -> Iterator[str]:
    seconds = f"{'CPU' if clock == 'cpu' else clock} seconds"
    for name, ratio in ratios.items():
        if ratio * FASTER < 1:
            yield (
                f"{name} took {ratio:.2f} times the {seconds} that wg bench arms measured "
                f"for the steps of {arm}: fewer than they can be, or {FILE} is not of this sweep"
            )
        elif ratio > SLOWER[clock]:
            yield (
                f"{name} took {ratio:.2f} times the {seconds} that wg bench arms measured "
                f"for the steps of {arm}: the bench is not of this sweep, or was changed"
            )


def _odd(arms: Mapping[str, float]) -> Iterator[str]:
    """An arm against the others: a busy machine makes all of them slower. One run is too few."""
    for arm, ratio in arms.items():
        others = [r for other, r in arms.items() if other != arm]
        if not others:
            return
        relative = ratio / median(others)
        if not 1 / BETWEEN_ARMS <= relative <= BETWEEN_ARMS:
            yield (
                f"arm {arm} took {relative:.2f} times the seconds that wg bench arms has for it, "
                "relative to the other arms: its seconds or the bench's were changed"
            )
