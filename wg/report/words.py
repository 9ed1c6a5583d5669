"""Numbers as words: the sentences and cells that page, table and terminal share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wg.measure.clock import HEADLINE, Kind
from wg.measure.metrics import metric_info
from wg.measure.stats import SpeedUp

MISSING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_TIMES = "\N{MULTIPLICATION SIGN}"


# Named clocks of the headline; what else a run does is off the clock.
CHARGED = " + ".join(HEADLINE)


def clock_words(kind: Kind) -> str:
    return "process CPU seconds" if kind == "cpu" else "wall seconds"


# What sets arms apart, the nearest to the published training first: in another division an arm
# solves another problem.
DIVISIONS = {
    "system": "the same mathematics up to rounding",
    "algorithm": "the same network, trained another way",
    "model": "another network, or another signal before it",
    "warm-started": "begins with another run's weights",
}


def across(arm: str, other: str, divisions: Mapping[str, str]) -> str:
    """What to add to a sentence that compares two arms; empty within a division."""
    a, b = divisions[arm], divisions[other]
    if a == b:
        return ""
    return f" Across divisions: `{arm}` is {a} ({DIVISIONS[a]}), `{other}` is {b} ({DIVISIONS[b]})."


def number(value: float | None, digits: int = 3) -> str:
    """``digits`` significant digits, without an exponent where the size is ordinary."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        decimals = max(digits - 1 - _magnitude(value), 0)
        return f"{value:.{decimals}f}".replace("-", _MINUS)
    return f"{value:.{digits}g}".replace("-", _MINUS)


def scaled(value: float | None, unit: str) -> str:
    """With a prefix of the SI in steps of 1,000: 12.3 TFLOP, 45.6 kJ."""
    if value is None:
        return MISSING
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{number(value / 10**power)} {prefix}{unit}"
    return f"{number(value)} {unit}"


def _magnitude(value: float) -> int:
    return int(f"{abs(value):e}".split("e")[1])


def seconds(value: float | None) -> str:
    """Seconds, with minutes or hours as well once they help."""
    if value is None:
        return MISSING
    if value >= 7200:
        return f"{number(value / 3600)} h"
    return f"{number(value)} s" if value < 1e5 else f"{value:.0f} s"


def budgets(found: Sequence[Mapping[str, Any]]) -> str:
    """The budgets of an arm's runs, as a rule one."""
    return " or ".join(
        f"{MISSING if b['audio_seconds'] is None else format(b['audio_seconds'], 'g')} audio s"
        + (
            f", at most {seconds(b['train_seconds'])} of headline time"
            if b["train_seconds"]
            else ""
        )
        for b in found
    )


def metric_value(metric: str, value: float | None) -> str:
    """A metric with as many decimals as its scale is worth; a difference keeps its sign."""
    if value is None:
        return MISSING
    text = f"{value:+.2f}" if metric_info(metric).direction == "zero" else f"{value:.3f}"
    return text.replace("-", _MINUS)


def factor(s: Mapping[str, Any] | None) -> str:
    """A speed-up as a cell: ``1.52x``, ``≥ 2.1x``, ``≤ 0.8x`` or unknown."""
    if s is None:
        return MISSING
    if s["estimate"] is None:
        return "unknown"
    sign = {"at least": "≥ ", "at most": "≤ "}.get(s["bound"], "")
    return f"{sign}{number(s['estimate'])}{_TIMES}"


def interval(s: Mapping[str, Any] | None) -> str:
    """The interval of a speed-up and what it is."""
    if s is None or s["low"] is None:
        return MISSING if s is None else s["note"]
    return f"{number(s['low'])}{_TIMES} to {number(s['high'])}{_TIMES} ({s['interval']})"


def at_start(arm: Mapping[str, Any]) -> bool:
    """Whether an arm of ``lasting`` was there at the first snapshot with every seed."""
    between = list(arm["between"].values())
    return bool(between) and all(b is not None and b[0] == b[1] for b in between)


def factor_with_interval(s: Mapping[str, Any] | None) -> str:
    """``1.52x (1.3 to 1.8)`` for a narrow table, whose caption says what is in brackets."""
    if s is None or s["low"] is None:
        return factor(s)
    return f"{factor(s)} ({number(s['low'])} to {number(s['high'])})"


def probability(p: float | None) -> str:
    """A p-value as a cell."""
    if p is None:
        return MISSING
    if p < 1e-4:
        return "< 0.0001"
    return "1" if p > 0.9995 else number(p, 3 if p >= 0.1 else 2)


def contribution(c: Mapping[str, Any]) -> str:
    """A strategy's factor as a cell, bounds said as bounds."""
    return factor({"estimate": c["factor"], "bound": c["bound"]})


