"""Whether the runs of a sweep may be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from wg.measure.record import attempt_spans
from wg.sweep.planned import FILE, read_planned
from wg.sweep.verify_arms import check_arms
from wg.sweep.verify_copies import check_copies
from wg.sweep.verify_subject import Subject, Verdict, listed
from wg.sweep.verify_throughput import check_throughput
from wg.sweep.verify_work import seconds_per_flop, try_work

# Ratio of CPU seconds a step between seeds of an arm: half as many again is a busy cache.
BETWEEN_SEEDS = 3.0
# The same a FLOP between arms, from where on it is told.
BETWEEN_ARMS = 4.0


def check_sweep(runs: list[Subject], sweep_dir: Path) -> Verdict:
    """Conditions of a fair comparison."""
    verdict = Verdict()
    pairs = Counter((r.identity.get("arm"), r.identity.get("seed")) for r in runs)
    for (arm, seed), n in pairs.items():
        if n > 1:
            verdict.faults.append(f"arm {arm} has seed {seed} {n} times")
    must: dict[str, Callable[[Subject], Any]] = {
        "snapshot grids": lambda r: str(r.config.get("snapshots")),
        "held-out audio that is scored": lambda r: str(_evaluation(r)),
        "corpora or splits": lambda r: str((r.start.get("corpus") or {}).get("digest"))[:8],
        "threads": lambda r: r.start.get("threads"),
        "clocks": lambda r: r.start.get("clock_kind"),
        "devices": lambda r: r.machine,
    }
    may: dict[str, Callable[[Subject], Any]] = {
        "code (commits)": lambda r: str(r.start.get("commit"))[:10],
        "versions": lambda r: str(r.start.get("versions")),
        "budgets": lambda r: str(r.config.get("budget")),
    }
    started = [r for r in runs if r.start]
    for facts, into in ((must, verdict.faults), (may, verdict.notes)):
        for what, fact in facts.items():
            groups: dict[Any, list[str]] = {}
            for r in started:
                groups.setdefault(fact(r), []).append(r.name)
            if len(groups) > 1:
                parts = "; ".join(f"{k}: {listed(v, 3)}" for k, v in groups.items())
                into.append(f"runs differ in {what} ({parts})")
    _utterances(runs, verdict)
    _targets(runs, verdict)
    _costs(started, verdict)
    check_copies(runs, verdict)
    _overlaps(started, verdict)
    _planned(sweep_dir, verdict)
    for faults, notes in (check_arms(runs), check_throughput(started, sweep_dir)):
        verdict.faults += faults
        verdict.notes += notes
    return verdict


def _evaluation(r: Subject) -> dict[str, Any]:
    settings = r.config.get("evaluation") or {}
    return {k: settings.get(k) for k in ("sigma", "grid_seconds")}


def _planned(sweep_dir: Path, verdict: Verdict) -> None:
    """All that was begun is here, whatever came of it."""
    rows, damaged = read_planned(sweep_dir)
    if damaged:
        verdict.faults.append(f"line {damaged[0]} of {FILE} names no run")
    missing = {r["run"] for r in rows if not (sweep_dir / r["run"] / "run.json").is_file()}
    if missing:
        verdict.faults.append(
            f"{FILE} has {listed(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not here: all that was begun has to be shown"
        )


def _utterances(runs: list[Subject], verdict: Verdict) -> None:
    """All runs are scored on the same speech."""
    for which in ("grid", "held_out"):
        groups: dict[frozenset[str], list[str]] = {}
        for r in runs:
            heard = [e for e in r.events if e["event"] == "score" and e["set"] == which]
            if heard:
                groups.setdefault(frozenset(heard[-1].get("utterances") or {}), []).append(r.name)
        if len(groups) > 1:
            parts = "; ".join(f"{len(ids)} utterances: {listed(v, 3)}" for ids, v in groups.items())
            verdict.faults.append(f"runs were scored on different {which} utterances ({parts})")


def _targets(runs: list[Subject], verdict: Verdict) -> None:
    """A target's name stands for the same conditions everywhere; other names may be."""
    named: dict[str, dict[str, list[str]]] = {}
    for r in runs:
        target = r.identity.get("target")
        if isinstance(target, dict):
            conditions = str(target.get("conditions") or {})
            named.setdefault(str(target.get("name")), {}).setdefault(conditions, []).append(r.name)
    for name, groups in named.items():
        if len(groups) > 1:
            parts = "; ".join(f"{k}: {listed(v, 3)}" for k, v in groups.items())
            verdict.faults.append(f"target '{name}' differs between runs ({parts})")
    if len(named) > 1:
        verdict.notes.append(f"runs are judged by different targets ({listed(named)})")


