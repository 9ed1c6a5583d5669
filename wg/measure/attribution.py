"""Which strategy of a recipe contributed what, on the log of time to target.

Everything here is a contrast: a weighted sum over recipes of log time, taken seed by seed. So the
bounds that misses leave, and the intervals over seeds, are found in one place
(:func:`wg.measure.contrast.evaluate`) for leave-one-out, Shapley values, interactions and
least-squares effects alike. On the log scale contributions add up where factors multiply; each is
given back as a factor: 2 halves the time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wg.measure.bootstrap import Method
from wg.measure.contrast import Contrast, Contribution, Recipe, Results, evaluate
from wg.measure.design import Design, full_factorial, leave_one_out

_SAME = 1e-9


@dataclass(frozen=True)
class Effects:
    """``rows`` recipes were fitted with ``terms`` effects and a mean; ``contributions`` by name,
    each with the effects that it cannot be told from. ``residual_sd``: root mean square of what
    the fit leaves of the seeds' mean log times, over rows - terms - 1 degrees of freedom; None
    when there are none (or when a run missed)."""

    contributions: dict[str, Contribution]
    rows: int
    terms: int
    residual_sd: float | None


def leave_one_out_effects(
    factors: Sequence[str],
    results: Results,
    level: float = 0.95,
    method: Method = "t",
    comparisons: int = 1,
) -> dict[str, Contribution]:
    """Time of the full recipe without the strategy / time of the full recipe: what it adds to all
    the others. These need not multiply to the whole: where two do the same job, each adds little.

    Errors: as :func:`wg.measure.contrast.evaluate`.
    """
    names = leave_one_out(factors).factors
    whole = frozenset(names)
    contrasts = [Contrast(n, {whole - {n}: 1.0, whole: -1.0}) for n in names]
    return evaluate(contrasts, results, level, method, comparisons)


def whole_effect(
    factors: Sequence[str], results: Results, level: float = 0.95, method: Method = "t"
) -> Contribution:
    """Time of the empty recipe / time of the full one: what the Shapley values multiply to."""
    name = "all together"
    contrast = Contrast(name, {frozenset[str](): 1.0, frozenset(factors): -1.0})
    return evaluate([contrast], results, level, method)[name]


def shapley_values(
    factors: Sequence[str],
    results: Results,
    level: float = 0.95,
    method: Method = "t",
    comparisons: int = 1,
) -> dict[str, Contribution]:
    """Each strategy's mean contribution over all orders of adding the strategies (Shapley 1953),
    exactly, from all 2**k recipes. They multiply to the whole; strategies that act alike share
    alike; one that does nothing anywhere gets 1.

    Weight of the step from S to S with i: |S|! (k - |S| - 1)! / k!.

    Errors: as :func:`wg.measure.contrast.evaluate`, also when a recipe is missing.
    """
    design = full_factorial(factors)
    k = len(design.factors)
    contrasts = []
    for name in design.factors:
        weights: dict[Recipe, float] = {}
        for row in design.rows:
            if name not in row:
                s = len(row)
                w = math.factorial(s) * math.factorial(k - s - 1) / math.factorial(k)
                weights[row] = w
                weights[row | {name}] = -w
        contrasts.append(Contrast(name, weights))
    return evaluate(contrasts, results, level, method, comparisons)


def shapley_interactions(
    factors: Sequence[str],
    results: Results,
    level: float = 0.95,
    method: Method = "t",
    comparisons: int = 1,
) -> dict[str, Contribution]:
    """How much more each pair gains together than its two strategies gain apart, averaged over
    the presence of the others: the Shapley interaction index (Grabisch & Roubens 1999,
    International Journal of Game Theory 28, 547-565), weight |S|! (k - |S| - 2)! / (k - 1)!.

    Above 1: they help each other; below 1: they do the same job in part; 1: they multiply.
    """
    design = full_factorial(factors)
    k = len(design.factors)
    contrasts = []
    for a, b in itertools.combinations(design.factors, 2):
        weights: dict[Recipe, float] = {}
        for row in design.rows:
            if not {a, b} & row:
                s = len(row)
                w = math.factorial(s) * math.factorial(k - s - 2) / math.factorial(k - 1)
                weights |= {row: -w, row | {a}: w, row | {b}: w, row | {a, b}: -w}
        contrasts.append(Contrast(design.label(frozenset((a, b))), weights))
    return evaluate(contrasts, results, level, method, comparisons)


def factorial_effects(
    design: Design,
    results: Results,
    level: float = 0.95,
    method: Method = "t",
    comparisons: int = 1,
) -> Effects:
    """Least squares of log time on strategies (out -1, in +1) and their pairs, over the rows of
    the design's fraction.

    A strategy's effect is the factor that it gains, averaged (geometrically) over the design's
    recipes. A pair's is the usual two-factor interaction: half the log difference between what
    one strategy gains with and without the other. Products of three or more count as nothing.

    An effect whose column is a combination of columns before it (strategies first, then pairs in
    order) cannot be estimated: it is listed under ``aliases`` of each of those, with its share,
    and what is given is their sum.

    Errors: as :func:`wg.measure.contrast.evaluate`.
    """
    names, columns = _model(design)
    kept, fitted, aliases = _independent(names, columns)
    inverse = np.linalg.pinv(fitted)
    contrasts = [
        Contrast(
            name,
            {row: float(-2 * w) for row, w in zip(design.fraction, inverse[i], strict=True)},
            tuple(aliases[name]),
        )
        for i, name in enumerate(kept)
        if name  # the mean is no contribution
    ]
    found = evaluate(contrasts, results, level, method, comparisons)
    rest = len(design.fraction) - len(kept)
    residual = None
    if rest and all(c.bound == "exact" for c in found.values()):
        logs = results.mean_logs(design.fraction)
        left = logs - fitted @ (inverse @ logs)
        residual = math.sqrt(float(left @ left) / rest)
    return Effects(found, len(design.fraction), len(found), residual)


def _model(design: Design) -> tuple[list[str], np.ndarray]:
    """Names ('' for the mean) and columns (rows, terms) of mean, strategies and pairs."""
    x = design.matrix().astype(float)
    pairs = list(itertools.combinations(range(len(design.factors)), 2))
    names = ["", *design.factors]
    names += [design.label(frozenset((design.factors[i], design.factors[j]))) for i, j in pairs]
    columns = [np.ones(len(x)), *x.T, *(x[:, i] * x[:, j] for i, j in pairs)]
    return names, np.stack(columns, axis=1)


def _independent(
    names: list[str], columns: np.ndarray
) -> tuple[list[str], np.ndarray, dict[str, list[str]]]:
    """The columns that no earlier ones combine to, and what the others are aliased with."""
    kept, at = [names[0]], [0]
    aliases: dict[str, list[str]] = {names[0]: []}
    for j in range(1, len(names)):
        known = columns[:, at]
        share, *_ = np.linalg.lstsq(known, columns[:, j], rcond=None)
        if np.abs(columns[:, j] - known @ share).max() > _SAME:
            kept.append(names[j])
            at.append(j)
            aliases[names[j]] = []
            continue
        for name, part in zip(kept, share, strict=True):
            if abs(part) > _SAME:
                aliases[name].append(_shared(names[j], float(part)))
    return kept, columns[:, at], aliases


def _shared(name: str, part: float) -> str:
    if abs(abs(part) - 1) < _SAME:
        return name if part > 0 else f"-{name}"
    return f"{part:.3g} {name}"
