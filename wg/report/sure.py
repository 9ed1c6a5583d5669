"""Tests against the baseline and against the target, and how many seeds they take.

The numbers come from wg.measure; reports/statistics says by simulation how far they hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from wg.errors import UserError
from wg.measure.bootstrap import bootstrap_speed_up
from wg.measure.metrics import metric_info
from wg.measure.power import sd_upper, seeds_for_power, seeds_for_width
from wg.measure.significance import good_enough, holm, smallest_p, sooner
from wg.report.compare import Comparison, charged
from wg.report.data import Arm, Sweep
from wg.report.words import count, number

ALPHA = 0.05
BOOTSTRAP = 4  # pairs: fewer have no studentised interval (wg.measure.bootstrap)
FEWEST = 3  # runs that a claim needs, as an interval does: the spread of two is hardly a spread
WIDTHS = (1.10, 1.25)  # half widths of an interval, as factors
EFFECTS = (1.1, 1.25, 2.0)  # speed-ups to find
POWER = 0.8
CONFIDENCE = 0.8  # of the upper limit of the spread


def sooner_of(sweep: Sweep, comparison: Comparison) -> dict[str, Any] | None:
    """Of every arm against the baseline: p by t and by sign flips, each corrected by Holm across
    the arms; the floor of the latter; the paired bootstrap's interval of the speed-up, where there
    are pairs enough."""
    base = charged(sweep, sweep.baseline, comparison.arms[sweep.baseline])
    found: dict[str, dict[str, Any]] = {}
    for name in comparison.speed_ups:
        arm = charged(sweep, name, comparison.arms[name])
        try:
            found[name] = asdict(sooner(base[0], arm[0], base[1], arm[1]))
        except UserError:
            continue  # no seed in common, which the speed-up's note says
        again = bootstrap_speed_up(base[0], arm[0], base[1], arm[1])
        known = again.n >= BOOTSTRAP and (again.low is not None or again.high is not None)
        found[name]["bootstrap"] = {"low": again.low, "high": again.high} if known else None
    if not found:
        return None
    for kind in ("t", "sign_flip"):
        corrected = holm({name: row[kind] for name, row in found.items()}, ALPHA)
        for name, row in found.items():
            row[f"{kind}_holm"] = corrected[name].adjusted
    for row in found.values():
        row["shown"] = row["t_holm"] <= ALPHA and row["n"] >= FEWEST
    return {"arms": found, "words": _floor_words(found)}


def _floor_words(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What so many seeds can show, in plain words."""
    m, n = len(found), max(row["n"] for row in found.values())
    if n == 1:
        return (
            "One shared seed shows nothing: whatever differs may be the seed. Three make an "
            f"interval, {_pairs_needed(m)} let a sign-flip test speak."
        )
    if n < FEWEST:
        return (
            f"{n} shared seeds show nothing: how far two differ hardly says how far a third would. "
            f"Three make an interval, {_pairs_needed(m)} let a sign-flip test speak."
        )
    least = smallest_p(n)
    sentence = (
        f"With {count(n, 'shared seed')} a sign-flip test, which assumes next to nothing, cannot "
        f"give less than 1/2^{n} = {number(least)}"
    )
    if m * least > ALPHA:
        needs = _pairs_needed(m)
        of = f" and {m} arms" if m > 1 else ""
        sentence += (
            f": it cannot reach {ALPHA:g} whatever the arms do ({needs} seeds{of} could). Here "
            "everything rests on Student's t, which takes log factors to be normal."
        )
    else:
        sentence += (
            "; Student's t has no such floor, and takes log factors to be normal. Where both are "
            "small, neither assumption carries the claim."
        )
    return sentence


def _pairs_needed(arms: int) -> int:
    return math.ceil(math.log2(max(arms, 1) / ALPHA) - 1e-9)


