"""What must hold between the clocks of a record, the calendar, and the processor.

Wall seconds are held by the calendar: every event carries the time of day, and what was named in
between has to be what went by. CPU seconds are held by the wall clock from above only, since a
shared machine gives a process as few as it likes. From below they are held by the run's own
scoring, which follows training on the same machine and shows what share of it a process got;
by what a thread can compute at all and by other runs of a sweep (wg.sweep.verify_work). What that
leaves: CPU seconds that are understated by less than a busy machine may explain in all runs of an
arm alike, and small shares of training that are booked as logging.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from wg.measure.clock import HEADLINE
from wg.measure.record import Event, last_clock

# Seconds of calendar time that two readings of two clocks may be apart.
SLACK = 1.0
# The same where training ends: Lightning takes its trainer down, ranks part.
ENDING = 10.0
# Share of the calendar's seconds within training that the named clocks may leave out.
UNNAMED = 0.1
# CPU seconds that a thread may spend in a wall second, for threads that an operating system adds.
BUSY = 1.25
# Seconds of a section that a step has no business in: rounding.
NOTHING = 0.05
# What book-keeping may take: seconds a line of the log and share of training beside it (measured:
# 0.01 s wall and 0.006 s CPU on a busy machine).
LINE = {"wall": 0.1, "cpu": 0.02}
BOOKS = 0.05
# On several ranks the log waits for the slowest of them.
BOOKS_OF_RANKS = 0.25
# Seconds and bytes a second of a snapshot with its checkpoint; bytes a parameter of both, with
# the state of a large optimizer.
SAVING = {"wall": (10.0, 10e6), "cpu": (0.5, 100e6)}
BYTES = 32
# Training's best share of a CPU, over the share that scoring had of it right afterwards.
SHARE = 0.4
LONG_ENOUGH = {"train": 20.0, "eval": 10.0}  # wall seconds, for such shares to be known
# Seconds from a start to the first clock that no section but init has. For making Lightning's
# Trainer, times the share of a CPU that training had (0.07 at most of 2,700 starts, 0.04 on a
# machine of their own). Wall seconds for ranks that meet (1.1) or a GPU's first use (not measured),
# and for W&B to begin (6.8; it is booked as init, as is loading before the start).
OPENING = 0.3
OPENING_OF_MANY = 10.0
OPENING_OF_WANDB = 20.0
# Preparation's share of a CPU over training's, from so many wall seconds on: 0.6 in the least of 60
# records that had a second of it; a disk may be waited for.
PREPARING = 0.03
LONG_PREPARING = 3.0

_IN_TRAINING = ("train", "clock", "snapshot")
# Of these a rank writes its own seconds, of the others the maximum over ranks.
_OWN = ("clock", "rollback", "trained", "end")


def check_clocks(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """Totals never fall, not even over a crash, and agree with the calendar and the threads."""
    start = next((e for e in events if e["event"] == "start"), {})
    ranks, threads = int(start.get("ranks") or 1), int(start.get("threads") or 1)
    yield from _falls(events, ranks)
    for kept in _attempts(events, ranks):
        for i, (a, b) in enumerate(pairwise(kept)):
            later = kept[i + 2] if i + 2 < len(kept) else None
            yield from _interval(a, b, later, threads, ranks)
            yield from _idle_sections(a, b, ranks)
        yield from _books(kept, int(start.get("parameters") or 0), ranks)
    yield from _openings(events, config)
    if start.get("device") == "cpu":
        yield from _from_below(events)
        yield from _prepared(events)


def _family(e: Event, ranks: int) -> bool:
    """Whether the clock is of all ranks; readings of one kind only are compared."""
    return ranks == 1 or e["event"] not in _OWN


def _attempts(events: Sequence[Event], ranks: int) -> Iterator[list[Event]]:
    """Events with comparable clocks of each attempt to train."""
    started = {e["attempt"] for e in events if e["event"] == "start"}
    found: dict[tuple[int, bool], list[Event]] = {}
    for e in events:
        if "clock" in e and e["attempt"] in started:
            found.setdefault((e["attempt"], _family(e, ranks)), []).append(e)
    yield from found.values()


def _falls(events: Sequence[Event], ranks: int) -> Iterator[str]:
    most: dict[tuple[str, str], float] = {}
    earlier: dict[tuple[str, str], float] = {}
    before: dict[bool, Mapping[tuple[str, str], float]] = {}
    attempt = 0
    for e in events:
        if "clock" not in e:
            continue
        if e["attempt"] != attempt:  # an attempt goes on from the largest on record
            attempt, earlier, before = e["attempt"], dict(most), {}
        last = before.get(_family(e, ranks), earlier)
        now = {(s, k): v for s, kinds in e["clock"].items() for k, v in kinds.items()}
        for (section, kind), value in now.items():
            was = last.get((section, kind), 0.0)
            if value < was - 1e-6:
                yield (
                    f"clock {section} ({kind}) falls from {was:.3f} to {value:.3f} s at a "
                    f"'{e['event']}' event: time that was spent is missing"
                )
        before[_family(e, ranks)] = now
        most = {k: max(v, most.get(k, 0.0)) for k, v in {**most, **now}.items()}


def _interval(a: Event, b: Event, later: Event | None, threads: int, ranks: int) -> Iterator[str]:
    """Between two events, which are written as the clocks are read; a snapshot as its weights
    have been saved, which is the checkpoint's time."""
    elapsed = b["time"] - a["time"]
    where = f"before the '{b['event']}' event" + (f" of step {b['step']}" if "step" in b else "")
    grown = {k: _sum(b, k) - _sum(a, k) for k in ("wall", "cpu")}
    saved = _grown(a, b, "checkpoint", "wall") if a["event"] == "snapshot" else 0.0
    # On several ranks, each section is of the rank that had most of it.
    most = grown["wall"] if ranks == 1 else max(_grown(a, b, s, "wall") for s in b["clock"])
    if most > elapsed + saved + SLACK:
        yield f"clocks grew by {most:.1f} s in the {elapsed:.1f} s {where}: more than there was"
    saving = 0.0
    if b["event"] == "snapshot":
        saving = _grown(b, later, "checkpoint", "wall") if later else elapsed
    slack = SLACK if b["event"] in _IN_TRAINING else ENDING
    if grown["wall"] < (1 - UNNAMED) * elapsed - saving - slack:
        yield (
            f"clocks grew by {grown['wall']:.1f} s in the {elapsed:.1f} s {where}: training took "
            "longer than is said"
        )
    # Compilers are other processes, and metrics may bring threads of their own.
    others = sum(_grown(a, b, s, "cpu") for s in ("compile", "eval"))
    if grown["cpu"] - others > BUSY * threads * grown["wall"] + SLACK:
        yield (
            f"{grown['cpu']:.1f} CPU seconds in {grown['wall']:.1f} s are more than {threads} "
            f"threads can spend ({where})"
        )


