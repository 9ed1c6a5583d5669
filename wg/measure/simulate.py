"""Runs the studies of ``wg.measure.coverage`` and its siblings and writes what they found.

    python -m wg.measure.simulate -o reports/statistics/coverage.json

writes the JSON and, beside it, the same as Markdown. Everything is drawn from fixed seeds: the
same versions of numpy and scipy give the same files. ``wg.measure.coverage_crossing`` is a command
of its own, as it begins before there are times to target.
"""

from __future__ import annotations

import argparse
import math
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from wg.errors import UserError
from wg.files import write_atomic, write_json
from wg.measure import coverage, coverage_attribution, coverage_rounds, coverage_survival
from wg.measure.coverage import Row
from wg.measure.coverage_tables import WANTED, joined, origin, percent, pivot, share


def facts(module: str, simulations: int, seed: int) -> dict[str, Any]:
    """What determines the studies that ``python -m module`` runs.

    Errors: UserError for fewer than 100 simulations.
    """
    if simulations < 100:
        raise UserError(f"{simulations} simulations say nothing about 5%: give at least 100.")
    return {
        "schema": 2,
        "command": f"python -m {module} -o FILE --simulations {simulations} --seed {seed}",
        "simulations": simulations,
        "seed": seed,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }


def run_studies(simulations: int, seed: int) -> dict[str, Any]:
    """All studies, with what determines them. ``simulations``: of each cheap row; the bootstrap at
    8 pairs, survival curves and attribution take fewer, as their rows and the tables say.

    Errors: UserError for fewer than 100.
    """
    head, slow = facts("wg.measure.simulate", simulations, seed), simulations // 5
    return {
        **head,
        "slow_simulations": slow,
        "sd_of_log_time": list(coverage.SPREADS),
        "intervals": coverage.interval_coverage(simulations, seed),
        "bounds": coverage.bounded_coverage(simulations, seed),
        "wins": coverage.wins(simulations, seed),
        "winner": coverage.winner_coverage(simulations, seed),
        "survival": coverage_survival.survival_coverage(slow, seed),
        "censored": coverage_survival.censored_coverage(slow, seed),
        "attribution": coverage_attribution.attribution_coverage(slow, seed),
        "rounds": coverage_rounds.ratio_coverage(simulations, seed),
        "normalised": coverage_rounds.normalised_coverage(simulations, seed),
        "quality": coverage.quality_claims(simulations, seed),
    }


def markdown(found: dict[str, Any]) -> str:
    """The tables of :func:`run_studies`' result."""
    error = 100 * math.sqrt(0.05 * 0.95 / found["simulations"])
    slow = 100 * math.sqrt(0.05 * 0.95 / found["slow_simulations"])
    spreads = " or ".join(f"{sd:g}" for sd in found["sd_of_log_time"])
    return joined(
        "# Coverage and false wins, simulated",
        f"{origin(found)} {found['simulations']:,} simulations a cell, a "
        f"quarter of them for the bootstrap at n = 8 and {found['slow_simulations']:,} for "
        f"survival and attribution; standard error of a 95% or 5% cell: {error:.2f} points "
        f"({2 * error:.2f} with a quarter, {slow:.2f} with {found['slow_simulations']:,}). n: "
        f"pairs of runs (seeds). sd: of log times over seeds, {spreads}; * outside "
        f"{WANTED[0]:.0%} to {WANTED[1]:.0%}.",
        *_speed_ups(found),
        *_survival(found),
        *_attribution(found["attribution"]),
        *_benchmark(found),
        "## Quality at the fixed budget",
        "An arm exactly as good as the target: how often 'at least the target' is claimed by "
        "t / by sign flips (5% wanted).",
        pivot(
            found["quality"],
            ("target",),
            lambda r: f"{percent(r['t'])} / {percent(r['sign_flip'])}",
        ),
    )


def _speed_ups(found: dict[str, Any]) -> list[str]:
    alone = ("t", "sign-flip", "95% t-interval above 1")  # with one arm there is nothing to correct
    wins = [r for r in found["wins"] if r["arms"] > 1 or r["rule"] in alone]
    better = [r for r in wins if r["found"] is not None]
    return [
        "## 95% intervals of the speed-up",
        "Share that hold the truth. In brackets the median of upper / lower limit (- : no limits).",
        pivot(found["intervals"], ("scenario", "method"), _interval_cell),
        "## Lower limit when the baseline misses with 3 runs in 10",
        "Share of lower limits (nominal 97.5%) that are at most the true factor, each miss "
        "entering as the bound it is.",
        pivot(found["bounds"], ("method",), _bound_cell),
        "## Arms called sooner that are not",
        "Share of sweeps with at least one such arm (5% wanted; for intervals above 1 it is 2.5%).",
        pivot(wins, ("scenario", "arms", "better", "rule"), lambda r: percent(r["false_win"])),
        "## Arms that are 1.2 times sooner and are called so",
        "Two of four arms.",
        pivot(better, ("scenario", "rule"), lambda r: percent(r["found"])),
        "## The winner's interval",
        "Several arms that are as fast as the baseline; of the one with the largest estimate: "
        "coverage of its own 95% t-interval / of the joint one, and its median estimate.",
        pivot(found["winner"], ("arms",), _winner_cell),
    ]


