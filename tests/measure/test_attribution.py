"""Who contributed what: axioms of the Shapley value, brute force over orders, aliasing, bounds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from wg.errors import UserError
from wg.measure.attribution import (
    factorial_effects,
    leave_one_out_effects,
    shapley_interactions,
    shapley_values,
    whole_effect,
)
from wg.measure.contrast import Contrast, Contribution, Recipe, Results, evaluate
from wg.measure.design import fractional_factorial, full_factorial, leave_one_out

INF = math.inf
NAMES = ("a", "b", "c")


def _results(
    rows: tuple[Recipe, ...], log_time: Callable[[Recipe, int], float], seeds: int = 1
) -> Results:
    times = {r: {s: math.exp(log_time(r, s)) for s in range(seeds)} for r in rows}
    return Results(times, {r: dict.fromkeys(range(seeds), 1e9) for r in rows})


def _log(found: Contribution) -> float:
    assert found.factor is not None
    return math.log(found.factor)


def _random(rows: tuple[Recipe, ...], seeds: int, seed: int = 0) -> Results:
    rng = np.random.default_rng(seed)
    table = {(r, s): float(rng.normal(4, 0.5)) for r in rows for s in range(seeds)}
    return _results(rows, lambda r, s: table[r, s], seeds)


def test_leave_one_out_by_hand() -> None:
    times = {(): 100.0, ("a", "b"): 10.0, ("a",): 40.0, ("b",): 15.0}
    results = Results({frozenset(r): {0: t} for r, t in times.items()}, {})
    found = leave_one_out_effects(["a", "b"], results)
    assert found["a"].factor == pytest.approx(1.5)  # 15 / 10
    assert found["b"].factor == pytest.approx(4.0)
    assert whole_effect(["a", "b"], results).factor == pytest.approx(10.0)


def test_shapley_by_hand_of_two() -> None:
    """a gains 100/40 first and 15/10 last, b 100/15 and 40/10: geometric means of each."""
    times = {(): 100.0, ("a", "b"): 10.0, ("a",): 40.0, ("b",): 15.0}
    results = Results({frozenset(r): {0: t} for r, t in times.items()}, {})
    found = shapley_values(["a", "b"], results)
    assert found["a"].factor == pytest.approx(math.sqrt(2.5 * 1.5))
    assert found["b"].factor == pytest.approx(math.sqrt(100 / 15 * 4))
    pair = shapley_interactions(["a", "b"], results)["a:b"]
    assert pair.factor == pytest.approx((100 / 10) / (2.5 * 100 / 15))


def test_shapley_is_the_mean_over_all_orders_and_adds_up() -> None:
    names = ("a", "b", "c", "d")
    results = _random(full_factorial(names).rows, 2)
    found = shapley_values(names, results)
    for name in names:
        gains = []
        for order in itertools.permutations(names):
            before = frozenset(order[: order.index(name)])
            for s in (0, 1):
                gains.append(math.log(results.times[before][s] / results.times[before | {name}][s]))
        assert _log(found[name]) == pytest.approx(np.mean(gains))
    whole = whole_effect(names, results)
    assert sum(_log(c) for c in found.values()) == pytest.approx(_log(whole))
    for s in (0, 1):
        assert math.prod(c.seeds[s] for c in found.values()) == pytest.approx(whole.seeds[s])


def test_equal_players_share_alike_and_idle_ones_get_one() -> None:
    """a and b do the same job (either is worth log 3, both no more), c works alone, d idles."""

    def log_time(r: Recipe, s: int) -> float:
        return 5 - math.log(3) * bool(r & {"a", "b"}) - math.log(2) * ("c" in r)

    names = ("a", "b", "c", "d")
    results = _results(full_factorial(names).rows, log_time)
    found = shapley_values(names, results)
    assert found["a"].factor == pytest.approx(math.sqrt(3))
    assert found["b"].factor == pytest.approx(math.sqrt(3))
    assert found["c"].factor == pytest.approx(2.0)
    assert found["d"].factor == pytest.approx(1.0)
    alone = leave_one_out_effects(names, results)
    assert alone["a"].factor == pytest.approx(1.0)  # the whole loses nothing without one of them
    pairs = shapley_interactions(names, results)
    assert pairs["a:b"].factor == pytest.approx(1 / 3)
    assert all(p.factor == pytest.approx(1.0) for k, p in pairs.items() if k != "a:b")


def test_interaction_index_by_brute_force() -> None:
    """With three strategies: the mean of the pair's interaction without and with the third."""
    results = _random(full_factorial(NAMES).rows, 1)
    v = {r: -math.log(t[0]) for r, t in results.times.items()}
    found = shapley_interactions(NAMES, results)
    for i, j in itertools.combinations(NAMES, 2):
        parts = [
            v[s | {i, j}] - v[s | {i}] - v[s | {j}] + v[s]
            for s in (frozenset[str](), frozenset(set(NAMES) - {i, j}))
        ]
        assert _log(found[f"{i}:{j}"]) == pytest.approx(np.mean(parts))