def _idle_sections(a: Event, b: Event, ranks: int) -> Iterator[str]:
    """Nothing is loaded or scored between steps, and only a snapshot is saved."""
    if b["event"] not in (*_IN_TRAINING, "trained") or not _family(b, ranks):
        return
    idle = ["init", "eval"]
    if a["event"] != "snapshot":
        idle.append("checkpoint")
    for section in idle:
        for kind in ("wall", "cpu"):
            grown = _grown(a, b, section, kind)
            if grown > NOTHING:
                yield (
                    f"clock {section} ({kind}) grew by {grown:.1f} s between step {a['step']} and "
                    f"{b['step']}, where there is none: training was booked as something else"
                )


def _books(kept: Sequence[Event], parameters: int, ranks: int) -> Iterator[str]:
    """Book-keeping takes a small share, or training hides in it."""
    # Not from a rollback's diagnosis on, which is the log's.
    kept = [e for e in kept if e["event"] in _IN_TRAINING]
    if len(kept) < 2 or not _family(kept[0], ranks):
        return
    a, b = kept[0], kept[-1]
    saved = sum(e["event"] == "snapshot" for e in kept[:-1])
    share = BOOKS if ranks == 1 else BOOKS_OF_RANKS
    for kind in ("wall", "cpu"):
        allowed = share * _grown(a, b, "train", kind) + LINE[kind] * len(kept) + SLACK
        logged = _grown(a, b, "log", kind)
        if logged > allowed:
            yield (
                f"{len(kept)} lines of the log took {logged:.1f} s ({kind}), which is more than "
                f"the {allowed:.1f} s they can have: training was booked as something else"
            )
        once, rate = SAVING[kind]
        allowed = saved * (once + parameters * BYTES / rate) + SLACK
        took = _grown(a, b, "checkpoint", kind)
        if took > allowed:
            yield (
                f"{saved} snapshots took {took:.1f} s ({kind}) to save, which is more than the "
                f"{allowed:.1f} s they can have: training was booked as something else"
            )