def _survival(found: dict[str, Any]) -> list[str]:
    return [
        "## Survival",
        "Share of 95% bands and intervals that hold the truth, of those that exist (in brackets: "
        "share that do not).",
        pivot(found["survival"], ("interval",), _survival_cell),
        "## Ratio of restricted means, censored at the budget",
        "Share of 95% intervals that hold the truth / the same of the studies in which the page "
        "shows the ratio, where a run missed (in brackets: share of those; 'none': share of all "
        "that have no interval). tau is the budget.",
        pivot(found["censored"], ("scenario",), _censored_cell),
    ]


def _attribution(rows: Sequence[Row]) -> list[str]:
    one = [r for r in rows if r["effect"] != "any"]
    whole = [r for r in rows if r["effect"] == "any"]
    return [
        "## What each strategy contributes",
        "A full design of three strategies: a, b, c make a run 2, 1.3 and 1 times sooner, a and b "
        "together 0.8 times their product. Share of an effect's own 95% intervals that hold its "
        "true factor (in brackets the median of upper / lower limit).",
        pivot(one, ("table", "effect", "true"), _effect_cell),
        "How often an effect's interval leaves out 1: its own / the page's, widened for the three "
        "of a table (5% wanted of a true 1, and of the widened ones less).",
        pivot(one, ("table", "effect", "true"), _called_cell),
        "All three of a table at once: share of tables whose own / widened intervals all hold "
        "(95% wanted of the widened ones); in brackets how often a true 1 is called otherwise.",
        pivot(whole, ("table",), _table_cell),
    ]


def _benchmark(found: dict[str, Any]) -> list[str]:
    rounds = [{**r, "rounds": r["rounds"] or "exact rates"} for r in found["normalised"]]
    return [
        "## Paired ratio of the interleaved benchmark",
        "n: rounds. Share of the order-statistic intervals that hold the true ratio (in brackets "
        "what they claim, and the median of upper / lower limit); * below the claim by more than "
        "1 point.",
        pivot(found["rounds"], ("scenario",), _ratio_cell),
        "## Normalised time",
        "Share of 95% t-intervals over seeds of the speed-up of normalised times that hold the "
        "true one, by the rounds of the benchmark that the times were normalised with.",
        pivot(rounds, ("rounds",), lambda r: share(r["coverage"])),
    ]


def _interval_cell(row: Row) -> str:
    width = "-" if row["median_width"] is None else f"{row['median_width']:.2f}"
    return share(row["coverage"], width)


def _bound_cell(row: Row) -> str:
    none = f" ({percent(row['without_limit'])} without)" if row["without_limit"] else ""
    return percent(row["low_limit_holds"]) + none


def _winner_cell(row: Row) -> str:
    return f"{share(row['own'])} / {percent(row['joint'])}, {row['median_estimate']:.2f}"


def _survival_cell(row: Row) -> str:
    none = percent(row["without_interval"]) if row["without_interval"] else ""
    return share(row["coverage"], none)


def _censored_cell(row: Row) -> str:
    none = f"none {percent(row['without_interval'])}" if row["without_interval"] else ""
    shown = share(row["coverage_shown"], percent(row["shown"]), none)
    return f"{share(row['coverage'])} / {shown}"


def _effect_cell(row: Row) -> str:
    return share(row["coverage"], f"{row['median_width']:.2f}")


def _called_cell(row: Row) -> str:
    return f"{percent(row['called'])} / {percent(row['called_joint'])}"


def _table_cell(row: Row) -> str:
    called = f" ({_called_cell(row)})" if row["called"] is not None else ""
    return f"{percent(row['coverage'])} / {percent(row['joint'])}{called}"


def _ratio_cell(row: Row) -> str:
    claimed, width = row["claimed"], f"{row['median_width']:.2f}"
    claim = f"{percent(claimed)} claimed"
    return share(row["coverage"], claim, width, wanted=(claimed - 0.01, 1))


def command_line(
    module: str,
    about: str | None,
    run: Callable[[int, int], dict[str, Any]],
    tables: Callable[[dict[str, Any]], str],
    arguments: Sequence[str] | None = None,
) -> None:
    """``python -m module``: run(simulations, seed) as JSON, and its tables beside it."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        found = run(given.simulations, given.seed)
    except UserError as e:
        parser.error(str(e))
    write_json(given.out, found)
    write_atomic(given.out.with_suffix(".md"), tables(found).encode())


def main(arguments: Sequence[str] | None = None) -> None:
    command_line("wg.measure.simulate", __doc__, run_studies, markdown, arguments)


if __name__ == "__main__":
    main()
