"""What each strategy contributed, where the arms of a sweep form a design that tells."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wg.errors import UserError
from wg.measure.attribution import (
    factorial_effects,
    leave_one_out_effects,
    shapley_interactions,
    shapley_values,
    whole_effect,
)
from wg.measure.contrast import Contribution, Results
from wg.measure.design import MOST_FACTORS, Design, full_factorial, leave_one_out
from wg.report.compare import Comparison, charged
from wg.report.data import Arm, Sweep
from wg.strategies import with_defaults

# Keys of a configuration that may differ between the rows of a design.
_FREE = ("arm", "out", "seed", "recipe", "strategy", "logger", "log_every", "target", "evaluation")
TABLES = ("shapley", "effects", "leave_one_out", "interactions", "effect_pairs")
Row = frozenset[str]  # strategies, each with its settings: "clip {}"


@dataclass(frozen=True)
class Found:
    """A design among the arms. ``names``: row of the design -> arm; ``fixed``: strategies in all
    rows; factors are named as strategies are, with their settings only where two would share a
    name."""

    design: Design
    arms: Mapping[Row, str]
    fixed: tuple[str, ...]

    @property
    def whole(self) -> str:
        return self.arms[frozenset(self.design.factors)]


def attribution_of(sweep: Sweep, comparison: Comparison) -> dict[str, Any] | None:
    """The largest design among the arms and what it says; None without one.

    Intervals are widened so that those of a table hold together. A run that diverged leaves what
    rests on it unknown.
    """
    found = find_design(sweep)
    if found is None:
        return None
    design, factors = found.design, found.design.factors
    timed = {r: charged(sweep, n, comparison.arms[n]) for r, n in found.arms.items()}
    results = Results({r: t for r, (t, _) in timed.items()}, {r: s for r, (_, s) in timed.items()})
    k = len(factors)
    tables: dict[str, dict[str, Contribution] | None] = dict.fromkeys(TABLES)
    try:
        if set(leave_one_out(factors).rows) - {frozenset()} <= set(found.arms):
            tables["leave_one_out"] = leave_one_out_effects(factors, results, comparisons=k)
        if design.kind == "full":
            tables["shapley"] = shapley_values(factors, results, comparisons=k)
            pairs = k * (k - 1) // 2
            tables["interactions"] = shapley_interactions(factors, results, comparisons=pairs)
        if design.kind == "fractional":
            n = len(factorial_effects(design, results).contributions)
            fitted = factorial_effects(design, results, comparisons=n).contributions
            tables["effects"] = {e: c for e, c in fitted.items() if e in factors}
            tables["effect_pairs"] = {e: c for e, c in fitted.items() if e not in factors}
        whole = None
        if frozenset[str]() in found.arms:
            whole = _row(whole_effect(factors, results))
    except UserError:
        return None  # no seed that all rows share
    return {
        "kind": design.kind,
        "factors": list(factors),
        "fixed": list(found.fixed),
        "recipes": len(design.rows),
        "resolution": design.resolution,
        "whole_arm": found.whole,
        "empty_arm": found.arms.get(frozenset()),
        "arms": {n: sorted(r, key=factors.index) for r, n in found.arms.items()},
        "all_together": whole,
        "tables": {
            name: table and {effect: _row(c) for effect, c in table.items()}
            for name, table in tables.items()
        },
    }


def _row(c: Contribution) -> dict[str, Any]:
    return {**asdict(c), "seeds": {str(s): v for s, v in c.seeds.items()}}


def how_to_attribute(sweep: Sweep, winner: str) -> str:
    """One sentence for a sweep without a design."""
    first = (
        sweep.arms[winner].any_run.start.get("recipe") if sweep.arms[winner].strategies else None
    )
    name = first.removesuffix("-parts") if first and first != "nvidia" else "NAME"
    return (
        "These arms do not tell what each strategy contributes: that takes recipes that differ in "
        f"one strategy at a time and in nothing else. `wg sweep design --recipe {name} -o "
        f"sweeps/{name}_parts.yaml` writes such a sweep."
    )


def find_design(sweep: Sweep) -> Found | None:
    """The design with the most strategies (at least two) among arms whose settings are equal; of
    equally many a full one, then a fraction, then leave-one-out."""
    groups: dict[str, dict[Row, str]] = {}
    for name, arm in sweep.arms.items():
        for key in _settings(arm):
            groups.setdefault(key, {}).setdefault(_strategies(arm), name)
    best: tuple[int, int] = (1, 0)
    found = None
    for rows in groups.values():
        for whole, empty in itertools.product(rows, rows):
            k = len(whole - empty)
            if not empty < whole or not 2 <= k <= MOST_FACTORS:
                continue
            design = _between(empty, whole, rows)
            if design and (k, _RANK[design.kind]) > best:
                best = (k, _RANK[design.kind])
                found = _named(design, empty, rows)
        for whole in rows:
            singles = [t for t in sorted(whole) if whole - {t} in rows]
            if len(singles) > best[0] and len(singles) <= MOST_FACTORS:
                best = (len(singles), _RANK["leave-one-out"])
                fixed = whole - set(singles)
                found = _named(leave_one_out(singles), fixed, rows)
    return found


_RANK = {"leave-one-out": 0, "fractional": 1, "full": 2}


def _between(empty: Row, whole: Row, rows: Collection[Row]) -> Design | None:
    """The design that the rows from ``empty`` to ``whole`` make, over the strategies between."""
    factors = sorted(whole - empty)
    inside = {r - empty for r in rows if empty <= r <= whole}
    k = len(factors)
    if len(inside) == 2**k:
        return full_factorial(factors)
    ends = (frozenset[str](), frozenset(factors))
    for left_out in ((), ends[:1], ends[1:], ends):
        fraction = inside - set(left_out)
        words = _defining_words(factors, fraction)
        if words and len(fraction) > k:
            shortest = min(map(len, words))
            if shortest >= 3:  # below, a strategy is always in, always out, or bound to another
                order = sorted(fraction, key=lambda r: (len(r), sorted(r)))
                return Design(
                    "fractional", tuple(factors), tuple(sorted(inside, key=sorted)), tuple(order),
                    words=tuple(words), resolution=shortest,
                )  # fmt: skip
    singles = {frozenset(factors) - {f} for f in factors}
    return leave_one_out(factors) if singles <= inside else None


def _defining_words(factors: list[str], rows: Collection[Row]) -> list[Row]:
    """Products of strategies that are the same in all rows, when the rows are a regular fraction
    (2**(k - p) rows, 2**p - 1 such products); else none."""
    k, n = len(factors), len(rows)
    if n < 4 or n & (n - 1) or n == 2**k:
        return []
    words = [
        frozenset(w)
        for size in range(1, k + 1)
        for w in itertools.combinations(factors, size)
        if len({len(r.intersection(w)) % 2 for r in rows}) == 1
    ]
    return words if len(words) == 2**k // n - 1 else []


def _named(design: Design, empty: Row, rows: Mapping[Row, str]) -> Found:
    """``design`` with short names, and the arms of its rows."""
    bare = [token.split(" ", 1)[0] for token in design.factors]
    short = {t: b if bare.count(b) == 1 else t for t, b in zip(design.factors, bare, strict=True)}

    def renamed(row: Row) -> Row:
        return frozenset(short[t] for t in row)

    present = {renamed(r - empty): n for r, n in rows.items() if empty <= r <= empty.union(short)}
    kept = tuple(renamed(r) for r in design.rows if renamed(r) in present)
    return Found(
        Design(
            design.kind,
            tuple(short.values()),
            kept,
            tuple(renamed(r) for r in design.fraction),
            words=tuple(renamed(w) for w in design.words),
            resolution=design.resolution,
        ),
        {r: present[r] for r in kept},
        tuple(sorted(t.split(" ", 1)[0] for t in empty)),
    )


def _settings(arm: Arm) -> list[str]:
    """All but strategies and seed of the arm's runs, as text to compare; nothing when they
    differ within the arm."""
    found = {
        json.dumps({k: v for k, v in r.config.items() if k not in _FREE}, sort_keys=True)
        for r in arm.runs.values()
    }
    return list(found) if len(found) == 1 else []


def _strategies(arm: Arm) -> Row:
    """Each strategy with all its settings, those left at their defaults included."""
    given = arm.any_run.config.get("strategy") or {}
    row = set()
    for name in arm.strategies:
        settings = with_defaults(name, given.get(name))
        row.add(f"{name} {json.dumps(settings, sort_keys=True, default=str)}")
    return frozenset(row)