def _costs(runs: list[Subject], verdict: Verdict) -> None:
    """CPU seconds of a model FLOP, where no crash lost any: nearly the same for all seeds of an
    arm on a machine, and of one order of magnitude for all arms."""
    machines: dict[str, dict[str, dict[str, float]]] = {}
    for r in runs:
        work, _ = try_work(r) if r.start.get("device") == "cpu" else (None, "")
        cost = seconds_per_flop(r, work) if work is not None else None
        if cost is not None and cost > 0:
            arms = machines.setdefault(f"{r.machine}, {r.start['threads']} threads", {})
            arms.setdefault(str(r.identity.get("arm")), {})[r.name] = cost
    for arms in machines.values():
        for arm, costs in arms.items():
            (low, a), (high, b) = (f((c, n) for n, c in costs.items()) for f in (min, max))
            if high > BETWEEN_SEEDS * low:
                verdict.faults.append(
                    f"a step of {b} takes {high / low:.1f} times the CPU seconds of {a}: they are "
                    f"one arm ({arm}) on one machine"
                )
        of_arms = {arm: median(costs.values()) for arm, costs in arms.items()}
        fast, slow = min(of_arms, key=of_arms.__getitem__), max(of_arms, key=of_arms.__getitem__)
        if of_arms[slow] > BETWEEN_ARMS * of_arms[fast]:
            verdict.notes.append(
                f"arm {fast} computes {of_arms[slow] / of_arms[fast]:.1f} times the model FLOPs of "
                f"arm {slow} in a CPU second: make sure that its recipe explains that"
            )


def _overlaps(runs: list[Subject], verdict: Verdict) -> None:
    """Runs that shared a machine at a time: wall seconds are lost then, CPU seconds where threads
    outnumber cores."""
    machines: dict[str, list[Subject]] = {}
    for r in runs:
        machines.setdefault(r.machine, []).append(r)
    for machine, here in machines.items():
        threads, names = _busiest(here)
        if len(names) < 2:
            continue
        about = here[0].start
        cores = int((about.get("machine") or {}).get("cores") or 1)
        wall = any(r.start.get("clock_kind") == "wall" for r in here if r.name in names)
        if wall or threads > cores:
            verdict.faults.append(f"{listed(names)} ran at the same time on one device ({machine})")
        else:
            verdict.notes.append(
                f"up to {len(names)} runs shared a machine of {cores} cores: their CPU seconds "
                "count, caches and memory bandwidth were shared"
            )


def _busiest(runs: list[Subject]) -> tuple[int, list[str]]:
    """(threads, names of the runs) of the moment with most threads at work."""
    changes = sorted(
        (at, -leaving, r.name, int(r.start.get("threads") or 1) * int(r.start.get("ranks") or 1))
        for r in runs
        for span in attempt_spans(r.events)
        for at, leaving in ((span[0], 0), (span[1], 1))
    )
    now: dict[str, int] = {}
    most: tuple[int, list[str]] = (0, [])
    # Who leaves at a moment does so before others come.
    for _, leaves, name, threads in changes:
        if leaves:
            now.pop(name, None)
        else:
            now[name] = threads
        if sum(now.values()) > most[0]:
            most = sum(now.values()), list(now)
    return most
