"""A repetition held against committed results: ``wg report SWEEP --against results.json``.

Arms are matched by what they do (recipe, strategies with their settings, plan), not by their
names, which are made short within a sweep. Audio seconds to the target and quality at the end do
not depend on the machine; seconds do, so another machine is named beside them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wg.errors import UserError
from wg.measure.repeat import Repeat, repeated
from wg.strategies import with_defaults

# What is compared: (name, where it is in an arm of results.json).
MEASURES = (
    ("seconds to target", ("time_to_target", "seconds")),
    ("audio seconds to target", ("time_to_target", "audio_seconds")),
    ("log_mel_l1 at the end", ("final", "log_mel_l1", "per_seed")),
    ("exp(nats_per_sample) at the end", ("final", "nats_per_sample", "per_seed")),
)


def read_earlier(path: Path) -> dict[str, Any]:
    """Committed results. Errors: UserError when they cannot be read, or are none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--against {path} does not exist: name a results.json.") from None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("arms"), list):
        raise UserError(f"--against {path} is no results.json of `wg report`.")
    return found


def against_of(results: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """What the two have in common, as plain values:

    target      null when it is the same, else a sentence; then only quality is compared
    machines    null when they are the same, else a sentence
    arms        name -> as (its name in the earlier results), measures: name -> ratio, low, high,
                agrees, n, m, note
    only_here, only_there   names
    agrees      all that can be told agrees; null when nothing can be told

    Errors: UserError when no arm is in both.
    """
    there = {_what(a): a for a in earlier["arms"]}
    here = {_what(a): a for a in results["arms"]}
    both = [key for key in here if key in there]
    if not both:
        names = [", ".join(a["arm"] for a in r["arms"]) for r in (results, earlier)]
        raise UserError(f"--against: no arm is in both ({names[0]}; {names[1]}).")
    target = _targets(results, earlier)
    arms = {}
    for key in both:
        measures = {
            name: _compared(_values(there[key], path), _values(here[key], path))
            for name, path in MEASURES
            if target is None or path[0] == "final"
        }
        known = {n: m for n, m in measures.items() if m is not None}
        arms[here[key]["arm"]] = {"as": there[key]["arm"], "measures": known}
    told = [
        m["agrees"]
        for a in arms.values()
        for m in a["measures"].values()
        if m["agrees"] is not None
    ]
    return {
        "sweep": earlier.get("sweep"),
        "target": target,
        "machines": _machines(results, earlier),
        "arms": arms,
        "only_here": [a["arm"] for k, a in here.items() if k not in there],
        "only_there": [a["arm"] for k, a in there.items() if k not in here],
        "agrees": all(told) if told else None,
    }


def _what(arm: Mapping[str, Any]) -> str:
    strategies = {s["name"]: with_defaults(s["name"], s["settings"]) for s in arm["strategies"]}
    return json.dumps([arm["recipe"], strategies, arm.get("plan")], sort_keys=True)


def _targets(results: Mapping[str, Any], earlier: Mapping[str, Any]) -> str | None:
    a, b = (
        None if r.get("target") is None else (r["target"]["name"], r["target"]["conditions"])
        for r in (earlier, results)
    )
    if a == b:
        return None
    names = ["none" if t is None else str(t[0]) for t in (a, b)]
    return f"the earlier target is {names[0]} and this one's is {names[1]}: name it with --target"


def _machines(results: Mapping[str, Any], earlier: Mapping[str, Any]) -> str | None:
    a, b = (
        sorted(
            {str(m.get("gpu") or f"{m.get('cpu')}, {m.get('cores')} cores") for m in r["machines"]}
        )
        for r in (earlier, results)
    )
    return None if a == b else f"{'; '.join(a)} then, {'; '.join(b)} now"


def _values(arm: Mapping[str, Any], path: Sequence[str]) -> dict[str, float | None] | None:
    found: Any = arm
    for key in path:
        found = (found or {}).get(key)
    if found is None:
        return None
    if path[1] == "nats_per_sample":  # a logarithm itself
        return {s: None if v is None else math.exp(v) for s, v in found.items()}
    return dict(found)


def _compared(
    study: Mapping[str, float | None] | None, again: Mapping[str, float | None] | None
) -> dict[str, Any] | None:
    """None where one of the two does not have it. A value of 0 (a target met before training) has
    no logarithm, and a miss no value: then all there is to compare is whether they are alike."""
    if not study or not again:
        return None
    missed = [sum(v is None for v in values.values()) for values in (study, again)]
    if any(missed) or any(not v for v in [*study.values(), *again.values()]):
        zero = [all(v == 0 for v in values.values()) for values in (study, again)]
        alike = zero[0] == zero[1] and bool(missed[0]) == bool(missed[1])
        note = f"missed by {missed[0]} of {len(study)} then, by {missed[1]} of {len(again)} now"
        empty = Repeat(math.nan, None, None, alike, len(study), len(again))
        return {**asdict(empty), "ratio": None, "note": note if any(missed) else "met at once"}
    found = repeated([v for v in study.values() if v], [v for v in again.values() if v])
    return {**asdict(found), "note": "" if found.low else "too few seeds for an interval"}


def lines_of(against: Mapping[str, Any]) -> list[str]:
    """The comparison for the terminal."""
    lines = [f"note: {against[k]}" for k in ("target", "machines") if against[k]]
    for name, arm in against["arms"].items():
        for measure, m in arm["measures"].items():
            verdict = {True: "agrees", False: "DIFFERS", None: "cannot be told"}[m["agrees"]]
            ratio = "" if m["ratio"] is None else f"{m['ratio']:.3f} times the earlier"
            limits = "" if m["low"] is None else f", by chance {m['low']:.3f} to {m['high']:.3f}"
            note = f" ({m['note']})" if m["note"] else ""
            lines.append(f"{name}: {measure}: {ratio}{limits}: {verdict}{note}")
    return lines
