"""The studies: what they must find, that they are determined by their seed, and their tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wg.measure import coverage, coverage_survival
from wg.measure.coverage import SCENARIOS, holm_rejects
from wg.measure.power import power
from wg.measure.significance import holm
from wg.measure.simulate import main, markdown, run_studies


def test_arms_have_the_spread_correlation_and_mean_that_they_claim() -> None:
    for scenario in SCENARIOS:
        x = scenario.draw(np.random.default_rng(0), 60_000, 1, 1, 0.15)[:, :, 0]
        assert x.mean(axis=0) == pytest.approx([0, 0], abs=0.005)
        if scenario.stragglers or np.isfinite(scenario.tails):
            continue
        assert x.std(axis=0) == pytest.approx([0.15, 0.15], rel=0.02)
        assert np.corrcoef(x.T)[0, 1] == pytest.approx(scenario.correlation, abs=0.02)


def test_holm_of_many_rows_is_holm() -> None:
    p = np.random.default_rng(1).beta(0.3, 3, (300, 5))
    for row, found in zip(p, holm_rejects(p), strict=True):
        one = holm({str(i): float(v) for i, v in enumerate(row)})
        assert found.tolist() == [one[str(i)].rejected for i in range(5)]


def test_the_t_interval_covers_at_every_n_and_the_percentile_does_not_at_three() -> None:
    rows = {
        (r["scenario"], r["sd"], r["n"], r["method"]): r["coverage"]
        for r in coverage.interval_coverage(1000, 7)
    }
    for sd in coverage.SPREADS:
        for scenario in SCENARIOS[:4]:
            for n in coverage.SEEDS:
                assert 0.92 <= rows[scenario.name, sd, n, "t"] <= 0.98
            for n in (5, 8):
                assert 0.90 <= rows[scenario.name, sd, n, "studentised"] <= 0.99
            for method in ("bca", "percentile"):
                assert rows[scenario.name, sd, 3, method] < 0.8
    # Rare stragglers, far outside the spread of the others: no interval covers.
    assert rows[SCENARIOS[4].name, 0.15, 8, "t"] < 0.9


def test_null_wins_are_at_the_nominal_rate_and_power_is_as_computed() -> None:
    rows = [r for r in coverage.wins(4000, 7) if r["scenario"] == SCENARIOS[0].name]
    for r in rows:
        if r["rule"] in ("t with Holm", "sign-flip with Holm"):
            assert r["false_win"] <= 0.062
        if r["rule"] == "t" and r["arms"] == 1:
            assert r["false_win"] == pytest.approx(0.05, abs=0.011)
        if r["rule"].startswith("sign-flip") and r["n"] == 3:
            assert r["false_win"] == 0
        if r["rule"] == "t" and r["better"]:
            # Both arms have correlation 0.5, so the log factor's spread is that of one arm.
            assert r["found"] == pytest.approx(power(r["n"], np.log(1.2), r["sd"]), abs=0.02)
    naive = next(r for r in rows if r["rule"] == "t" and (r["arms"], r["n"]) == (8, 3))
    assert naive["false_win"] > 0.2


def test_bounds_and_winners_and_quality() -> None:
    assert all(r["low_limit_holds"] >= 0.965 for r in coverage.bounded_coverage(2000, 7))
    for r in coverage.winner_coverage(4000, 7):
        assert r["own"] < 0.95
        assert r["joint"] >= 0.97
    exact = [r for r in coverage.quality_claims(4000, 7) if r["target"] == "exact"]
    assert all(r["t"] == pytest.approx(0.05, abs=0.011) for r in exact)


def test_the_command_writes_both_files_and_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "SCENARIOS", SCENARIOS[:4])
    monkeypatch.setattr(coverage_survival, "BUDGETS", coverage_survival.BUDGETS[:1])
    out = tmp_path / "new" / "coverage.json"
    main(["-o", str(out), "--simulations", "120", "--seed", "3"])
    found = json.loads(out.read_text())
    assert found["command"].endswith("--simulations 120 --seed 3")
    assert found["versions"]["numpy"] == np.__version__
    assert found == run_studies(120, 3)
    text = out.with_suffix(".md").read_text()
    assert text == markdown(found)
    assert f"| {SCENARIOS[0].name} | t |" in text
    for heading in ("censored at the budget", "contributes", "Paired ratio", "Normalised time"):
        assert heading in text


def test_too_few_simulations_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["-o", str(tmp_path / "x.json"), "--simulations", "10"])
    assert stop.value.code == 2
    assert "at least 100" in capsys.readouterr().err
