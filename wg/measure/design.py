"""Which recipes to run to learn what each strategy of a recipe adds: two-level designs.

A factor is a strategy, in or out; a row is the set of strategies of one arm. The full design runs
all 2**k subsets (Shapley values need it); a regular fraction runs 2**(k - p) of them and pays by
aliasing: effects that it cannot tell apart; leave-one-out runs k + 2.

Every design has the empty recipe (the baseline) and the full one. Where a fraction lacks one of
them it is an extra row: it shows what the whole does, and stays out of the fits, whose columns it
would unbalance. Hyperparameters stay fixed; strategies that refuse each other cannot both be
factors of these designs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wg.errors import UserError

MOST_FACTORS = 10


@dataclass(frozen=True)
class Design:
    """rows       all recipes to run, as sets of strategies, without duplicates
    fraction   those of them that the fits use, in standard order: the first factor varies fastest
    generators such as 'd = a:b:c', a product with in = +1 and out = -1; empty without aliases
    words      the defining relation: every product of factors that is +1 in all rows
    resolution length of its shortest word; None where nothing is aliased. III: single effects are
               aliased with effects of pairs; IV: pairs with pairs; V: single effects and pairs
               are all apart. Not defined for leave-one-out
    """

    kind: Literal["full", "fractional", "leave-one-out"]
    factors: tuple[str, ...]
    rows: tuple[frozenset[str], ...]
    fraction: tuple[frozenset[str], ...]
    generators: tuple[str, ...] = ()
    words: tuple[frozenset[str], ...] = ()
    resolution: int | None = None

    def matrix(self) -> np.ndarray:
        """The fraction as +-1, (rows, factors)."""
        return np.array([[1 if f in row else -1 for f in self.factors] for row in self.fraction])

    def aliases(self, order: int = 2) -> dict[str, tuple[str, ...]]:
        """Each effect of up to ``order`` factors with those of up to ``order`` that a regular
        fraction cannot tell from it; effects that stand alone have an empty tuple."""
        effects = [
            frozenset(c)
            for size in range(1, order + 1)
            for c in itertools.combinations(self.factors, size)
        ]
        twins = {e: [e ^ w for w in self.words] for e in effects}
        return {
            self.label(e): tuple(self.label(t) for t in twins[e] if t in twins and t != e)
            for e in effects
        }

    def label(self, effect: frozenset[str]) -> str:
        return ":".join(f for f in self.factors if f in effect)


def full_factorial(factors: Sequence[str]) -> Design:
    """All 2**k subsets.

    Errors: UserError for no, more than 10, or repeated strategies.
    """
    names = _factors(factors)
    rows = _subsets(names)
    return Design("full", names, rows, rows)


def leave_one_out(factors: Sequence[str]) -> Design:
    """Nothing, everything, and everything but one: k + 2 recipes (k + 1 for one strategy). Says
    what each strategy adds to all others, and nothing of how they share it."""
    names = _factors(factors)
    whole = frozenset(names)
    rows = dict.fromkeys([frozenset(), whole, *(whole - {f} for f in names)])
    return Design("leave-one-out", names, tuple(rows), tuple(rows))


def fractional_factorial(factors: Sequence[str], runs: int | None = None) -> Design:
    """The regular fraction of ``runs`` = 2**(k - p) rows with the highest resolution, and of
    those the fewest shortest words (minimum aberration: Fries & Hunter 1980, Technometrics 22,
    601-608), found by search.

    runs: None for the smallest fraction of resolution IV or more (8 for 4 strategies, 16 for 5 to
    8, 32 for 9 and 10; 3 or fewer have none, and get all subsets).

    Errors: UserError for a number of runs that is no power of two or does not exceed the number of
    strategies.
    """
    names = _factors(factors)
    k = len(names)
    if runs is None:
        # 16 rows for 5: with 8 rows there are only resolution III designs (2k <= rows is needed)
        runs = 2**k if k <= 3 else 2 ** math.ceil(math.log2(2 * k))
    if runs < 2 or runs & (runs - 1):
        raise UserError(f"runs={runs} is not a power of two.")
    if runs >= 2**k:
        return full_factorial(names)
    if runs <= k:
        raise UserError(
            f"{runs} runs cannot tell {k} strategies apart: give at least {2 ** k.bit_length()}."
        )
    base = runs.bit_length() - 1
    columns = _best_generators(base, k - base)
    fraction = []
    for row in _subsets(names[:base]):
        level = [name in row for name in names[:base]]
        more = {names[base + i] for i, c in enumerate(columns) if _product(level, c)}
        fraction.append(frozenset(row | more))
    words = []
    for size in range(1, len(columns) + 1):
        for chosen in itertools.combinations(range(len(columns)), size):
            mask = 0
            for i in chosen:
                mask ^= columns[i] | 1 << (base + i)
            words.append(frozenset(names[b] for b in range(k) if mask >> b & 1))
    words.sort(key=lambda w: (len(w), sorted(names.index(f) for f in w)))
    generators = tuple(
        f"{names[base + i]} = " + ":".join(names[b] for b in range(base) if c >> b & 1)
        for i, c in enumerate(columns)
    )
    rows = dict.fromkeys([frozenset[str](), *fraction, frozenset(names)])
    return Design(
        "fractional", names, tuple(rows), tuple(fraction), generators, tuple(words), len(words[0])
    )


def _product(level: list[bool], column: int) -> bool:
    """Whether the product of the column's factors is +1: an even number of them is out."""
    return sum(not level[b] for b in range(len(level)) if column >> b & 1) % 2 == 0


def _best_generators(base: int, p: int) -> tuple[int, ...]:
    """p products of two or more of ``base`` factors (as bit masks) with minimum aberration.

    A word is a generator times its new factor, or a product of such; its length is the number of
    its letters. Depth first, giving up where a word is already shorter than the best design's
    shortest, or where it has more of those.
    """
    candidates = sorted(
        (c for c in range(2**base) if c.bit_count() >= 2), key=lambda c: (-c.bit_count(), c)
    )
    size = base + p + 1
    best: list[tuple[tuple[int, ...], tuple[int, ...]]] = []  # word length pattern, generators

    def grow(chosen: tuple[int, ...], words: list[int], pattern: list[int], start: int) -> None:
        if best and tuple(pattern) >= best[0][0]:
            return  # more words only make the pattern worse
        if len(chosen) == p:
            best[:] = [(tuple(pattern), chosen)]
            return
        for at in range(start, len(candidates) - (p - len(chosen)) + 1):
            new = candidates[at] | 1 << (base + len(chosen))
            added = [new, *(w ^ new for w in words)]
            counts = pattern.copy()
            for w in added:
                counts[w.bit_count()] += 1
            grow((*chosen, candidates[at]), words + added, counts, at + 1)

    grow((), [], [0] * (size + 1), 0)
    return best[0][1]


def _subsets(names: tuple[str, ...]) -> tuple[frozenset[str], ...]:
    """All subsets in standard order: the first name varies fastest."""
    return tuple(
        frozenset(n for b, n in enumerate(names) if i >> b & 1) for i in range(2 ** len(names))
    )


def _factors(factors: Sequence[str]) -> tuple[str, ...]:
    names = tuple(factors)
    if not names:
        raise UserError("a design needs at least one strategy.")
    if len(names) > MOST_FACTORS:
        raise UserError(
            f"{len(names)} strategies are more than {MOST_FACTORS}: let those that belong "
            "together enter as one."
        )
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise UserError(f"strategy '{twice[0]}' is named twice in the design.")
    return names
