"""``wg sweep seeds``: how many seeds a speed-up takes that is to be known to within a factor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Any

from rich.table import Table

from wg.console import console
from wg.errors import UserError
from wg.files import read_json
from wg.measure.power import MOST_SEEDS, power, sd_upper, seeds_for_width
from wg.report.sure import ALPHA, CONFIDENCE, FEWEST

_ASSUMED = "seeds that arm and baseline share, normal log factors, no run that misses its target"


def say_seeds(
    within: float,
    sd: float | None,
    study: Path | None,
    arms: int,
    assurance: float,
    say: Callable[[str], None],
) -> None:
    """Say it, with the power and what was assumed; the spread is ``sd`` or that of a ``study``.

    Errors: UserError for a factor or a share out of range, both spreads or none, and as
    :func:`spreads` and :meth:`Wanted.seeds`.
    """
    if not 1 < within < math.inf:
        raise UserError(f"--within is {within:g}: give a factor above 1, such as 1.5.")
    if not 0 < assurance < 1:
        raise UserError(f"--assurance is {assurance:g}: give a share between 0 and 1, such as 0.8.")
    wanted = Wanted(within, arms, assurance)
    if sd is not None and study is None:
        n = wanted.seeds(sd)
        say(f"{n} seeds: {wanted.words()}")
        say(f"Power: {wanted.power(n, sd):.0%}, {wanted.power_words()}")
        say(f"Assumed: an sd of {sd:g}; {_ASSUMED}.")
    elif study is not None and sd is None:
        known = spreads(study)
        _show(known, wanted)
        say(f"seeds: {wanted.words()}")
        say(f"power: {wanted.power_words()}")
        say(
            f"Assumed: the sd of {study}, then its upper {CONFIDENCE:.0%} limit, since few "
            f"pairs know it badly; {_ASSUMED}."
        )
        if any(s.missed for s in known.values()):
            say(
                "Pairs in which a run missed the target are left out: the true sd is rather larger."
            )
    else:
        raise UserError("give the spread by --sd, or an earlier study that has it by --from.")


@dataclass(frozen=True)
class Wanted:
    """A 95% interval within ``factor`` of the estimate either way, in the share ``assurance`` of
    studies or more, jointly for ``arms``. sd: of log factors over seeds."""

    factor: float
    arms: int
    assurance: float

    def seeds(self, sd: float) -> int:
        """Pairs of runs of every arm.

        Errors: UserError for an sd not above 0, or more than 10,000 seeds.
        """
        n = seeds_for_width(
            math.log(self.factor), sd, assurance=self.assurance, comparisons=self.arms
        )
        return max(n, FEWEST)

    def power(self, n: int, sd: float) -> float:
        """Chance that n pairs show an arm to be sooner that truly is, ``factor`` times."""
        return power(n, math.log(self.factor), sd, ALPHA, self.arms)

    def words(self) -> str:
        jointly = f", jointly over {self.arms} arms," if self.arms > 1 else ""
        return (
            f"the 95% t-interval of the speed-up{jointly} lies within a factor of {self.factor:g} "
            f"of the estimate in {self.assurance:.0%} of studies or more."
        )

    def power_words(self) -> str:
        holm = f", Holm over {self.arms} arms at worst" if self.arms > 1 else ""
        return (
            f"the chance that an arm that is truly {self.factor:g} times sooner is found to be "
            f"sooner (one-sided t-test at {ALPHA:.0%}{holm})."
        )


@dataclass(frozen=True)
class Spread:
    """sd of an arm's log factors over the pairs in which both runs reached the target; ``missed``:
    the other pairs."""

    sd: float
    pairs: int
    missed: int


def spreads(study: Path) -> dict[str, Spread]:
    """Of every arm with two pairs or more in which both runs reached the target. study:
    results.json of a report, or its folder.

    Errors: UserError for a file that is missing, damaged, no results.json, or without such arms.
    """
    path = study / "results.json" if study.is_dir() else study
    found = read_json(path)
    try:
        baseline = next(a for a in found["arms"] if a["is_baseline"])
        arms = {a["arm"]: _logs(baseline, a) for a in found["arms"] if not a["is_baseline"]}
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError):
        raise UserError(f"{path} is no results.json of `wg report`.") from None
    known = {
        name: Spread(stdev(logs), len(logs), missed)
        for name, (logs, missed) in arms.items()
        if len(set(logs)) > 1
    }
    if not known:
        raise UserError(
            f"{path} has no arm with two pairs of runs that both reached the target: give --sd."
        )
    return known


def _logs(baseline: Mapping[str, Any], arm: Mapping[str, Any]) -> tuple[list[float], int]:
    """Log factors that no miss bounds, and how many one does."""
    if arm["speed_up"] is None:
        return [], 0
    times = [a["time_to_target"]["seconds"] for a in (baseline, arm)]
    pairs = arm["speed_up"]["pairs"]
    logs = [math.log(v) for s, v in pairs.items() if all(t[s] is not None for t in times)]
    return logs, arm["speed_up"]["n"] - len(logs)


def _show(known: Mapping[str, Spread], wanted: Wanted) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("arm")
    for head in ("pairs", "missed", "sd", "seeds", "power", "sd at most", "seeds", "power"):
        table.add_column(head, justify="right")
    for name, s in known.items():
        planned = [_planned(wanted, v) for v in (s.sd, sd_upper(s.sd, s.pairs, CONFIDENCE))]
        table.add_row(name, str(s.pairs), str(s.missed), *planned[0], *planned[1])
    console().print(table)


def _planned(wanted: Wanted, sd: float) -> tuple[str, str, str]:
    """sd, seeds, power."""
    try:
        n = wanted.seeds(sd)
    except UserError:
        return f"{sd:.3f}", f"> {MOST_SEEDS:,}", "-"
    return f"{sd:.3f}", str(n), f"{wanted.power(n, sd):.0%}"
