"""``wg sweep seeds``: n and power against scipy by hand, earlier studies, and users' mistakes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scipy.stats import chi2, nct, t

from wg.cli import cli, main
from wg.report.seeds import Spread, Wanted, spreads


def said(*options: str) -> str:
    found = CliRunner().invoke(cli, ["sweep", "seeds", *options])
    assert found.exit_code == 0, found.exception
    return found.output


def half(n: int, sd: float, tail: float, assurance: float) -> float:
    spread = sd * math.sqrt(chi2.ppf(assurance, n - 1) / (n - 1))
    return float(t.ppf(1 - tail, n - 1) * spread / math.sqrt(n))


@pytest.mark.parametrize(
    ("factor", "sd", "arms", "assurance"),
    [(1.5, 0.25, 1, 0.5), (1.25, 0.25, 8, 0.5), (1.1, 0.15, 1, 0.8), (1.3, 0.6, 4, 0.9)],
)
def test_it_is_the_first_n_whose_interval_is_that_narrow(
    factor: float, sd: float, arms: int, assurance: float
) -> None:
    n = Wanted(factor, arms, assurance).seeds(sd)
    tail = 0.025 / arms
    assert half(n, sd, tail, assurance) <= math.log(factor)
    assert half(n - 1, sd, tail, assurance) > math.log(factor)


def test_four_seeds_by_hand() -> None:
    """t 3.1824 and the median 2.3660 of chi-squared at 3 degrees of freedom: 0.353, and with three
    seeds 0.517, around log 1.5 = 0.405."""
    assert 3.1824 * 0.25 * math.sqrt(2.3660 / 3 / 4) == pytest.approx(0.353, abs=1e-3)
    found = said("--within", "1.5", "--sd", "0.25")
    assert found.startswith("4 seeds: the 95% t-interval")
    chance = nct.sf(t.ppf(0.95, 3), 3, math.log(1.5) * 2 / 0.25)
    assert f"Power: {chance:.0%}" in found
    assert "an sd of 0.25" in found


def test_arms_widen_and_never_fewer_than_an_interval_takes() -> None:
    assert "jointly over 8 arms" in said("--within", "1.5", "--sd", "0.25", "--arms", "8")
    assert said("--within", "9", "--sd", "0.01").startswith("3 seeds")


def arm(name: str, factors: list[float], missed: tuple[int, ...] = ()) -> dict[str, Any]:
    """``missed``: seeds; their factors are bounds."""
    pairs = {str(s): f for s, f in enumerate(factors)}
    seconds = {s: None if int(s) in missed else 1 / f for s, f in pairs.items()}
    return {"arm": name, "is_baseline": False, "time_to_target": {"seconds": seconds},
            "speed_up": {"n": len(pairs), "pairs": pairs}}  # fmt: skip


def study(path: Path, *arms: dict[str, Any], missed: tuple[int, ...] = ()) -> Path:
    seconds = {str(s): None if s in missed else 1.0 for s in range(9)}
    baseline = {"arm": "nvidia", "is_baseline": True, "speed_up": None,
                "time_to_target": {"seconds": seconds}}  # fmt: skip
    path.write_text(json.dumps({"arms": [baseline, *arms]}))
    return path


def test_the_spread_of_an_earlier_study(tmp_path: Path) -> None:
    factors = [math.e, math.e**2, math.e**3]  # logs 1, 2, 3
    path = study(tmp_path / "results.json", arm("fast", factors), arm("lost", factors, (0, 2)),
                 arm("once", [2.0]), arm("same", [2.0, 2.0]))  # fmt: skip
    assert spreads(path) == {"fast": Spread(pytest.approx(1.0), 3, 0)}
    assert spreads(tmp_path) == spreads(path)
    found = said("--within", "3", "--from", str(tmp_path), "--arms", "2")
    row = next(line.split() for line in found.splitlines() if line.startswith("fast"))
    upper = math.sqrt(2 / chi2.ppf(0.2, 2))
    wanted = Wanted(3.0, 2, 0.5)
    n, most = wanted.seeds(1.0), wanted.seeds(upper)
    assert row[1:6] == ["3", "0", "1.000", str(n), f"{wanted.power(n, 1.0):.0%}"]
    assert row[6:8] == [f"{upper:.3f}", str(most)]
    assert "lost" not in found
    assert "upper 80% limit" in found
    assert "left out" not in found


def test_pairs_with_a_miss_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    """Seed 0 of the baseline missed, and seed 4 of the arm; logs 1, 2 and 3 are left."""
    factors = [99.0, math.e, math.e**2, math.e**3, 0.01]
    path = study(tmp_path / "x.json", arm("fast", factors, (4,)), missed=(0,))
    assert spreads(path) == {"fast": Spread(pytest.approx(1.0), 3, 2)}
    assert "left out: the true sd is rather larger" in said("--within", "3", "--from", str(path))


def test_more_seeds_than_anybody_trains(tmp_path: Path) -> None:
    study(tmp_path / "results.json", arm("fast", [1.0, 3.0, 9.0]))
    assert "> 10,000" in said("--within", "1.001", "--from", str(tmp_path))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--within", "1.5"], "by --sd"),
        (["--within", "1.5", "--sd", "0.2", "--from", "study"], "by --sd"),
        (["--sd", "0.2"], "--within"),
        (["--within", "0.8", "--sd", "0.2"], "above 1"),
        (["--within", "nan", "--sd", "0.2"], "above 1"),
        (["--within", "1.5", "--sd", "0"], "sd=0"),
        (["--within", "1.5", "--sd", "nan"], "sd=nan"),
        (["--within", "1.5", "--sd", "0.2", "--arms", "0"], "--arms"),
        (["--within", "1.5", "--sd", "0.2", "--assurance", "1"], "between 0 and 1"),
        (["--within", "1.0001", "--sd", "2"], "more than 10,000 seeds"),
        (["--within", "1.5", "--from", "nowhere"], "nowhere does not exist"),
        (["--within", "1.5", "--from", "text"], "not valid JSON"),
        (["--within", "1.5", "--from", "list"], "no results.json"),
        (["--within", "1.5", "--from", "other"], "no results.json"),
        (["--within", "1.5", "--from", "study"], "no arm with two pairs"),
    ],
)
def test_mistakes(
    options: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence and exit code 2, through the command's own entry point."""
    (tmp_path / "text").write_text("no json")
    (tmp_path / "list").write_text("[1, 2]")
    (tmp_path / "other").write_text('{"arms": [{"arm": "a"}]}')
    study(tmp_path / "study", arm("once", [2.0]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["wg", "sweep", "seeds", *options])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == ""
    assert sentence in err
    assert len([line for line in err.splitlines() if line.startswith("wg: ")]) == 1
