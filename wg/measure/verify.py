"""What must hold in the record of a run, whoever wrote it down.

Each check reads events alone and gives a sentence for every fault. A record that was edited,
pasted together from two runs, or whose clocks say less than was spent does not pass: steps, audio
seconds, the calendar and the clocks have to tell one story.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from wg.measure.record import Event, snapshots

# Seconds of calendar time that two readings of two clocks may be apart.
SLACK = 1.0
# Share of the calendar's seconds within training that the named clocks may leave out.
UNNAMED = 0.1
# CPU seconds that a thread may spend in a wall second, for threads that an operating system adds.
BUSY = 1.25

Check = Callable[[Sequence[Event], Mapping[str, Any]], Iterator[str]]


def check_record(events: Sequence[Event], config: Mapping[str, Any]) -> list[str]:
    """All faults of a run's events, under the configuration that its directory is named after."""
    if not events:
        return ["events.jsonl is missing or empty"]
    return [fault for check in CHECKS for fault in check(events, config)]


def _attempts(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """Every attempt has one start, and they follow each other."""
    if events[0]["event"] != "start":
        yield f"the first event is '{events[0]['event']}' and not a start"
    order = [int(e["attempt"]) for e in events]
    if any(b < a for a, b in pairwise(order)):
        yield "attempts do not follow each other: events were moved or joined"
    starts: dict[int, int] = {}
    for e in events:
        if e["event"] == "start":
            starts[e["attempt"]] = starts.get(e["attempt"], 0) + 1
    for attempt in sorted(set(order)):
        kinds = {e["event"] for e in events if e["attempt"] == attempt}
        # A refused attempt, or one that only scores again, starts nothing.
        needed = kinds & {"train", "snapshot", "trained"}
        if starts.get(attempt, 0) > 1 or (needed and not starts.get(attempt)):
            yield f"attempt {attempt} has {starts.get(attempt, 0)} starts and should have one"
    for what in ("run", "arm", "recipe", "seed", "threads", "ranks", "device", "clock_kind"):
        values = {str(e.get(what)) for e in events if e["event"] == "start"}
        if len(values) > 1:
            yield f"attempts differ in {what}: {', '.join(sorted(values))}"


def _order(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """Time goes on; steps and audio seconds too, within an attempt."""
    for a, b in pairwise(events):
        if b["time"] < a["time"] - SLACK:
            yield f"time goes back by {a['time'] - b['time']:.0f} s before a '{b['event']}' event"
            break
    for kind in ("train", "snapshot"):
        last: dict[int, Event] = {}
        for e in (e for e in events if e["event"] == kind):
            before = last.get(e["attempt"])
            if before is not None:
                for axis in ("step", "audio_seconds"):
                    if e[axis] <= before[axis]:
                        yield f"{kind} events: {axis} goes from {before[axis]} to {e[axis]}"
            last[e["attempt"]] = e


def _amounts(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """Audio seconds are samples seen over the sampling rate; steps saw what a step sees."""
    rate = (config.get("data") or {}).get("sampling_rate")
    known: dict[int, float] = {}
    for e in events:
        if e["event"] != "train" or not rate:
            continue
        seconds = e["samples_seen"] / rate
        if abs(seconds - e["audio_seconds"]) > 1e-4:
            yield (
                f"step {e['step']} has seen {e['samples_seen']} samples, which are {seconds:.3f} s "
                f"and not {e['audio_seconds']} s"
            )
        known[e["step"]] = e["audio_seconds"]
    for e in events:
        if (
            e["event"] == "snapshot"
            and abs(known.get(e["step"], e["audio_seconds"]) - e["audio_seconds"]) > 1e-4
        ):
            yield f"snapshot {e['index']} and step {e['step']} disagree about the audio seen"


def _clocks(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """Totals never fall, not even over a crash, and agree with the calendar and the threads."""
    start = next((e for e in events if e["event"] == "start"), None)
    before: Event | None = None
    for e in events:
        if "clock" not in e:
            continue
        for section, kinds in e["clock"].items():
            for kind, value in kinds.items():
                earlier = before["clock"].get(section, {}).get(kind, 0.0) if before else 0.0
                if value < earlier - 1e-6:
                    yield (
                        f"clock {section} ({kind}) falls from {earlier:.3f} to {value:.3f} s at a "
                        f"'{e['event']}' event: time that was spent is missing"
                    )
        before = e
    threads = int((start or {}).get("threads") or 1)
    logged = [e for e in events if e["event"] == "train"]
    for a, b in pairwise(logged):
        if a["attempt"] == b["attempt"]:
            yield from _interval(a, b, threads)


def _interval(a: Event, b: Event, threads: int) -> Iterator[str]:
    """Between two lines of the log, which are written as the clocks are read."""
    elapsed = b["time"] - a["time"]
    grown = {k: _sum(b, k) - _sum(a, k) for k in ("wall", "cpu")}
    if grown["wall"] > elapsed + SLACK:
        yield (
            f"clocks grew by {grown['wall']:.1f} s in the {elapsed:.1f} s before step {b['step']}: "
            "more than there was"
        )
    if grown["wall"] < (1 - UNNAMED) * elapsed - SLACK:
        yield (
            f"clocks grew by {grown['wall']:.1f} s in the {elapsed:.1f} s before step {b['step']}: "
            "training took longer than is said"
        )
    compiled = _section(b, "compile", "cpu") - _section(a, "compile", "cpu")  # by children
    if grown["cpu"] - compiled > BUSY * threads * grown["wall"] + SLACK:
        yield (
            f"{grown['cpu']:.1f} CPU seconds in {grown['wall']:.1f} s are more than {threads} "
            f"threads can spend (before step {b['step']})"
        )


def _section(e: Event, section: str, kind: str) -> float:
    return float((e["clock"].get(section) or {}).get(kind) or 0.0)


def _sum(e: Event, kind: str) -> float:
    return sum(_section(e, s, kind) for s in e["clock"])


def _grid(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """Snapshots are the grid's, each at the first step past its point."""
    taken = snapshots(list(events))
    for e in taken:
        if e["index"] < 0 or (e["index"] == 0) != (e["step"] == 0):
            yield f"snapshot {e['index']} was taken at step {e['step']}"
    for a, b in pairwise(taken):
        if b["audio_seconds"] <= a["audio_seconds"]:
            yield f"snapshot {b['index']} is no later than snapshot {a['index']}"


def _scores(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """Scores are of the snapshots on record, of the same utterances, and their means are means."""
    taken = {e["index"]: e for e in snapshots(list(events))}
    heard: dict[str, set[str]] = {}
    for e in events:
        if e["event"] != "score":
            continue
        snap = taken.get(e["index"])
        what = f"the {e['set']} score of snapshot {e['index']}"
        if snap is None:
            yield f"{what} is of no snapshot on record"
            continue
        if e.get("sha256") and e["sha256"] != snap["sha256"]:
            yield f"{what} is of other weights ({e['sha256'][:8]}, not {snap['sha256'][:8]})"
        each = e.get("utterances") or {}
        first = heard.setdefault(e["set"], set(each))
        if set(each) != first:
            yield f"{what} heard other utterances than the first of that set"
        for metric, value in e["metrics"].items():
            values = [u[metric] for u in each.values() if metric in u]
            if not values:
                continue
            known = [v for v in values if v is not None]
            mean = fmean(known) if len(known) == len(values) else None
            if (mean is None) != (value is None) or (
                mean is not None and not math.isclose(mean, value, rel_tol=1e-6, abs_tol=1e-9)
            ):
                yield f"{what}: {metric} is {value}, and its utterances' mean is {mean}"


def _ends(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """A finished run has trained what it planned, and every snapshot of it is scored."""
    finished = [e for e in events if e["event"] == "end" and e["status"] == "finished"]
    if not finished:
        last = next((e for e in reversed(events) if e["event"] == "end"), None)
        yield "the run has not finished" + (f": it is {last['status']}" if last else "")
        return
    taken = {e["index"]: e for e in snapshots(list(events))}
    budget = config.get("budget") or {}
    planned, limit = budget.get("audio_seconds"), budget.get("train_seconds")
    last_seen = max((e["audio_seconds"] for e in taken.values()), default=0.0)
    if planned and not limit and last_seen < planned - 1e-6:
        yield f"it finished after {last_seen:g} s of audio and should have seen {planned:g} s"
    scored = {e["index"] for e in events if e["event"] == "score" and e["set"] == "grid"}
    missing = sorted(set(taken) - scored)
    if missing:
        yield f"snapshots {', '.join(map(str, missing))} have no score: run `wg score` on it"


CHECKS: tuple[Check, ...] = (_attempts, _order, _amounts, _clocks, _grid, _scores, _ends)
