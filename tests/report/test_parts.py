"""Attribution on the page: designs found among arms, and factors known by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.report.known_sweeps import WriteRun, reaching
from tests.report.test_evidence import page_of, report
from wg.report.build import write_report

TIMES = "\N{MULTIPLICATION SIGN}"
GAIN = {"clip": 2.0, "ema": 1.5, "muon": 5.0}


def write_rows(
    write_run: WriteRun,
    sweep: Path,
    rows: Collection[Collection[str]],
    seconds: Mapping[frozenset[str], float] | None = None,
    seeds: int = 3,
    **how: Any,
) -> None:
    """Arms named by their strategies, which multiply; a seed changes every arm alike."""
    for row, seed in itertools.product(rows, range(seeds)):
        known = (seconds or {}).get(frozenset(row))
        time = 60 / math.prod(GAIN[s] for s in row) if known is None else known
        name = "+".join(sorted(row)) or "nvidia"
        curve = reaching(time * (1 + 0.1 * seed))
        write_run(sweep, name, seed, curve, strategies={s: {} for s in row}, samples=False, **how)


def factors(table: Mapping[str, Any]) -> dict[str, float]:
    return {name: c["factor"] for name, c in table.items()}


ALL = [r for n in range(4) for r in itertools.combinations(GAIN, n)]


def test_a_full_design(tmp_path: Path, write_run: WriteRun) -> None:
    write_rows(write_run, tmp_path / "s", ALL)
    a = report(tmp_path / "s")["evidence"]["attribution"]
    assert (a["kind"], a["recipes"], a["fixed"]) == ("full", 8, [])
    assert (a["empty_arm"], a["whole_arm"]) == ("nvidia", "clip+ema+muon")
    assert factors(a["tables"]["shapley"]) == pytest.approx(GAIN)
    assert factors(a["tables"]["leave_one_out"]) == pytest.approx(GAIN)
    assert list(factors(a["tables"]["interactions"]).values()) == pytest.approx([1, 1, 1])
    assert a["all_together"]["factor"] == pytest.approx(15)
    c = a["tables"]["shapley"]["clip"]
    assert (c["n"], c["bound"]) == (3, "exact")
    assert (c["low"], c["high"]) == pytest.approx((2, 2))  # seeds change all rows alike
    assert c["seeds"] == pytest.approx({"0": 2, "1": 2, "2": 2})
    page = page_of(tmp_path / "s")
    assert "Shapley" in page
    assert f"clip {TIMES} ema" in page


def test_strategies_that_share_a_job(tmp_path: Path, write_run: WriteRun) -> None:
    """60 s; clip alone 30, ema alone 30, both 24: shares sqrt(60/24), interaction 0.4 / 0.5^2."""
    times = {("clip",): 30.0, ("ema",): 30.0, ("clip", "ema"): 24.0}
    rows = [(), *times]
    write_rows(write_run, tmp_path / "s", rows, {frozenset(k): v for k, v in times.items()})
    tables = report(tmp_path / "s")["evidence"]["attribution"]["tables"]
    share = math.sqrt(2.5)
    assert factors(tables["shapley"]) == pytest.approx({"clip": share, "ema": share})
    assert factors(tables["leave_one_out"]) == pytest.approx({"clip": 1.25, "ema": 1.25})
    assert factors(tables["interactions"]) == pytest.approx({"clip:ema": 2.5 / 4})


def test_a_miss_leaves_a_bound(tmp_path: Path, write_run: WriteRun) -> None:
    """The empty recipe missed after 40 s: what the whole gains is at least 40 / 4 s."""
    write_rows(write_run, tmp_path / "s", [r for r in ALL if r])
    for seed in range(3):
        curve = [(0.0, 3.0), (10.0, 2.5), (20.0, 2.0), (40.0 * (1 + 0.1 * seed), 1.6)]
        write_run(tmp_path / "s", "nvidia", seed, curve, samples=False)
    a = report(tmp_path / "s")["evidence"]["attribution"]
    assert (a["all_together"]["bound"], a["all_together"]["factor"]) == (
        "at least", pytest.approx(10),
    )  # fmt: skip
    assert a["tables"]["shapley"]["muon"]["bound"] == "at least"
    assert a["tables"]["leave_one_out"]["muon"]["bound"] == "exact"
    assert f"≥ 10.0{TIMES}" in page_of(tmp_path / "s")


def test_a_fraction(tmp_path: Path, write_run: WriteRun) -> None:
    """muon = clip:ema in four rows; the empty recipe is not among them, and stays out."""
    rows = [("muon",), ("clip",), ("ema",), ("clip", "ema", "muon")]
    write_rows(write_run, tmp_path / "s", [(), *rows])
    a = report(tmp_path / "s")["evidence"]["attribution"]
    assert (a["kind"], a["recipes"], a["resolution"]) == ("fractional", 5, 3)
    assert factors(a["tables"]["effects"]) == pytest.approx(GAIN)
    aliases = {n: c["aliases"] for n, c in a["tables"]["effects"].items()}
    assert aliases == {"clip": ["ema:muon"], "ema": ["clip:muon"], "muon": ["clip:ema"]}
    assert a["tables"]["effect_pairs"] == {}
    assert f"or ema {TIMES} muon" in page_of(tmp_path / "s")


def test_all_but_one_around_a_recipe(tmp_path: Path, write_run: WriteRun) -> None:
    """Without the empty recipe of the same settings; the baseline has others."""
    rows = [tuple(GAIN), *itertools.combinations(GAIN, 2)]
    short = {"segment_length": 4000}
    write_rows(write_run, tmp_path / "s", rows, config=short)
    write_rows(write_run, tmp_path / "s", [()])
    a = report(tmp_path / "s")["evidence"]["attribution"]
    assert (a["kind"], a["empty_arm"], a["all_together"]) == ("leave-one-out", None, None)
    assert factors(a["tables"]["leave_one_out"]) == pytest.approx(GAIN)
    assert [name for name, table in a["tables"].items() if table] == ["leave_one_out"]


def test_a_strategy_in_every_row_is_no_factor(tmp_path: Path, write_run: WriteRun) -> None:
    rows = [("muon",), ("muon", "clip"), ("muon", "ema"), ("muon", "clip", "ema")]
    write_rows(write_run, tmp_path / "s", rows)
    a = report(tmp_path / "s", baseline="muon")["evidence"]["attribution"]
    assert (a["factors"], a["fixed"], a["kind"]) == (["clip", "ema"], ["muon"], "full")
    assert "in every one of them: muon" in page_of(tmp_path / "s")


def test_the_terminal_names_strategies(tmp_path: Path, write_run: WriteRun) -> None:
    """Brackets are no markup."""
    for arm in ("nvidia", "nvidia +[clip]", "nvidia +[ema]"):
        write_run(tmp_path / "s", arm, 0, reaching(10), samples=False)
    said: list[str] = []
    write_report(tmp_path / "s", tmp_path / "out", say=said.append)
    assert any("+[ema]" in text and "+[clip]" in text for text in said)


@pytest.mark.parametrize("how", ["settings", "hyperparameters", "rows"])
def test_arms_that_are_no_design(tmp_path: Path, write_run: WriteRun, how: str) -> None:
    """Two arms of four differ in more than their strategies; or there are too few of them."""
    folder, last = tmp_path / "s", ("clip", "ema")
    write_rows(write_run, folder, [(), ("clip",)])
    if how == "settings":
        write_rows(write_run, folder, [("ema",), last], config={"segment_length": 4000})
    elif how == "hyperparameters":
        write_rows(write_run, folder, [("ema",)])
        for seed in range(3):
            given = {"clip": {"norm": 7.0}, "ema": {}}
            write_run(folder, "both", seed, reaching(10), strategies=given, samples=False)
    r = report(folder)
    assert r["evidence"]["attribution"] is None
    assert "`wg sweep design --recipe" in r["evidence"]["how_to_attribute"]
    assert "wg sweep design" in page_of(folder)


def test_defaults_given_and_left_out_are_the_same(tmp_path: Path, write_run: WriteRun) -> None:
    from wg.strategies import all_strategies

    folder = tmp_path / "s"
    write_rows(write_run, folder, [(), ("clip",), ("ema",)])
    given = {"clip": all_strategies()["clip"].defaults(), "ema": {}}
    for seed in range(3):
        curve = reaching(20 * (1 + 0.1 * seed))
        write_run(folder, "both", seed, curve, strategies=given, samples=False)
    a = report(folder)["evidence"]["attribution"]
    assert factors(a["tables"]["shapley"]) == pytest.approx({"clip": 2, "ema": 1.5})
