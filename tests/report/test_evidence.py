"""What the page says about how sure it is, on sweeps whose numbers are known by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.report.known_sweeps import MISSING_IT, TARGET, WriteRun, falling, reaching
from wg.measure.bootstrap import interval_limits
from wg.report.build import write_report
from wg.report.words import number


def report(sweep: Path, **how: Any) -> dict[str, Any]:
    page = write_report(sweep, sweep.parent / "out", say=lambda _: None, **how)
    found: dict[str, Any] = json.loads((page.parent / "results.json").read_text())
    return found


def page_of(sweep: Path) -> str:
    return (sweep.parent / "out" / "index.html").read_text()


PAIRS = np.log([2.0, 2.1, 2.2])  # of `fast` in the fixture


def test_p_of_sooner(sweep: Path) -> None:
    """Two arms: nothing to correct for, and the headline has the interval as it is."""
    r = report(sweep)
    sooner = r["evidence"]["sooner"]
    (row,) = sooner["arms"].values()
    expected = stats.ttest_1samp(PAIRS, 0, alternative="greater").pvalue
    assert row["t"] == pytest.approx(expected)
    assert row["t_holm"] == pytest.approx(expected)
    assert (row["sign_flip"], row["floor"], row["n"]) == (0.125, 0.125, 3)
    assert row["shown"] is True
    assert row["bootstrap"] is None
    assert "1/2^3 = 0.125" in sooner["words"]
    assert "5 seeds could" in sooner["words"]
    assert r["headline"]["joint_over_arms"] is None
    assert r["headline"]["speed_up"]["low"] == pytest.approx(_interval(PAIRS, 0.05)[0])
    assert "jointly" not in r["headline"]["sentence"]


def _interval(logs: np.ndarray, alpha: float) -> tuple[float, float]:
    half = stats.t.ppf(1 - alpha / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))


def test_with_several_arms_the_headline_is_joint(sweep: Path, write_run: WriteRun) -> None:
    for seed, step in ((0, 9.0), (1, 22.0), (2, 10.5)):
        write_run(sweep, "same", seed, falling(step))
    r = report(sweep)
    rows = r["evidence"]["sooner"]["arms"]
    best = stats.ttest_1samp(PAIRS, 0, alternative="greater").pvalue
    other = stats.ttest_1samp(np.log([10 / 9, 20 / 22, 10 / 10.5]), 0, alternative="greater").pvalue
    assert rows["fast"]["t_holm"] == pytest.approx(2 * best)
    assert rows["same"]["t_holm"] == pytest.approx(other)
    assert (rows["fast"]["shown"], rows["same"]["shown"]) == (True, False)
    assert rows["fast"]["sign_flip_holm"] == 0.25
    low, high = _interval(PAIRS, 0.05 / 2)
    speed = r["headline"]["speed_up"]
    assert (speed["low"], speed["high"]) == pytest.approx((low, high))
    assert f"95% interval {low:.2f} to {high:.2f}, jointly" in r["headline"]["sentence"]
    assert "all 2 arms" in r["headline"]["sentence"]
    assert "6 seeds and 2 arms could" in r["evidence"]["sooner"]["words"]
    table = (sweep.parent / "out" / "table.md").read_text()
    assert f"fast {2 * best:.2g}" in table
    assert "1/2^3" in table


def test_enough_seeds_for_a_sign_flip(tmp_path: Path, write_run: WriteRun) -> None:
    for seed in range(5):
        write_run(tmp_path / "s", "nvidia", seed, falling(10))
        write_run(tmp_path / "s", "fast", seed, falling(5 + seed / 10))
    sooner = report(tmp_path / "s")["evidence"]["sooner"]
    assert sooner["arms"]["fast"]["sign_flip"] == 1 / 32
    assert "cannot reach" not in sooner["words"]
    # Five pairs bear a bootstrap too: around the same middle, wider than Student's t.
    logs = np.log([10 / (5 + seed / 10) for seed in range(5)])
    low, high = np.exp(interval_limits(logs))
    found = sooner["arms"]["fast"]["bootstrap"]
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    t_low, t_high = _interval(logs, 0.05)
    assert low < t_low < np.exp(logs.mean()) < t_high < high
    assert f"bootstrap {number(low)} to {number(high)}" in page_of(tmp_path / "s")


def test_two_seeds_show_nothing(tmp_path: Path, write_run: WriteRun) -> None:
    """Two nearly equal factors give a small p by t; it is no claim, as their range is none."""
    for seed in range(2):
        write_run(tmp_path / "s", "nvidia", seed, MISSING_IT)
        write_run(tmp_path / "s", "fast", seed, falling(1 + seed / 100))
    r = report(tmp_path / "s")
    row = r["evidence"]["sooner"]["arms"]["fast"]
    assert row["t"] < 0.01
    assert row["shown"] is False
    assert "2 shared seeds show nothing" in r["evidence"]["sooner"]["words"]
    assert "too few seeds" in r["headline"]["sentence"]


def test_a_run_that_diverged_has_no_bound(sweep: Path, write_run: WriteRun) -> None:
    """Its spent seconds would be a bound like any miss's; nothing may rest on them."""
    for seed in range(2):
        write_run(sweep, "bad", seed, falling(1))
    write_run(sweep, "bad", 2, falling(1), status="failed", reason="diverged: the loss is nan")
    e = report(sweep)["evidence"]
    assert (e["sooner"]["arms"]["bad"]["t"], e["sooner"]["arms"]["bad"]["shown"]) == (1.0, False)
    curve = e["survival"]["arms"]["bad"]
    assert [s["reached"] for s in curve["steps"]] == pytest.approx([0, 2 / 3])
    assert curve["horizon"] is None  # known for good
    assert curve["censored"] == [None]
    # tau is the last event, nvidia's 50 s: (2.5 + 2.5 + 50) / 3
    assert e["survival"]["tau"] == pytest.approx(50)
    assert curve["restricted_mean"]["seconds"] == pytest.approx(55 / 3)
    assert e["good_enough"]["arms"]["bad"]["conditions"][0]["why"] == "a run diverged"
    assert "never arriving" in page_of(sweep)