def limits(c: Mapping[str, Any]) -> str:
    """Its interval; of a bound only the side that is one."""
    low, high = c["low"], c["high"]
    if low is None and high is None:
        return MISSING
    if high is None:
        return f"above {number(low)}{_TIMES}"
    if low is None:
        return f"below {number(high)}{_TIMES}"
    return f"{number(low)} to {number(high)}"


def headline_sentence(
    results: Mapping[str, Any], speed: SpeedUp | None, comparisons: int = 1
) -> str:
    """The answer in a few sentences, with its uncertainty; a comparison across divisions says so.

    ``comparisons`` > 1: ``speed`` has the interval that holds for so many arms together."""
    winner, baseline, target = results["winner"], results["baseline"], results["target"]
    arm = winner["arm"]
    n_arms = len(results["ranking"])
    if target is None:
        return f"No target was set; `{arm}` has the best quality at the end of the budget."
    if not winner["reached_target"]:
        metric = target["conditions"][0]["metric"]
        return (
            f"No arm reached target `{target['name']}` with every seed; `{arm}` came closest by "
            f"{metric} at the end of the budget."
        )
    if arm == baseline or speed is None:
        mean = next(a for a in results["arms"] if a["arm"] == arm)["time_to_target"]
        alone = "it is the only arm" if n_arms == 1 else "no arm was sooner on average"
        return (
            f"The baseline `{baseline}` reached target `{target['name']}` in "
            f"{seconds(mean['restricted_mean_seconds'])} ({results['clock']['words']}, mean of "
            f"{count(mean['reached'], 'seed')}); {alone}."
        )
    clock = f"{results['clock']['words']} of {CHARGED}"
    sentence = f"`{arm}` reached target `{target['name']}` {_times(speed)} `{baseline}`"
    how = _uncertainty(speed)
    if comparisons > 1 and speed.interval == "95% t-interval":
        how += f", jointly with those of all {comparisons} arms"
    divisions = {a["arm"]: a["division"] for a in results["arms"]}
    return (
        f"{sentence} ({how}, {count(speed.n, 'seed')}, {clock}).{_doubt(speed)}"
        f"{_not_shown(results, arm, speed)}{across(arm, baseline, divisions)}"
        f"{_prepared(results, arm)}"
    )


def untrained(t: Mapping[str, Any] | None) -> bool:
    """Whether all runs of a ``time_to_target`` met it before their first step."""
    return t is not None and bool(t["steps"]) and all(v == 0 for v in t["steps"].values())


def _prepared(results: Mapping[str, Any], arm: str) -> str:
    """Of an arm that did not train for it: that, and the first of the ranking that did."""
    arms = {a["arm"]: a for a in results["arms"]}
    if not untrained(arms[arm]["time_to_target"]):
        return ""
    said = (
        f" `{arm}` is there before its first step: this is the factor of its preparation, and not "
        "of its training."
    )
    for name in results["ranking"]:
        a = arms[name]
        t = a["time_to_target"]
        if a["is_baseline"] or untrained(t) or t is None or t["missed"]:
            continue
        speed = a["speed_up_all_arms"]
        return f"{said} The soonest that had to train is `{name}`: {factor_with_interval(speed)}."
    return said


def _times(speed: SpeedUp) -> str:
    if speed.estimate is None:
        return "at a speed that does not compare with the baseline"
    if speed.bound == "at least":
        return f"at least {number(speed.estimate)} times sooner than"
    if speed.estimate >= 1:
        return f"{number(speed.estimate)} times sooner than"
    return f"in {number(1 / speed.estimate)} times the time of"


def _uncertainty(speed: SpeedUp) -> str:
    if speed.low is None or speed.high is None:
        return speed.note
    what = "95% interval" if speed.interval == "95% t-interval" else speed.interval
    return f"{what} {number(speed.low)} to {number(speed.high)}"


def _doubt(speed: SpeedUp) -> str:
    if speed.interval == "95% t-interval" and speed.low is not None and speed.low <= 1:
        return " The interval includes 1, so the difference may be chance."
    if speed.interval != "95% t-interval" and speed.bound == "exact":
        return " That is too few seeds to tell it from chance."
    return ""


def _not_shown(results: Mapping[str, Any], arm: str, speed: SpeedUp) -> str:
    """Of a bound, which has no interval to look at: that the tests do not bear it out."""
    sooner = ((results.get("evidence") or {}).get("sooner") or {}).get("arms", {}).get(arm)
    if speed.bound == "exact" or sooner is None or sooner["shown"]:
        return ""
    if sooner["n"] < 3:
        return " That is too few seeds to tell it from chance."
    p = probability(sooner["t_holm"])
    return f" So few and unequal runs do not rule out chance (one-sided p up to {p})."


def count(n: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{n} {what}{'' if n == 1 else 's'}"
