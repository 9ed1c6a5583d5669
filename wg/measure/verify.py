"""What must hold in the record of a run, whoever wrote it down.

Each check reads events alone, whose form wg.measure.verify_schema has checked, and gives a sentence
for every fault. A record that was edited, pasted together from two runs, or whose clocks say less
than was spent does not pass: steps, audio seconds, the calendar and the clocks have to tell one
story. Likelihoods are held by the losses of training (wg.measure.verify_likelihood); whether
another score was changed together with those of all its utterances a record cannot tell: for that
the weights have to be scored again (wg.sweep.verify_rescore).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from wg.measure.record import Event, scores, snapshots
from wg.measure.verify_clock import check_clocks
from wg.measure.verify_likelihood import check_likelihood

# Seconds of calendar time by which two machines' clocks, or one that is set, may differ.
SLACK = 1.0

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
    limited = bool((config.get("budget") or {}).get("train_seconds"))
    for kind in ("train", "snapshot"):
        last: dict[int, Event] = {}
        for e in (e for e in events if e["event"] == kind):
            before = last.get(e["attempt"])
            if before is not None:
                if kind == "snapshot" and limited and before["step"] == e["step"]:
                    continue  # the limit was passed at a step of the grid
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


def _logged(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """A line of the log at every `log_every`-th step, from where an attempt goes on to where it
    got."""
    every = config.get("log_every")
    if not isinstance(every, int) or every < 1:
        return
    resumable = {0}
    for attempt in sorted({e["attempt"] for e in events if e["event"] == "start"}):
        own = [e for e in events if e["attempt"] == attempt]
        reached = max((e["step"] for e in own if e["event"] in _STEPS), default=0)
        lines = {e["step"] for e in own if e["event"] == "train"}
        # From which of the states to resume from is not on record: the kindest of them.
        missing = min(
            (
                [s for s in _multiples(every, begin, reached) if s not in lines]
                for begin in (resumable if attempt > 1 else {0})
            ),
            key=len,
        )
        if missing:
            shown = ", ".join(map(str, missing[:4])) + (", ..." if len(missing) > 4 else "")
            yield (
                f"{len(missing)} lines of the log are missing in attempt {attempt}, one is due "
                f"every {every} steps (steps {shown})"
            )
        for step in sorted(s for s in lines if s % every and s != reached):
            yield f"a line of the log is at step {step}, and one is due every {every} steps"
        resumable |= {e["step"] for e in own if e["event"] in ("snapshot", "end") and "step" in e}


_STEPS = ("train", "clock", "snapshot", "trained")


def _multiples(every: int, begin: int, last: int) -> range:
    """Multiples after ``begin``, up to ``last``."""
    return range((begin // every + 1) * every, last + 1, every)


def _grid(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """Snapshots are the grid's, each at the first step past its point."""
    taken = snapshots(list(events))
    for e in taken:
        if e["index"] < 0 or (e["index"] == 0) != (e["step"] == 0):
            yield f"snapshot {e['index']} was taken at step {e['step']}"
    limited = bool((config.get("budget") or {}).get("train_seconds"))
    for a, b in pairwise(taken):
        if b["audio_seconds"] <= a["audio_seconds"] and not (limited and b["step"] == a["step"]):
            yield f"snapshot {b['index']} is no later than snapshot {a['index']}"


