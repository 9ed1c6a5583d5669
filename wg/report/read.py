"""Reading a sweep's directory: runs, their curves, arms."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wg.errors import UserError, nearest
from wg.files import read_json, read_settings_file
from wg.measure.clock import Kind, headline
from wg.measure.metrics import with_derived
from wg.measure.record import (
    Event,
    attempt_spans,
    last_clock,
    read_events,
    scale_ends,
    scores,
    snapshots,
    status,
)
from wg.measure.target import Target
from wg.report.data import Arm, Excluded, GridPoint, Run, Sweep, sigma_of
from wg.report.names import short_names


def read_sweep(sweep_dir: Path, baseline: str | None = None) -> Sweep:
    """Every run below ``sweep_dir``, grouped into arms: the baseline first, then by name.

    Errors: UserError when there is no run, none that finished, or no baseline among them.
    """
    if not sweep_dir.is_dir():
        raise UserError(f"{sweep_dir} is no directory: give the `out` of a sweep.")
    folders = sorted(p.parent for p in sweep_dir.glob("*/run.json"))
    if not folders:
        raise UserError(
            f"{sweep_dir} holds no runs (folders with a run.json): give the `out` of a sweep, or "
            "train something there first."
        )
    kinds = {e["clock_kind"] for f in folders for e in read_events(f) if e["event"] == "start"}
    # CPU and wall seconds do not compare; wall seconds are recorded on every device.
    kind: Kind = "cpu" if kinds == {"cpu"} else "wall"
    runs = [read_run(folder, kind) for folder in folders]
    short = short_names({r.arm for r in runs})
    runs = [replace(r, arm=short[r.arm]) for r in runs]
    if baseline is not None:
        baseline = short.get(baseline, baseline)
    kept, excluded = _choose(runs)
    if not any(r.finished for r in kept):
        states = ", ".join(f"{r.id} {r.status}" for r in runs[:4])
        raise UserError(f"no run in {sweep_dir} has finished ({states}): finish the sweep first.")
    arms: dict[str, Arm] = {}
    for run in kept:
        arms.setdefault(run.arm, Arm(run.arm)).runs[run.seed] = run
    first = find_baseline(arms, baseline)
    ordered = {n: arms[n] for n in [first, *sorted(set(arms) - {first})]}
    name = sweep_dir.resolve().name
    return Sweep(sweep_dir, name, kind, len(kinds) > 1, ordered, first, tuple(excluded))


def _choose(runs: list[Run]) -> tuple[list[Run], list[Excluded]]:
    """One usable run for each arm and seed (the newest), and the rest with the reason."""
    chosen: dict[tuple[str, int], Run] = {}
    excluded = []
    for run in sorted(runs, key=lambda r: r.spans[-1][1] if r.spans else 0.0):
        if not (run.finished or run.diverged):
            why = "finished without scores" if run.status == "finished" else run.status
            why += f" ({run.reason})" if run.reason else ""
            excluded.append(Excluded(run.id, run.arm, run.seed, why))
            continue
        older = chosen.get((run.arm, run.seed))
        if older is not None:
            why = f"the same arm and seed as {run.id}, which is newer"
            excluded.append(Excluded(older.id, older.arm, older.seed, why))
        chosen[run.arm, run.seed] = run
    return [chosen[k] for k in sorted(chosen)], sorted(excluded, key=lambda e: e.run)


def find_baseline(arms: Mapping[str, Arm], name: str | None) -> str:
    """The arm that speed-ups are relative to: the named one, or the published recipe `nvidia`
    with nothing added.

    Errors: UserError listing the arms when there is no such arm, or more than one.
    """
    listed = ", ".join(f"'{a}'" for a in sorted(arms))
    if name is not None:
        if name not in arms:
            raise UserError(f"there is no finished arm '{name}'; {nearest(name, arms)}")
        return name
    if len(arms) == 1:
        return next(iter(arms))  # there is nothing to compare: any arm is told of alone
    plain = [
        a
        for a, arm in arms.items()
        if arm.any_run.start.get("recipe") == "nvidia" and not arm.strategies
    ]
    if len(plain) == 1:
        return plain[0]
    if "nvidia" in plain:
        return "nvidia"
    what = "more than one arm is" if plain else "no finished arm is"
    raise UserError(
        f"{what} the plain recipe `nvidia`: name the baseline with --baseline (arms: {listed})."
    )


def read_run(folder: Path, kind: Kind) -> Run:
    """One run directory; ``kind`` is the clock that its headline seconds are read from.

    Errors: UserError when run.json or config.yaml is damaged.
    """
    identity = read_json(folder / "run.json")
    events = read_events(folder)
    starts = [e for e in events if e["event"] == "start"]
    ends = [e for e in events if e["event"] == "end"]
    start: Event = starts[-1] if starts else {}
    donor = float((start.get("donor") or {}).get("train_seconds") or 0.0)
    held_out = scores(events, "held_out")
    samples = [e for e in events if e["event"] == "samples"]
    trained = [e for e in events if e["event"] == "trained"]
    taken = snapshots(events)
    config = read_settings_file(folder / "config.yaml")
    try:
        arm, seed = str(identity["arm"]), int(identity["seed"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{folder / 'run.json'} names no arm and seed; it is not wg's.") from None
    return Run(
        id=str(identity.get("id") or folder.name),
        path=folder,
        arm=arm,
        seed=seed,
        status=status(events),
        reason=str(ends[-1].get("reason") or "") if ends else "",
        identity=identity,
        config=config,
        start=start,
        kind=start.get("clock_kind", kind),
        donor_seconds=donor,
        spent=_spent(events, kind, donor),
        points=tuple(_points(events, kind, donor)),
        final=with_derived(held_out[-1]["metrics"] if held_out else {}, sigma_of(config)),
        utterances=(held_out[-1].get("utterances") or {}) if held_out else {},
        ends=scale_ends(events),
        samples=samples[-1] if samples else None,
        peak=_peak(trained[-1] if trained else {}),
        taken=functools.reduce(lambda a, e: {**a, **_cost(e)}, events, {}),
        joules_of=str((taken[-1] if taken else {}).get("joules_of") or "not on record"),
        spans=attempt_spans(events),
        attempts=len(starts),
        nonfinite=max((int(e.get("nonfinite_steps") or 0) for e in events), default=0),
        target=Target.from_mapping(identity.get("target")),
    )


def _peak(event: Event) -> dict[str, Any]:
    """Peak memory: bytes, and of what."""
    found = {k: event.get(f"peak_memory_{k}") for k in ("bytes", "of")}
    return found if found["bytes"] is not None else {}


def _at(event: Event, kind: Kind, donor: float) -> dict[str, float]:
    """A snapshot's position on every axis. Only headline seconds carry the donor: its other
    costs are not on record."""
    clock = event["clock"]
    return {
        "train_seconds": headline(clock, kind) + donor,
        "cpu_seconds": headline(clock, "cpu"),
        "wall_seconds": headline(clock, "wall"),
        "audio_seconds": float(event["audio_seconds"]),
        "steps": float(event["step"]),
    }


def _points(events: list[Event], kind: Kind, donor: float) -> list[GridPoint]:
    scored = {e["index"]: e for e in scores(events, "grid")}
    return [
        GridPoint(s["index"], _at(s, kind, donor), scored[s["index"]]["metrics"], _cost(s))
        for s in snapshots(events)
        if s["index"] in scored
    ]


def _cost(event: Event) -> dict[str, float]:
    found = {k: event.get(k) for k in ("model_flops", "joules")}
    return {k: float(v) for k, v in found.items() if v is not None}


def _spent(events: list[Event], kind: Kind, donor: float) -> dict[str, float]:
    """What the run had used when it ended, on every axis: where a miss is censored."""
    taken = snapshots(events)
    if not taken:
        clock = last_clock(events)
        own = {k: headline(clock, k) if clock else 0.0 for k in ("cpu", "wall")}  # type: ignore[arg-type]
        return {
            "train_seconds": own[kind] + donor,
            "cpu_seconds": own["cpu"],
            "wall_seconds": own["wall"],
            "audio_seconds": 0.0,
            "steps": 0.0,
        }
    return _at(taken[-1], kind, donor)
