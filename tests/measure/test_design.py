"""Designs: orthogonal columns, the resolution and aliases claimed, the published fractions."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from wg.errors import UserError
from wg.measure.design import Design, fractional_factorial, full_factorial, leave_one_out

NAMES = tuple("abcdefghij")
ALL = [(k, runs) for k in range(3, 11) for runs in (2**b for b in range(2, k)) if runs > k]


def _columns(design: Design, order: int) -> dict[str, np.ndarray]:
    x = design.matrix()
    return {
        design.label(frozenset(design.factors[i] for i in c)): np.prod(x[:, c], axis=1)
        for size in range(1, order + 1)
        for c in itertools.combinations(range(len(design.factors)), size)
    }


def test_full_design_has_every_subset_once() -> None:
    design = full_factorial(["bf16", "muon", "grow"])
    assert design.rows == tuple(
        map(frozenset, [(), ("bf16",), ("muon",), ("bf16", "muon"), ("grow",), ("bf16", "grow"),
                        ("muon", "grow"), ("bf16", "muon", "grow")])
    )  # fmt: skip
    assert (design.resolution, design.generators, design.words) == (None, (), ())
    assert all(twins == () for twins in design.aliases().values())
    x = np.stack(list(_columns(design, 3).values()))
    assert np.array_equal(x @ x.T, 8 * np.eye(7))


@pytest.mark.parametrize(("k", "runs"), ALL)
def test_fractions_are_what_they_say(k: int, runs: int) -> None:
    design = fractional_factorial(NAMES[:k], runs)
    x = design.matrix()
    assert len(design.fraction) == len(set(design.fraction)) == runs
    assert np.array_equal(x.T @ x, runs * np.eye(k))  # orthogonal, and each in half the rows
    assert (x.sum(axis=0) == 0).all()
    assert set(design.fraction) <= set(design.rows)
    assert {frozenset(), frozenset(NAMES[:k])} <= set(design.rows)
    assert len(set(design.rows)) == len(design.rows) <= runs + 1
    # Every claimed word is constant +1, and by counting there are no others.
    assert len(set(design.words)) == 2**k // runs - 1
    for word in design.words:
        assert (np.prod([x[:, NAMES.index(f)] for f in word], axis=0) == 1).all()
    shortest = min(
        size
        for size in range(1, k + 1)
        for c in itertools.combinations(range(k), size)
        if abs(np.prod(x[:, c], axis=1).sum()) == runs
    )
    assert design.resolution == shortest


@pytest.mark.parametrize(("k", "runs"), [(4, 8), (5, 8), (6, 16), (7, 16), (7, 32)])
def test_aliases_are_the_equal_columns(k: int, runs: int) -> None:
    design = fractional_factorial(NAMES[:k], runs)
    columns = _columns(design, 2)
    for effect, twins in design.aliases(2).items():
        equal = {e for e, c in columns.items() if e != effect and (c == columns[effect]).all()}
        assert set(twins) == equal


# Word counts of length 3, 4, 5, ... of the minimum aberration designs (Box, Hunter & Hunter,
# Statistics for Experimenters, 2nd ed., table 6.22; Wu & Hamada, Experiments, appendix 5A).
PUBLISHED = {
    (5, 8): {3: 2, 4: 1}, (5, 16): {5: 1}, (6, 8): {3: 4, 4: 3}, (6, 16): {4: 3},
    (6, 32): {6: 1}, (7, 8): {3: 7, 4: 7, 7: 1}, (7, 16): {4: 7}, (7, 32): {4: 1, 5: 2},
    (8, 16): {4: 14, 8: 1}, (8, 32): {4: 3, 5: 4}, (8, 64): {5: 2, 6: 1},
    (9, 32): {4: 6, 5: 8, 8: 1}, (9, 64): {4: 1, 5: 4, 6: 2}, (10, 32): {4: 10, 5: 16, 8: 5},
}  # fmt: skip


@pytest.mark.parametrize(("k", "runs"), PUBLISHED)
def test_fractions_are_the_published_ones(k: int, runs: int) -> None:
    words = fractional_factorial(NAMES[:k], runs).words
    assert Counter(map(len, words)) == PUBLISHED[k, runs]


def test_default_is_the_smallest_of_resolution_four() -> None:
    sizes = {k: len(fractional_factorial(NAMES[:k]).fraction) for k in range(1, 11)}
    assert sizes == {1: 2, 2: 4, 3: 8, 4: 8, 5: 16, 6: 16, 7: 16, 8: 16, 9: 32, 10: 32}
    for k in range(4, 11):
        found = fractional_factorial(NAMES[:k])
        assert found.resolution is not None
        assert found.resolution >= 4
        if sizes[k] // 2 > k:
            assert (fractional_factorial(NAMES[:k], sizes[k] // 2).resolution or 9) < 4


def test_generators_are_stated() -> None:
    design = fractional_factorial(["bf16", "muon", "grow", "crop"])
    assert design.generators == ("crop = bf16:muon:grow",)
    assert design.aliases()["bf16:muon"] == ("grow:crop",)
    assert design.aliases()["bf16"] == ()


def test_leave_one_out() -> None:
    design = leave_one_out(["a", "b", "c"])
    assert design.rows == tuple(map(frozenset, ["", "abc", "bc", "ac", "ab"]))
    assert leave_one_out(["a"]).rows == (frozenset(), frozenset("a"))
    assert len(leave_one_out(["a", "b"]).rows) == 4


def test_user_mistakes() -> None:
    with pytest.raises(UserError, match="at least one strategy"):
        full_factorial([])
    with pytest.raises(UserError, match="'a' is named twice"):
        leave_one_out(["a", "b", "a"])
    with pytest.raises(UserError, match="more than 10"):
        full_factorial([*NAMES, "k"])
    with pytest.raises(UserError, match="not a power of two"):
        fractional_factorial(NAMES[:5], 12)
    with pytest.raises(UserError, match="at least 8"):
        fractional_factorial(NAMES[:5], 4)