def _scores(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """Scores are of the snapshots on record, of the same utterances and noise, and their means are
    means."""
    taken = {e["index"]: e for e in snapshots(list(events))}
    sigma = (config.get("evaluation") or {}).get("sigma")
    heard: dict[str, list[str]] = {}
    for e in events:
        if (
            e["event"] in ("score", "samples")
            and sigma is not None
            and e.get("sigma", sigma) != sigma
        ):
            yield f"{_named(e)} is of sigma {e['sigma']}, and evaluation.sigma is {sigma}"
        if e["event"] != "score":
            continue
        what, snap = _named(e), taken.get(e["index"])
        if snap is None:
            yield f"{what} is of no snapshot on record"
            continue
        if e.get("sha256") and e["sha256"] != snap["sha256"]:
            yield f"{what} is of other weights ({e['sha256'][:8]}, not {snap['sha256'][:8]})"
        each = e.get("utterances") or {}
        if not each:
            yield f"{what} names no utterances"
            continue
        first = heard.setdefault(e["set"], list(each))
        if set(each) != set(first):
            yield f"{what} heard other utterances than the first of that set"
        yield from _means(what, e["metrics"], each)
    yield from _sets(events, heard)


def _named(e: Event) -> str:
    return f"the {e['set']} score of snapshot {e['index']}" if "set" in e else "the kept audio"


def _means(
    what: str, metrics: Mapping[str, Any], each: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    if any(set(u) != set(metrics) for u in each.values()):
        odd = sorted(set(metrics) ^ set().union(*map(set, each.values())))
        yield f"{what} and its utterances have other metrics ({', '.join(odd) or 'some lack some'})"
        return
    for metric, value in metrics.items():
        values = [u[metric] for u in each.values()]
        known = [v for v in values if v is not None]
        mean = fmean(known) if len(known) == len(values) else None
        if (mean is None) != (value is None) or (
            mean is not None and not math.isclose(mean, value, rel_tol=1e-6, abs_tol=1e-9)
        ):
            yield f"{what}: {metric} is {value}, and its utterances' mean is {mean}"


def _sets(events: Sequence[Event], heard: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """All held-out speech at the end, and the first utterances of it on the way."""
    start = next((e for e in events if e["event"] == "start"), {})
    split = (start.get("corpus") or {}).get("held_out_utterances")
    grid, held_out = heard.get("grid"), heard.get("held_out")
    if held_out is not None and split is not None and len(held_out) != split:
        yield f"the held_out score heard {len(held_out)} utterances, and the split has {split}"
    if grid and held_out and set(grid) != set(held_out[: len(grid)]):
        yield "the grid scores did not hear the first utterances of the held-out speech"


def _ends(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """A finished run has trained what it planned, and every snapshot of it is scored."""
    finished = [e for e in events if e["event"] == "end" and e["status"] == "finished"]
    if not finished:
        if outcome(events):
            return
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
    yield from _last_score(events, taken)


def outcome(events: Sequence[Event]) -> str:
    """Of a run that diverged, which is a result and no fault: how; otherwise empty."""
    told = [e for e in events if e["event"] in ("rollback", "trained", "end")]
    if len(told) < 2 or [e["event"] for e in told[-2:]] != ["rollback", "end"]:
        return ""
    if told[-1]["status"] != "failed" or told[-1]["attempt"] != told[-2]["attempt"]:
        return ""
    return f"it diverged at step {told[-2]['from_step']}: {told[-2].get('cause')}"


def _last_score(events: Sequence[Event], taken: Mapping[int, Event]) -> Iterator[str]:
    """The last snapshot is scored on both sets, on the same metrics."""
    last = taken[max(taken)] if taken else None
    of_last = {
        s: [
            e
            for e in scores(list(events), s)
            if last and e["index"] == last["index"] and e.get("sha256") in (None, last["sha256"])
        ]
        for s in ("grid", "held_out")
    }
    if not of_last["held_out"]:
        yield "the last snapshot has no score on the held-out set: run `wg score` on it"
    elif of_last["grid"]:
        odd = set(of_last["grid"][0]["metrics"]) ^ set(of_last["held_out"][0]["metrics"])
        if odd:
            yield f"the last snapshot has {', '.join(sorted(odd))} on one set only"
    early = [e for e in events if e["event"] == "score" and e["set"] == "held_out"]
    if last and any(e["index"] != last["index"] for e in early):
        yield "a snapshot before the last has a score on the held-out set"


CHECKS: tuple[Check, ...] = (
    _attempts,
    _order,
    _amounts,
    check_clocks,
    _logged,
    _grid,
    _scores,
    check_likelihood,
    _ends,
)
