"""Runs the studies of ``wg.measure.coverage`` and writes what they found.

    python -m wg.measure.simulate -o reports/statistics/coverage.json

writes the JSON and, beside it, the same as Markdown. Everything is drawn from fixed seeds: the
same versions of numpy and scipy give the same files.
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
from wg.measure import coverage
from wg.measure.coverage import SEEDS, Row

WANTED = (0.93, 0.97)  # what a nominal 95% may cover here


def run_studies(simulations: int, seed: int) -> dict[str, Any]:
    """All studies, with what determines them. ``simulations``: of each cheap row; the bootstrap at
    8 pairs and the survival curves take fewer, as their rows and the tables say.

    Errors: UserError for fewer than 100.
    """
    if simulations < 100:
        raise UserError(f"{simulations} simulations say nothing about 5%: give at least 100.")
    return {
        "schema": 1,
        "command": "python -m wg.measure.simulate -o FILE"
        + f" --simulations {simulations} --seed {seed}",
        "simulations": simulations,
        "survival_simulations": simulations // 5,
        "seed": seed,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "sd_of_log_time": coverage.SD,
        "intervals": coverage.interval_coverage(simulations, seed),
        "bounds": coverage.bounded_coverage(simulations, seed),
        "wins": coverage.wins(simulations, seed),
        "winner": coverage.winner_coverage(simulations, seed),
        "survival": coverage.survival_coverage(simulations // 5, seed),
        "quality": coverage.quality_claims(simulations, seed),
    }


def markdown(found: dict[str, Any]) -> str:
    """The tables of :func:`run_studies`' result."""
    by_n = [f"n = {n}" for n in SEEDS]
    versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
    error = 100 * math.sqrt(0.05 * 0.95 / found["simulations"])
    alone = ("t", "sign-flip", "95% t-interval above 1")  # with one arm there is nothing to correct
    wins = [r for r in found["wins"] if r["arms"] > 1 or r["rule"] in alone]
    parts = [
        "# Coverage and false wins, simulated",
        f"`{found['command']}` ({versions}). {found['simulations']:,} simulations a cell, a "
        f"quarter of them for the bootstrap at n = 8 and {found['survival_simulations']:,} for "
        f"survival; standard error of a 95% or 5% cell: {error:.2f} points "
        f"({2 * error:.2f} with a quarter). n: pairs of runs (seeds). Log times have a standard "
        f"deviation of {found['sd_of_log_time']} over seeds.",
        "## 95% intervals of the speed-up",
        f"Share that hold the truth; * outside {WANTED[0]:.0%} to {WANTED[1]:.0%}. In brackets "
        "the median of upper / lower limit (- : no limits).",
        _pivot(found["intervals"], ("scenario", "method"), by_n, _interval_cell),
        "## Lower limit when the baseline misses with 3 runs in 10",
        "Share of lower limits (nominal 97.5%) that are at most the true factor, each miss "
        "entering as the bound it is.",
        _pivot(found["bounds"], ("method",), by_n, _bound_cell),
        "## Arms called sooner that are not",
        "Share of sweeps with at least one such arm (5% wanted; for intervals above 1 it is 2.5%).",
        _pivot(wins, ("scenario", "arms", "better", "rule"), by_n, lambda r: _p(r["false_win"])),
        "## Arms that are 1.2 times sooner and are called so",
        "Two of four arms.",
        _pivot(
            [r for r in wins if r["found"] is not None],
            ("scenario", "rule"),
            by_n,
            lambda r: _p(r["found"]),
        ),
        "## The winner's interval",
        "Several arms that are as fast as the baseline; of the one with the largest estimate: "
        "coverage of its own 95% t-interval / of the joint one, and its median estimate.",
        _pivot(found["winner"], ("arms",), by_n, _winner_cell),
        "## Survival",
        "Share of 95% bands and intervals that hold the truth, of those that exist (in brackets: "
        "share that do not).",
        _pivot(found["survival"], ("interval",), by_n, _survival_cell),
        "## Quality at the fixed budget",
        "An arm exactly as good as the target: how often 'at least the target' is claimed by "
        "t / by sign flips (5% wanted).",
        _pivot(found["quality"], ("target",), by_n, lambda r: f"{_p(r['t'])} / "
               f"{_p(r['sign_flip'])}"),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _pivot(
    rows: Sequence[Row], keys: Sequence[str], heads: Sequence[str], cell: Callable[[Row], str]
) -> str:
    """One line for each combination of ``keys``, one column for each n."""
    lines: dict[tuple[str, ...], dict[int, str]] = {}
    for row in rows:
        lines.setdefault(tuple(str(row[k]) for k in keys), {})[row["n"]] = cell(row)
    table = [[*keys, *heads], ["---"] * (len(keys) + len(heads))]
    table += [[*names, *(cells[n] for n in SEEDS)] for names, cells in lines.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def _p(share: float) -> str:
    return f"{share:.1%}"


def _interval_cell(row: Row) -> str:
    mark = "" if WANTED[0] <= row["coverage"] <= WANTED[1] else " *"
    width = "-" if row["median_width"] is None else f"{row['median_width']:.2f}"
    return f"{_p(row['coverage'])} ({width}){mark}"


def _bound_cell(row: Row) -> str:
    none = f" ({_p(row['without_limit'])} without)" if row["without_limit"] else ""
    return _p(row["low_limit_holds"]) + none


def _winner_cell(row: Row) -> str:
    return f"{_p(row['own'])} / {_p(row['joint'])}, {row['median_estimate']:.2f}"


def _survival_cell(row: Row) -> str:
    none = f" ({_p(row['without_interval'])})" if row["without_interval"] else ""
    return _p(row["coverage"]) + none


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m wg.measure.simulate", description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        found = run_studies(given.simulations, given.seed)
    except UserError as e:
        parser.error(str(e))
    write_json(given.out, found)
    write_atomic(given.out.with_suffix(".md"), markdown(found).encode())


if __name__ == "__main__":
    main()