def test_share_of_runs_and_restricted_means(sweep: Path, write_run: WriteRun) -> None:
    """nvidia at 25, 50 and 25 s; slow at 30 s, and a run given up at 40 s."""
    write_run(sweep, "slow", 0, MISSING_IT)
    write_run(sweep, "slow", 1, falling(12))
    s = report(sweep)["evidence"]["survival"]
    nvidia, slow = s["arms"]["nvidia"], s["arms"]["slow"]
    assert [(p["time"], p["reached"], p["at_risk"]) for p in nvidia["steps"]] == [
        (0, 0, 3), (pytest.approx(25), pytest.approx(2 / 3), 3), (50, pytest.approx(1), 1),
    ]  # fmt: skip
    assert [p["reached"] for p in slow["steps"]] == [0, 0.5]
    assert (slow["censored"], slow["horizon"]) == ([40], 40)
    assert s["tau"] == 40  # slow is not known for longer
    times = np.array([25, 40, 25])
    mean = nvidia["restricted_mean"]
    assert mean["seconds"] == pytest.approx(30)
    assert mean["standard_error"] == pytest.approx(times.std(ddof=1) / math.sqrt(3))
    assert slow["restricted_mean"]["seconds"] == pytest.approx((30 + 40) / 2)
    assert slow["ratio"]["ratio"] == pytest.approx(30 / 35)
    assert s["arms"]["fast"]["ratio"] is None  # neither it nor the baseline missed
    assert nvidia["ratio"] is None
    # Clopper and Pearson's limits of 2 of 3
    step = nvidia["steps"][1]
    assert step["low"] == pytest.approx(stats.beta.ppf(0.025, 2, 2))
    assert step["high"] == pytest.approx(stats.beta.ppf(0.975, 3, 1))
    page = page_of(sweep)
    assert 'id="survival"' in page
    assert "ratio to nvidia" in page


def test_two_arms_that_never_arrive_have_no_ratio(tmp_path: Path, write_run: WriteRun) -> None:
    for arm in ("nvidia", "fast"):
        write_run(tmp_path / "s", arm, 0, MISSING_IT)
    e = report(tmp_path / "s")["evidence"]
    assert e["survival"]["arms"]["fast"]["ratio"] is None
    assert e["seeds_needed"] is None


def test_one_run_an_arm_has_no_curve(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "s", "nvidia", 0, falling(10))
    write_run(tmp_path / "s", "fast", 0, falling(5))
    e = report(tmp_path / "s")["evidence"]
    assert (e["survival"], e["seeds_needed"]) == (None, None)
    assert "One shared seed shows nothing" in e["sooner"]["words"]
    assert 'id="reached"' not in page_of(tmp_path / "s")