def good_enough_of(sweep: Sweep, comparison: Comparison) -> dict[str, Any]:
    """Is the mean quality at the end of an arm's own budget at least the target's? p for every
    condition; for the target as a whole the largest of them, corrected by Holm across the arms.

    All conditions have to hold, so testing each at the full level is safe (an intersection-union
    test: Berger 1982, Technometrics 24, 295-300).
    """
    arms: dict[str, dict[str, Any]] = {}
    for name, arm in sweep.arms.items():
        rows = [_condition(arm, c.metric, c.value) for c in comparison.target.conditions]
        known = [r["p"] for r in rows if r["p"] is not None]
        whole = max(known) if len(known) == len(rows) else None
        arms[name] = {"conditions": rows, "p": whole, "p_holm": None, "shown": False}
    given = {name: row["p"] for name, row in arms.items() if row["p"] is not None}
    for name, c in holm(given, ALPHA).items():
        enough = len(sweep.arms[name].runs) >= FEWEST
        arms[name] |= {"p_holm": c.adjusted, "shown": c.rejected and enough}
    return {"arms": arms}


def _condition(arm: Arm, metric: str, threshold: float) -> dict[str, Any]:
    """``met``: seeds whose run ends at least as good as the threshold; ``why``: no p."""
    row: dict[str, Any] = {"metric": metric, "threshold": threshold, "n": len(arm.runs)}
    row |= dict.fromkeys(("mean", "p", "sign_flip", "floor"))
    values = [r.points[-1].metrics.get(metric) if r.finished else None for r in arm.runs.values()]
    direction = metric_info(metric).direction
    known = [v for v in values if v is not None and math.isfinite(v)]
    row["met"] = sum(_meets(v, threshold, direction) for v in known)
    row["why"] = "a run diverged" if any(r.diverged for r in arm.runs.values()) else None
    if len(known) < len(values):
        row["why"] = row["why"] or "a run has no score"
        return row
    row["mean"] = float(np.mean(known))
    if len(known) > 1 and max(known) == min(known):
        row["why"] = "no spread"
        return row
    found = good_enough(known, threshold, direction)
    row["why"] = "one seed" if len(known) == 1 else None
    return row | {"p": found.t, "sign_flip": found.sign_flip, "floor": found.floor}


def _meets(value: float, threshold: float, direction: str) -> bool:
    sides = {"lower": value <= threshold, "higher": value >= threshold}
    return sides.get(direction, abs(value) <= threshold)


def seeds_needed(comparison: Comparison) -> dict[str, Any] | None:
    """From the spread of each arm's paired log ratios, the seeds that the next study needs: with
    the spread as measured, and with its upper limit, since few seeds know their spread badly.
    Intervals hold jointly and tests are corrected for as many arms as here. None when no arm has
    two pairs that both reached the target."""
    m = len(comparison.speed_ups)
    rows = {}
    for name, s in comparison.speed_ups.items():
        if s.bound != "exact" or s.n < 2:
            continue
        logs = np.log(list(s.pairs.values()))
        sd = float(np.std(logs, ddof=1))
        if sd <= 1e-9:
            continue  # equal to the last digit, which no study of real runs is
        upper = sd_upper(sd, len(logs), CONFIDENCE)
        rows[name] = {
            "pairs": len(logs),
            "sd": sd,
            "sd_upper": upper,
            "for_half_width": {
                f"{w:g}": [_seeds_for_width(w, v, m) for v in (sd, upper)] for w in WIDTHS
            },
            "for_speed_up": {
                f"{e:g}": [_seeds_for_power(e, v, m) for v in (sd, upper)] for e in EFFECTS
            },
        }
    if not rows:
        return None
    return {"arms": rows, "comparisons": m, "power": POWER, "confidence": CONFIDENCE}


def _seeds_for_width(factor: float, sd: float, comparisons: int) -> int | None:
    """None: more than anybody would train."""
    try:
        return seeds_for_width(math.log(factor), sd, comparisons=comparisons)
    except UserError:
        return None


def _seeds_for_power(factor: float, sd: float, comparisons: int) -> int | None:
    try:
        return seeds_for_power(math.log(factor), sd, POWER, ALPHA, comparisons)
    except UserError:
        return None
