"""``wg sweep``: sweeps that are worked out rather than written by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Any

import click

from wg.errors import UserError


@click.group()
def sweep() -> None:
    """Make sweeps; `wg train -m +sweep=NAME` runs them."""


@sweep.command()
@click.option("--recipe", required=True, help="A name in conf/recipe.")
@click.option("--strategies", metavar="A,B",
              help="Those to vary; the recipe's others stay in every run [all].")  # fmt: skip
@click.option("--kind", default="full", show_default=True,
              type=click.Choice(["full", "fraction", "leave-one-out"]),
              help="full: all subsets, for Shapley values and interactions; fraction: fewer, some "
              "effects aliased; leave-one-out: all, none, and all but one.")  # fmt: skip
@click.option("--runs", type=int,
              help="Recipes of a fraction, a power of two [least of resolution IV].")  # fmt: skip
@click.option("-o", "--out", required=True, metavar="sweeps/X.yaml",
              type=click.Path(path_type=Path), help="File to write.")  # fmt: skip
def design(recipe: str, strategies: str | None, kind: str, runs: int | None, out: Path) -> None:
    """Write the sweep that tells what each strategy of a recipe contributes.

    Its runs are the recipe with some of its strategies, all else equal; `wg report` finds the
    design in them and gives each strategy's contribution.
    """
    from wg.sweep.design import write_design

    names = None if strategies is None else [s.strip() for s in strategies.split(",") if s.strip()]
    write_design(recipe, names, kind, runs, out, say=click.echo)  # type: ignore[arg-type]  # click checked


@sweep.command()
@click.option("--within", type=float, required=True, metavar="FACTOR",
              help="The 95% interval of the speed-up is to lie within this factor of the estimate "
              "either way, such as 1.5.")  # fmt: skip
@click.option("--sd", type=float,
              help="Standard deviation over seeds of log(baseline time / arm time).")  # fmt: skip
@click.option("--from", "study", type=click.Path(path_type=Path), metavar="RESULTS.JSON",
              help="An earlier study (or its report's folder), for the spread of each of its "
              "arms.")  # fmt: skip
@click.option("--arms", type=click.IntRange(1), default=1, show_default=True,
              help="Arms besides the baseline, whose intervals are to hold together.")  # fmt: skip
@click.option("--assurance", type=float, default=0.5, show_default=True,
              help="Share of such studies whose interval is to be that narrow.")  # fmt: skip
def seeds(within: float, sd: float | None, study: Path | None, arms: int, assurance: float) -> None:
    """Say how many seeds a speed-up known to within a factor takes, before any is run.

    At least three, which an interval takes.

    \b
      wg sweep seeds --within 1.5 --sd 0.25
      wg sweep seeds --within 1.5 --from reports/reference --arms 8
    """
    if not 1 < within < math.inf:
        raise UserError(f"--within is {within:g}: give a factor above 1, such as 1.5.")
    if not 0 < assurance < 1:
        raise UserError(f"--assurance is {assurance:g}: give a share between 0 and 1, such as 0.8.")
    wanted = Wanted(within, arms, assurance)
    if sd is not None and study is None:
        n = wanted.seeds(sd)
        click.echo(f"{n} seeds: {wanted.words()}")
        click.echo(f"Power: {wanted.power(n, sd):.0%}, {wanted.power_words()}")
        click.echo(f"Assumed: an sd of {sd:g}; {_ASSUMED}.")
    elif study is not None and sd is None:
        known = spreads(study)
        _show(known, wanted)
        click.echo(f"seeds: {wanted.words()}")
        click.echo(f"power: {wanted.power_words()}")
        click.echo(
            f"Assumed: the sd of {study}, then its upper {_confidence():.0%} limit, since few "
            f"pairs know it badly; {_ASSUMED}."
        )
        if any(s.missed for s in known.values()):
            click.echo(
                "Pairs in which a run missed the target are left out: the true sd is rather larger."
            )
    else:
        raise UserError("give the spread by --sd, or an earlier study that has it by --from.")


_ASSUMED = "seeds that arm and baseline share, normal log factors, no run that misses its target"


def _confidence() -> float:
    from wg.report.sure import CONFIDENCE

    return CONFIDENCE


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
        from wg.measure.power import seeds_for_width
        from wg.report.sure import FEWEST

        n = seeds_for_width(
            math.log(self.factor), sd, assurance=self.assurance, comparisons=self.arms
        )
        return max(n, FEWEST)

    def power(self, n: int, sd: float) -> float:
        """Chance that n pairs show an arm to be sooner that truly is, ``factor`` times."""
        from wg.measure.power import power
        from wg.report.sure import ALPHA

        return power(n, math.log(self.factor), sd, ALPHA, self.arms)

    def words(self) -> str:
        jointly = f", jointly over {self.arms} arms," if self.arms > 1 else ""
        return (
            f"the 95% t-interval of the speed-up{jointly} lies within a factor of {self.factor:g} "
            f"of the estimate in {self.assurance:.0%} of studies or more."
        )

    def power_words(self) -> str:
        from wg.report.sure import ALPHA

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
    from wg.files import read_json

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
    from rich.table import Table

    from wg.console import console
    from wg.measure.power import sd_upper

    table = Table(box=None, pad_edge=False)
    table.add_column("arm")
    for head in ("pairs", "missed", "sd", "seeds", "power", "sd at most", "seeds", "power"):
        table.add_column(head, justify="right")
    for name, s in known.items():
        planned = [_planned(wanted, v) for v in (s.sd, sd_upper(s.sd, s.pairs, _confidence()))]
        table.add_row(name, str(s.pairs), str(s.missed), *planned[0], *planned[1])
    console().print(table)


def _planned(wanted: Wanted, sd: float) -> tuple[str, str, str]:
    """sd, seeds, power."""
    from wg.measure.power import MOST_SEEDS

    try:
        n = wanted.seeds(sd)
    except UserError:
        return f"{sd:.3f}", f"> {MOST_SEEDS:,}", "-"
    return f"{sd:.3f}", str(n), f"{wanted.power(n, sd):.0%}"