def test_full_design_recovers_effects_and_pairs() -> None:
    """log time = 4 - a - 0.5 b + 0.3 ab/4-coded + seed; effects are exact, seeds cancel."""

    def log_time(r: Recipe, s: int) -> float:
        a, b = (1 if f in r else -1 for f in "ab")
        return 4 - 0.5 * a - 0.25 * b + 0.15 * a * b + 0.7 * s

    design = full_factorial(NAMES)
    found = factorial_effects(design, _results(design.rows, log_time, 3))
    logs = {k: _log(c) for k, c in found.contributions.items()}
    assert logs == {
        "a": pytest.approx(1.0), "b": pytest.approx(0.5), "c": pytest.approx(0, abs=1e-12),
        "a:b": pytest.approx(-0.3), "a:c": pytest.approx(0, abs=1e-12),
        "b:c": pytest.approx(0, abs=1e-12),
    }  # fmt: skip
    assert (found.rows, found.terms) == (8, 6)
    assert found.residual_sd == pytest.approx(0, abs=1e-9)


def test_least_squares_is_numpys() -> None:
    design = full_factorial(NAMES)
    results = _random(design.rows, 4)
    x = design.matrix()
    pairs = [x[:, i] * x[:, j] for i, j in itertools.combinations(range(3), 2)]
    model = np.stack([np.ones(8), *x.T, *pairs], axis=1)
    y = np.array([np.mean(np.log(list(results.times[r].values()))) for r in design.rows])
    beta, rest, *_ = np.linalg.lstsq(model, y)
    found = factorial_effects(design, results)
    mine = [_log(c) for c in found.contributions.values()]
    assert mine == pytest.approx(list(-2 * beta[1:]))
    assert found.residual_sd == pytest.approx(math.sqrt(rest[0]))  # 8 rows - 7 terms


def test_fraction_gives_the_sum_of_what_it_cannot_tell_apart() -> None:
    names = ("a", "b", "c", "d")
    design = fractional_factorial(names)
    sizes = {"a": 0.9, "b": 0.4, "c": 0.2, "d": 0.1}
    coded = {("a", "b"): 0.25, ("c", "d"): 0.05}

    def log_time(r: Recipe, s: int) -> float:
        x = {f: 1 if f in r else -1 for f in names}
        return 5 - sum(v / 2 * x[f] for f, v in sizes.items()) - sum(
            v / 2 * x[i] * x[j] for (i, j), v in coded.items()
        )  # fmt: skip

    found = factorial_effects(design, _results(design.rows, log_time)).contributions
    assert set(found) == {*names, "a:b", "a:c", "a:d"}
    for f, v in sizes.items():
        assert _log(found[f]) == pytest.approx(v)
        assert found[f].aliases == ()
    assert _log(found["a:b"]) == pytest.approx(0.3)
    assert {k: c.aliases for k, c in found.items() if ":" in k} == {
        "a:b": ("c:d",), "a:c": ("b:d",), "a:d": ("b:c",)
    }  # fmt: skip


@pytest.mark.parametrize(("k", "runs"), [(5, 8), (6, 16), (7, 16)])
def test_aliases_of_the_fit_are_those_of_the_design(k: int, runs: int) -> None:
    design = fractional_factorial(tuple("abcdefg")[:k], runs)
    assert len(design.rows) >= len(design.fraction)
    found = factorial_effects(design, _random(design.rows, 1)).contributions
    told = design.aliases()
    for name, effect in found.items():
        assert set(effect.aliases) == set(told[name])