def _openings(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """From a start, which loading comes before, to the first clock: preparation and compilation,
    which are charged, and nothing else."""
    for i, start in enumerate(events):
        own = [e for e in events[i:] if "clock" in e and e["attempt"] == start["attempt"]]
        fresh = any(e["event"] == "snapshot" and e["step"] == 0 for e in own)
        if start["event"] != "start" or not fresh or len(own) < 2:
            continue
        before = {"clock": last_clock(events[:i]) or {}}
        elapsed = own[0]["time"] - start["time"]
        if own[0]["event"] == "snapshot":  # written as its weights have been saved
            elapsed -= _grown(own[0], own[1], "checkpoint", "wall")
        named = sum(_grown(before, own[0], s, "wall") for s in own[0]["clock"] if s != "init")
        if named < (1 - UNNAMED) * elapsed - _opening(start, events, config):
            yield (
                f"clocks but init grew by {named:.1f} s in the {elapsed:.1f} s from the start of "
                f"attempt {start['attempt']} to its first '{own[0]['event']}' event: preparation "
                "was booked as something else"
            )


def _opening(start: Event, events: Sequence[Event], config: Mapping[str, Any]) -> float:
    if (config.get("logger") or {}).get("name") == "wandb":
        return OPENING_OF_WANDB
    if start.get("ranks") != 1 or start.get("device") != "cpu":
        return OPENING_OF_MANY
    wall, cpu = (section({"clock": last_clock(events) or {}}, "train", k) for k in ("wall", "cpu"))
    return OPENING / min(max(cpu / wall if wall else 0.0, OPENING / OPENING_OF_MANY), 1.0)


def _prepared(events: Sequence[Event]) -> Iterator[str]:
    """CPU seconds of preparation are not a small part of what its wall seconds would give."""
    last = {"clock": last_clock(events) or {}}
    (wall, cpu), (of, spent) = (
        [section(last, s, k) for k in ("wall", "cpu")] for s in ("data_prep", "train")
    )
    if of > 0 and wall >= LONG_PREPARING and cpu * of < PREPARING * wall * spent:
        yield f"preparation has {cpu:.3f} CPU seconds of {wall:.1f} s, which are too few"


def cpu_share(events: Sequence[Event]) -> float | None:
    """The largest share of one CPU that training had between two events; None when it was too
    short to tell."""
    shares, known = [], 0.0
    kinds = ("start", *_IN_TRAINING)
    for kept in _attempts([e for e in events if e["event"] in kinds], 1):
        for a, b in pairwise(kept):
            wall, cpu = (sum(_grown(a, b, s, k) for s in HEADLINE) for k in ("wall", "cpu"))
            if wall >= SLACK / 2:
                known += wall
                shares.append(cpu / wall)
    return max(shares) if known >= LONG_ENOUGH["train"] and len(shares) > 4 else None


def _from_below(events: Sequence[Event]) -> Iterator[str]:
    """Training had as much of a CPU at its best as scoring right after it had all along."""
    best = cpu_share(events)
    trained = next((e for e in reversed(events) if e["event"] == "trained"), None)
    end = next((e for e in reversed(events) if e["event"] == "end" and "clock" in e), None)
    if best is None or trained is None or end is None or end["attempt"] != trained["attempt"]:
        return
    wall, cpu = (_grown(trained, end, "eval", k) for k in ("wall", "cpu"))
    if wall >= LONG_ENOUGH["eval"] and best < SHARE * min(cpu / wall, 1.0):
        yield (
            f"training never had more than {best:.0%} of a CPU, and scoring right after it "
            f"{cpu / wall:.0%}: its CPU seconds are too few for its wall seconds"
        )


def section(e: Event, name: str, kind: str) -> float:
    """Seconds of a section of an event's clock."""
    return float((e["clock"].get(name) or {}).get(kind) or 0.0)


def _grown(a: Event, b: Event, name: str, kind: str) -> float:
    return section(b, name, kind) - section(a, name, kind)


def _sum(e: Event, kind: str) -> float:
    return sum(section(e, s, kind) for s in e["clock"])