def test_quality_at_the_end_of_the_budget(tmp_path: Path, write_run: WriteRun) -> None:
    """Two conditions: the target is shown to be met as surely as the less sure of them."""
    target = {"name": "two", "conditions": {"log_mel_l1": 1.0, "nats_per_sample": -3.5}}
    ends = {"nvidia": (0.95, 1.05, 0.97), "fast": (0.3, 0.35, 0.4)}
    for arm, values in ends.items():
        for seed, last in enumerate(values):
            write_run(tmp_path / "s", arm, seed, reaching(10, last), target=target)
    found = report(tmp_path / "s")["evidence"]["good_enough"]["arms"]
    fast, nvidia = found["fast"], found["nvidia"]
    mel, nats = fast["conditions"]
    values = np.array(ends["fast"])
    p_mel = stats.ttest_1samp(1.0 - values, 0, alternative="greater").pvalue
    p_nats = stats.ttest_1samp(-3.5 - (values - 4), 0, alternative="greater").pvalue
    assert (mel["p"], nats["p"]) == pytest.approx((p_mel, p_nats))
    assert p_nats > p_mel
    assert (mel["mean"], mel["met"], mel["n"]) == (pytest.approx(0.35), 3, 3)
    assert fast["p"] == pytest.approx(p_nats)
    assert fast["p_holm"] == pytest.approx(2 * p_nats)
    assert (fast["shown"], nvidia["shown"]) == (True, False)
    assert nvidia["conditions"][0]["met"] == 2
    assert nvidia["conditions"][0]["why"] is None
    assert "8% (3 seeds) to 16% (8 seeds)" in page_of(tmp_path / "s")


def test_how_many_seeds(sweep: Path) -> None:
    """By search over the noncentral t, and the chi-squared's limit of a spread from 3 pairs."""
    needed = report(sweep)["evidence"]["seeds_needed"]
    row = needed["arms"]["fast"]
    sd = float(PAIRS.std(ddof=1))
    upper = sd * math.sqrt(2 / stats.chi2.ppf(0.2, 2))
    assert (row["sd"], row["sd_upper"], row["pairs"]) == (
        pytest.approx(sd), pytest.approx(upper), 3,
    )  # fmt: skip

    def fewest(effect: float, spread: float) -> int:
        def chance(n: int) -> float:
            far = effect * math.sqrt(n) / spread
            return float(stats.nct.sf(stats.t.isf(0.05, n - 1), n - 1, far))

        return next(n for n in range(2, 1000) if chance(n) >= 0.8)

    assert row["for_speed_up"]["1.1"] == [fewest(math.log(1.1), s) for s in (sd, upper)]
    assert row["for_half_width"]["1.1"][0] <= row["for_half_width"]["1.1"][1]
    assert list(row["for_half_width"]) == ["1.1", "1.25"]
    assert list(row["for_speed_up"]) == ["1.1", "1.25", "2"]
    assert 'id="seeds-needed"' in page_of(sweep)


def test_profile_over_targets(sweep: Path) -> None:
    """The second target is half-way between the second and the third point: every time becomes
    15/25 of what it was, so `fast` is first in all six problems, nvidia 2 to 2.2 times off."""
    assert report(sweep)["evidence"]["profile"] is None
    early = {"name": "early", "conditions": {"log_mel_l1": 1.75}}
    r = report(sweep, target=TARGET, more_targets=[early])
    assert r["target"]["name"] == "t1"
    assert [t["name"] for t in r["other_targets"]] == ["early"]
    profile = r["evidence"]["profile"]
    assert (profile["problems"], profile["seeds"]) == (6, [0, 1, 2])
    assert profile["arms"]["fast"]["best"] == 1
    assert profile["arms"]["fast"]["area"] == pytest.approx(1)
    nvidia = profile["arms"]["nvidia"]
    assert (nvidia["best"], nvidia["solved"]) == (0, 1)
    assert sorted(nvidia["ratios"].values()) == pytest.approx([2, 2, 2.1, 2.1, 2.2, 2.2])
    assert nvidia["area"] == pytest.approx(1 - float(PAIRS.mean()) / math.log(4))
    assert 'id="profiles"' in page_of(sweep)