def test_an_unbalanced_design_states_the_shares_of_its_aliases() -> None:
    """Leave-one-out of two has all four rows; of three it has 5 for 7 terms."""
    two = leave_one_out(["a", "b"])
    found = factorial_effects(two, _random(two.rows, 1)).contributions
    assert [c.aliases for c in found.values()] == [(), (), ()]
    three = leave_one_out(NAMES)
    fitted = factorial_effects(three, _random(three.rows, 1))
    assert len(fitted.contributions) == 4
    assert any(c.aliases for c in fitted.contributions.values())
    assert fitted.residual_sd is None


def test_intervals_are_over_seeds_and_pairing_cancels_them() -> None:
    rng = np.random.default_rng(1)
    noise = {(r, s): rng.normal(0, 0.01) for r in full_factorial(NAMES).rows for s in range(6)}

    def log_time(r: Recipe, s: int) -> float:
        return 4 + 3 * s - math.log(2) * ("a" in r) + noise[r, s]

    results = _results(full_factorial(NAMES).rows, log_time, 6)
    for method in ("t", "studentised"):
        a = shapley_values(NAMES, results, method=method)["a"]
        assert a.low is not None
        assert a.high is not None
        assert a.factor is not None
        assert 1.9 < a.low < a.factor < a.high < 2.1
        joint = shapley_values(NAMES, results, method=method, comparisons=3)["a"]
        assert joint.low is not None
        assert joint.low < a.low
    few = Results({r: {0: t[0], 1: t[1]} for r, t in results.times.items()}, {})
    assert shapley_values(NAMES, few)["a"].low is None


def test_misses_are_bounds_of_the_right_direction() -> None:
    rows = full_factorial(["a", "b"]).rows
    times = {r: {s: 50.0 + s for s in range(3)} for r in rows}
    times[frozenset()] = {0: INF, 1: 90.0, 2: 95.0}
    spent = {r: dict.fromkeys(range(3), 100.0) for r in rows}
    found = shapley_values(["a", "b"], Results(times, spent))
    for c in found.values():  # the baseline missed: each gains at least what its bound says
        assert (c.bound, c.high) == ("at least", None)
        assert c.low is not None
        assert c.seeds[0] == pytest.approx(math.sqrt(2))
    pair = shapley_interactions(["a", "b"], Results(times, spent))["a:b"]
    assert (pair.bound, pair.low) == ("at most", None)
    full = frozenset("ab")
    times[full] = {0: 20.0, 1: INF, 2: 20.0}
    for c in shapley_values(["a", "b"], Results(times, spent)).values():
        assert (c.bound, c.factor, c.low, c.high) == ("unknown", None, None, None)
        assert sorted(c.seeds) == [0, 1, 2]
    alone = leave_one_out_effects(["a", "b"], Results(times, spent))
    assert alone["a"].bound == "at most"  # only the full recipe missed
    assert factorial_effects(full_factorial(["a", "b"]), Results(times, spent)).residual_sd is None


def test_runs_that_diverged_or_cost_nothing_leave_nothing_known() -> None:
    rows = full_factorial(["a"]).rows
    spent = {r: {0: INF} for r in rows}
    for bad in (INF, 0.0):
        times = {frozenset[str](): {0: 10.0}, frozenset("a"): {0: bad}}
        c = evaluate([Contrast("x", {rows[0]: 1.0, rows[1]: -1.0})], Results(times, spent))["x"]
        assert (c.bound, c.factor, c.seeds) == ("unknown", None, {})


def test_only_shared_seeds_count_and_user_mistakes() -> None:
    times = {frozenset[str](): {0: 10.0, 1: 99.0}, frozenset("a"): {0: 5.0, 2: 1.0}}
    found = whole_effect(["a"], Results(times, {}))
    assert (found.factor, found.n) == (pytest.approx(2.0), 1)
    with pytest.raises(UserError, match=r"recipe \[a, b\]"):
        shapley_values(["a", "b"], Results({**times, frozenset("b"): {0: 1.0}}, {}))
    with pytest.raises(UserError, match="no seed in common"):
        whole_effect(["a"], Results({frozenset(): {0: 1.0}, frozenset("a"): {1: 1.0}}, {}))