def test_without_a_target_there_is_no_evidence(tmp_path: Path, write_run: WriteRun) -> None:
    none = {"name": "none", "conditions": {}}
    for arm in ("nvidia", "fast"):
        write_run(tmp_path / "s", arm, 0, falling(10), target=none)
    r = report(tmp_path / "s")
    assert r["evidence"] is None
    assert [d["division"] for d in r["divisions"]] == ["system"]
    for name in ("sure", "reached", "attribution", "seeds-needed"):
        assert f'<section id="{name}">' not in page_of(tmp_path / "s")


def test_divisions(sweep: Path, write_run: WriteRun) -> None:
    """By the most far-reaching strategy; a setting of training counts as an algorithm."""
    for seed in range(3):
        write_run(sweep, "slow", seed, falling(30))  # changes the model
        write_run(sweep, "short", seed, falling(2), config={"segment_length": 4000})
        write_run(sweep, "deep", seed, falling(40), config={"model": {"n_flows": 12}})
        write_run(sweep, "warm", seed, falling(8), donor=5.0)
    r = report(sweep)
    assert {a["arm"]: a["division"] for a in r["arms"]} == {
        "nvidia": "system", "fast": "system", "short": "algorithm", "slow": "model",
        "deep": "model", "warm": "warm-started",
    }  # fmt: skip
    assert {d["division"]: d["best"] for d in r["divisions"]} == {
        "system": "fast", "algorithm": "short", "model": "slow", "warm-started": "warm",
    }  # fmt: skip
    sentence = r["headline"]["sentence"]
    assert r["winner"]["arm"] == "short"
    assert "Across divisions: `short` is algorithm" in sentence
    table = (sweep.parent / "out" / "table.md").read_text()
    assert "| warm (warm-started) |" in table
    assert "| nvidia (system, baseline) |" in table
    page = page_of(sweep)
    assert 'id="divisions"' in page
    assert "; across divisions" in page


def test_other_data_are_another_training(tmp_path: Path, write_run: WriteRun) -> None:
    """Where a corpus lies, or a setting that only one version of the code has, is no difference."""
    mine, theirs = {"path": "a", "silence_db": None}, {"path": "b", "silence_db": None, "new": 1}
    loud = {"path": "a", "silence_db": -60.0}
    for arm, data in (("nvidia", mine), ("moved", theirs), ("loud", loud)):
        for seed in range(2):
            write_run(tmp_path / "s", arm, seed, falling(10), config={"data": data})
    found = {a["arm"]: a["division"] for a in report(tmp_path / "s")["arms"]}
    assert found == {"nvidia": "system", "moved": "system", "loud": "algorithm"}


def test_the_rows_of_a_recipe_are_no_plain_training(tmp_path: Path, write_run: WriteRun) -> None:
    """Without the published recipe beside it, a shorter segment is still another training."""
    short = {"segment_length": 4000}
    for seed in range(2):
        for arm in ("parts", "fast"):
            write_run(tmp_path / "s", arm, seed, falling(10), config=short)
    r = report(tmp_path / "s", baseline="parts")
    assert {a["division"] for a in r["arms"]} == {"algorithm"}
    assert "plain WaveGlow training" not in page_of(tmp_path / "s")


def test_within_a_division_nothing_is_added(sweep: Path) -> None:
    assert "Across divisions" not in report(sweep)["headline"]["sentence"]
    assert 'id="divisions"' not in page_of(sweep)


def test_a_bound_that_chance_may_explain_says_so(sweep: Path, write_run: WriteRun) -> None:
    """The baseline always missed, and the arm's times lie so far apart that t sees nothing."""
    folder = sweep.parent / "b"
    for seed, time in enumerate((0.5, 30.0, 39.0)):
        write_run(folder, "nvidia", seed, MISSING_IT)
        write_run(folder, "fast", seed, reaching(time))
    r = report(folder)
    logs = np.log([40 / 0.5, 40 / 30, 40 / 39])
    p = stats.ttest_1samp(logs, 0, alternative="greater").pvalue
    assert r["evidence"]["sooner"]["arms"]["fast"]["t"] == pytest.approx(p)
    assert r["evidence"]["sooner"]["arms"]["fast"]["at_most"] is True
    assert f"do not rule out chance (one-sided p up to {p:.3g})" in r["headline"]["sentence"]
