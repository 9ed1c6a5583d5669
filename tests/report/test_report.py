"""Reports of sweeps whose numbers are known by hand."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.report.known_sweeps import MISSING_IT, TARGET, WriteRun, falling
from wg.errors import UserError
from wg.measure.record import Record
from wg.report.build import print_table, write_report
from wg.report.propose import propose_from_sweep
from wg.report.read import read_run


def report(sweep: Path, **how: Any) -> dict[str, Any]:
    page = write_report(sweep, sweep.parent / "out", say=lambda _: None, **how)
    found: dict[str, Any] = json.loads((page.parent / "results.json").read_text())
    return found


def arm(results: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(a for a in results["arms"] if a["arm"] == name)
    return found


def test_numbers(sweep: Path) -> None:
    """log_mel_l1 falls 1.5 -> 0.5 between points 2 and 3: the target 1.0 is half-way."""
    r = report(sweep)
    nvidia, fast = arm(r, "nvidia"), arm(r, "fast")
    assert r["baseline"] == "nvidia"
    assert [a["arm"] for a in r["arms"]] == ["nvidia", "fast"]
    assert nvidia["time_to_target"]["seconds"] == pytest.approx({"0": 25, "1": 50, "2": 25})
    assert fast["time_to_target"]["seconds"] == pytest.approx(
        {"0": 12.5, "1": 50 / 2.1, "2": 25 / 2.2}
    )
    assert nvidia["time_to_target"]["audio_seconds"] == {"0": 25.0, "1": 25.0, "2": 25.0}
    assert nvidia["time_to_target"]["steps"] == {"0": 12.5, "1": 12.5, "2": 12.5}
    assert nvidia["time_to_target"]["restricted_mean_seconds"] == pytest.approx(100 / 3)
    s = fast["speed_up"]
    assert s["pairs"] == pytest.approx({"0": 2.0, "1": 2.1, "2": 2.2})
    assert s["estimate"] == pytest.approx((2.0 * 2.1 * 2.2) ** (1 / 3))
    assert (s["bound"], s["n"], s["interval"]) == ("exact", 3, "95% t-interval")
    assert fast["audio_speed_up"]["estimate"] == pytest.approx(1.0)
    assert nvidia["speed_up"] is None
    # 40 audio seconds in 40, 80 and 40 CPU seconds
    assert nvidia["throughput"]["per_seed"] == pytest.approx({"0": 1.0, "1": 0.5, "2": 1.0})
    assert fast["final"]["log_mel_l1"]["mean"] == pytest.approx(0.25)
    assert fast["final"]["pesq_wb"]["per_seed"]["1"] == pytest.approx(2.75)
    assert r["winner"]["arm"] == "fast"
    assert r["winner"]["reached_target"] is True
    assert r["ranking"] == ["fast", "nvidia"]
    assert r["headline"]["sentence"].startswith("`fast` reached target `t1` 2.10 times sooner")
    assert "95% interval" in r["headline"]["sentence"]
    assert "process CPU seconds of train + compile + data_prep" in r["headline"]["sentence"]
    assert "before its first step" not in r["headline"]["sentence"]
    assert fast["strategies"] == [{"name": "bf16", "kind": "system", "settings": {}}]


def test_an_arm_that_never_had_to_train_is_told_from_one_that_had(
    sweep: Path, write_run: WriteRun
) -> None:
    for seed in (0, 1, 2):
        write_run(sweep, "ready", seed, [(0.5, 0.9), (10, 0.8), (20, 0.7), (30, 0.6), (40, 0.5)])
    r = report(sweep)
    assert r["ranking"][:2] == ["ready", "fast"]
    sentence = r["headline"]["sentence"]
    assert "`ready` is there before its first step" in sentence
    assert "The soonest that had to train is `fast`: 2.10" in sentence
    table = (sweep.parent / "out" / "table.md").read_text()
    assert "| 0.500 s (untrained) |" in table
    page = (sweep.parent / "out" / "index.html").read_text()
    assert page.count("<small>untrained</small>") == 1


def test_winner_is_a_run_that_can_be_handed_on(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, write_run: WriteRun
) -> None:
    """The seed with the best final log_mel_l1; its path relative where it can be."""
    better = [(s, v if v != 0.25 else 0.2) for s, v in falling(5.0)]
    write_run(sweep, "fast", 3, better)
    monkeypatch.chdir(sweep.parent.parent)
    winner = report(sweep)["winner"]
    assert (winner["seed"], winner["run"]) == (3, "runs/s/fast-s3-00000003")
    monkeypatch.chdir(sweep.parent / "out")
    assert Path(report(sweep)["winner"]["run"]) == sweep / "fast-s3-00000003"


def test_a_donor_is_charged(sweep: Path, write_run: WriteRun) -> None:
    for seed in range(3):
        write_run(sweep, "warm", seed, falling(10), donor=30.0)
    r = report(sweep)
    times = arm(r, "warm")["time_to_target"]
    assert times["seconds"] == pytest.approx({"0": 55, "1": 55, "2": 55})
    assert times["audio_seconds"]["0"] == 25.0
    point = arm(r, "warm")["runs"][0]["curve"][1]
    assert (point["train_seconds"], point["cpu_seconds"], point["wall_seconds"]) == (40, 10, 20)
    assert arm(r, "warm")["throughput"]["per_seed"]["0"] == pytest.approx(1.0)
    assert any("donor" in w and "30 s" in w for w in r["warnings"])


def test_missed_arms(sweep: Path, write_run: WriteRun) -> None:
    write_run(sweep, "slow", 0, MISSING_IT)
    write_run(sweep, "slow", 1, falling(100))
    r = report(sweep)
    slow = arm(r, "slow")
    assert slow["time_to_target"]["seconds"] == {"0": None, "1": 250.0}
    assert (slow["time_to_target"]["missed"], slow["time_to_target"]["reached"]) == (1, 1)
    assert slow["time_to_target"]["restricted_mean_seconds"] == pytest.approx((40 + 250) / 2)
    assert slow["time_to_target"]["restricted_mean_is_lower_bound"] is True
    assert slow["speed_up"]["bound"] == "at most"
    assert slow["speed_up"]["estimate"] == pytest.approx(math.sqrt(25 / 40 * 50 / 250))
    assert r["winner"]["arm"] == "fast"
    page = (sweep.parent / "out" / "index.html").read_text()
    assert "missed" in page
    assert any("unequal seeds" in w for w in r["warnings"])
    assert any("changes the network" in w for w in r["warnings"])
    assert "1/2 missed" in (sweep.parent / "out" / "table.md").read_text()


def test_baseline_that_missed_gives_at_least(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "s", "nvidia", 0, MISSING_IT)
    write_run(tmp_path / "s", "fast", 0, falling(4))
    r = report(tmp_path / "s")
    assert arm(r, "fast")["speed_up"]["estimate"] == pytest.approx(4.0)
    assert "at least 4.00 times sooner" in r["headline"]["sentence"]


def test_nobody_reached_it(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "s", "nvidia", 0, MISSING_IT)
    write_run(tmp_path / "s", "fast", 0, [*MISSING_IT[:-1], (40, 1.3)])
    r = report(tmp_path / "s")
    assert r["winner"]["arm"] == "fast"
    assert r["winner"]["reached_target"] is False
    assert r["headline"]["sentence"].startswith("No arm reached target")
    assert arm(r, "fast")["speed_up"]["bound"] == "unknown"


def test_without_a_target(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "s", "nvidia", 0, MISSING_IT, target={"name": "none", "conditions": {}})
    r = report(tmp_path / "s")
    assert r["target"] is None
    assert "No target" in r["headline"]["sentence"]
    judged = report(tmp_path / "s", target={"name": "late", "conditions": {"log_mel_l1": 1.9}})
    assert arm(judged, "nvidia")["time_to_target"]["seconds"] == {"0": pytest.approx(15.0)}


def test_runs_that_did_not_finish(sweep: Path, write_run: WriteRun) -> None:
    write_run(sweep, "fast", 7, falling(1), status="interrupted", reason="SIGINT at step 3")
    write_run(sweep, "fast", 8, falling(1), status="failed", reason="OSError: disk")
    write_run(sweep, "fast", 9, falling(1), status="failed", reason="diverged: the loss is nan")
    (sweep / "no-run").mkdir()
    r = report(sweep)
    assert [e["seed"] for e in r["excluded"]] == [7, 8]
    fast = arm(r, "fast")
    assert fast["seeds"] == [0, 1, 2, 9]  # a recipe that diverges has missed
    assert fast["time_to_target"]["seconds"]["9"] is None
    assert fast["final"]["log_mel_l1"]["n"] == 3
    assert fast["diverged"] == ["9"]
    assert fast["speed_up"]["estimate"] is not None  # nvidia has no seed 9
    write_run(sweep, "nvidia", 9, falling(1))
    speed = arm(report(sweep), "fast")["speed_up"]
    assert (speed["estimate"], speed["bound"]) == (None, "unknown")
    assert speed["note"] == "a run diverged in 1 of 4 pairs"
    assert r["winner"]["arm"] == "nvidia"
    assert "no arm was sooner" in r["headline"]["sentence"]
    assert sum("left out" in w for w in r["warnings"]) == 2


def test_the_newest_of_two_runs_counts(sweep: Path, write_run: WriteRun) -> None:
    write_run(sweep, "fast", 0, falling(2), folder="fast-s0-again")
    r = report(sweep)
    assert arm(r, "fast")["time_to_target"]["seconds"]["0"] == pytest.approx(5.0)
    assert "newer" in r["excluded"][0]["why"]


@pytest.mark.parametrize(
    ("start", "config", "words"),
    [
        ({"commit": "b" * 40 + "+"}, {}, "commits"),
        ({"commit": None}, {}, "not recorded"),
        ({"corpus": {"name": "other", "digest": "e"}}, {}, "corpora"),
        ({"threads": 2}, {}, "threads"),
        ({"machine": {"cpu": "another"}}, {}, "machines"),
        ({"clock_kind": "wall"}, {}, "do not compare"),
        ({"ranks": 2}, {}, "2 processes"),
        ({}, {"budget": {"audio_seconds": 99}}, "budgets"),
        ({}, {"model": {"n_flows": 12}}, "models"),
    ],
)
def test_unequal_conditions_are_told(
    sweep: Path, write_run: WriteRun, start: dict[str, Any], config: dict[str, Any], words: str
) -> None:
    write_run(sweep, "other", 0, falling(10), start=start, config=config)
    assert any(words in w for w in report(sweep)["warnings"])


def test_a_schedule_that_was_cut_short_is_told_of(sweep: Path, write_run: WriteRun) -> None:
    """Forty of a hundred seconds of audio; a constant step size has no end to reach."""
    planned = {"budget": {"audio_seconds": 100.0, "train_seconds": 40.0}}
    write_run(sweep, "cut", 0, falling(10), config=planned, start={"plan": {"lr_schedule": "cos"}})
    write_run(sweep, "constant", 0, falling(10), config=planned)
    told = [w for w in report(sweep)["warnings"] if "stopped by budget.train_seconds" in w]
    assert len(told) == 1
    assert told[0].startswith("Run cut-s0-00000000 was stopped by budget.train_seconds at 40%")


def test_mixed_clocks_fall_back_to_wall_seconds(sweep: Path, write_run: WriteRun) -> None:
    write_run(sweep, "other", 0, falling(10), start={"clock_kind": "wall"})
    r = report(sweep)
    assert r["clock"]["kind"] == "wall"
    assert arm(r, "nvidia")["time_to_target"]["seconds"]["0"] == pytest.approx(50.0)


def test_one_seed_is_said(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "s", "nvidia", 0, falling(10))
    write_run(tmp_path / "s", "fast", 0, falling(5))
    r = report(tmp_path / "s")
    assert "too few seeds" in r["headline"]["sentence"]
    assert any("one seed" in w for w in r["warnings"])


@pytest.mark.parametrize("missing", ["directory", "runs", "finished", "baseline", "named"])
def test_user_mistakes(tmp_path: Path, write_run: WriteRun, missing: str) -> None:
    folder = tmp_path / "s"
    if missing != "directory":
        folder.mkdir()
    if missing == "finished":
        write_run(folder, "nvidia", 0, falling(1), status="interrupted")
    if missing in ("baseline", "named"):
        write_run(folder, "fast", 0, falling(1))
        write_run(folder, "slow", 0, falling(1))
    name = "fsat" if missing == "named" else None
    told = {"baseline": "arms: 'fast', 'slow'", "named": "did you mean 'fast'"}
    words = told.get(missing, str(folder))
    with pytest.raises(UserError, match=re.escape(words)):
        report(folder, baseline=name)


def test_a_named_baseline(sweep: Path) -> None:
    r = report(sweep, baseline="fast")
    assert r["baseline"] == "fast"
    assert arm(r, "nvidia")["speed_up"]["pairs"]["0"] == pytest.approx(0.5)


def test_one_arm_alone_needs_no_baseline(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "s", "fast", 0, falling(5))
    r = report(tmp_path / "s")
    assert (r["baseline"], r["winner"]["arm"]) == ("fast", "fast")
    assert "it is the only arm" in r["headline"]["sentence"]


def test_several_targets(sweep: Path, write_run: WriteRun) -> None:
    write_run(sweep, "nvidia", 5, falling(10), target={**TARGET, "name": "t0"})
    r = report(sweep)
    assert r["target"]["name"] == "t1"
    assert [t["name"] for t in r["other_targets"]] == ["t0"]
    assert r["other_targets"][0]["arms"]["fast"]["time_to_target"]["reached"] == 3


class Loads(HTMLParser):
    """What a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = ("src", "href", "srcset", "data", "poster", "action")
        self.found += [v or "" for k, v in attrs if k in names]


def test_the_page_is_whole_in_itself(sweep: Path, write_run: WriteRun) -> None:
    evil = "</script><img src=x>"
    write_run(sweep, evil.replace("/", "-"), 0, falling(10), folder="evil")
    report(sweep)
    page = (sweep.parent / "out" / "index.html").read_text()
    loads = Loads()
    loads.feed(page)
    assert len(loads.found) > 10
    assert all(v.startswith("data:") for v in loads.found)
    assert "url(" not in page.split("</style>")[0]
    assert page.count("<audio") == 2 * 4  # two utterances: reference, nvidia, fast, evil
    assert "data:audio/ogg;base64,T2dnUw" in page  # OggS
    assert "<-script><img src=x>" not in page
    assert "&lt;nvidia&gt;" in page  # the command, escaped
    assert str(sweep) not in page


def test_written_the_same_twice(sweep: Path) -> None:
    report(sweep)
    first = (sweep.parent / "out" / "results.json").read_text()
    report(sweep)
    assert (sweep.parent / "out" / "results.json").read_text() == first


def test_broken_samples_are_told_not_fatal(sweep: Path) -> None:
    (sweep / "fast-s0-00000000" / "samples" / "one.generated.flac").unlink()
    report(sweep)
    page = (sweep.parent / "out" / "index.html").read_text()
    assert "cannot be played" in page
    assert str(sweep) not in page


def test_without_samples(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "s", "nvidia", 0, falling(10), samples=False)
    report(tmp_path / "s")
    assert "No run kept samples" in (tmp_path / "out" / "index.html").read_text()


def test_terminal_table(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(report(sweep))
    text = capsys.readouterr().out
    assert "fast" in text
    assert "log_mel_l1" in text


def test_propose_target(sweep: Path) -> None:
    found = propose_from_sweep(sweep, None, 0.75, "demo-v1", ["log_mel_l1"])
    assert found["conditions"] == {"log_mel_l1": 0.5}
    assert "3 seeds (0, 1, 2) of arm 'nvidia' at 30 of 40 audio seconds" in found["how"]
    assert "provisional" in found["how"]
    for share in (0.0, 1.5):
        with pytest.raises(UserError, match="share of the budget"):
            propose_from_sweep(sweep, None, share, "demo-v1", ["log_mel_l1"])


def test_a_target_may_be_what_the_baseline_has_after_some_seconds(
    tmp_path: Path, write_run: WriteRun
) -> None:
    folder = tmp_path / "s"
    for seed, step in enumerate((5.0, 10.0, 20.0)):
        write_run(folder, "nvidia", seed, falling(step))  # ends after 20, 40, 80 CPU seconds
    found = propose_from_sweep(folder, None, 0.75, "t", ["log_mel_l1"], after=20.0)
    assert found["conditions"] == {"log_mel_l1": 1.5}  # 0.25, 1.5 and 2.0
    assert "after 20 process CPU seconds of train + compile + data_prep" in found["how"]
    with pytest.raises(UserError, match="seed 0 ended after 20 headline s, before the 30 s"):
        propose_from_sweep(folder, None, 0.75, "t", ["log_mel_l1"], after=30.0)
    with pytest.raises(UserError, match="must be above 0"):
        propose_from_sweep(folder, None, 0.75, "t", ["log_mel_l1"], after=0.0)


def test_a_target_is_at_a_share_of_the_budget_and_not_of_what_a_run_got_to(
    tmp_path: Path, write_run: WriteRun
) -> None:
    """Where seconds of training were limited too, each seed ends elsewhere."""
    folder = tmp_path / "s"
    budget = {"budget": {"audio_seconds": 80.0, "train_seconds": 60.0}}
    for seed in range(2):
        write_run(folder, "nvidia", seed, falling(10), config=budget)  # its points end at 40 s
    (_, after_20_s) = falling(10)[2]
    found = propose_from_sweep(folder, None, 0.25, "t", ["log_mel_l1"])
    assert found["conditions"] == {"log_mel_l1": after_20_s}
    assert "at 20 of 80 audio seconds" in found["how"]
    with pytest.raises(UserError, match=r"seed 0 ended after 40 s .* before the 60 s"):
        propose_from_sweep(folder, None, 0.75, "t", ["log_mel_l1"])
    write_run(folder, "nvidia", 2, falling(10))
    with pytest.raises(UserError, match="budgets of 40, 80 s of audio"):
        propose_from_sweep(folder, None, 0.25, "t", ["log_mel_l1"])


def test_a_sweep_is_judged_by_any_target(sweep: Path, tmp_path: Path) -> None:
    """A name of the folder or a file; what is none is told with the names that there are."""
    from wg.report.propose import read_target

    folder = tmp_path / "target"
    folder.mkdir()
    (folder / "soft.yaml").write_text("name: soft\nconditions:\n  log_mel_l1: 99.0\n")
    (folder / "broken.yaml").write_text("name: [")
    assert read_target("soft", folder) == read_target(str(folder / "soft.yaml"), folder)
    assert report(sweep, target=read_target("soft", folder))["target"]["name"] == "soft"
    with pytest.raises(UserError, match=r"there is no target 'sift'; .*soft"):
        read_target("sift", folder)
    with pytest.raises(UserError, match=r"broken\.yaml is no target"):
        read_target("broken", folder)


def test_a_metric_that_was_scored_later_is_read_and_missed_elsewhere(sweep: Path) -> None:
    """`wg score` on one run: its metrics stand beside the earlier ones, it is no attempt to train,
    and records from before there was the metric are read as they are."""
    before = report(sweep)
    runs = sorted(p.parent for p in sweep.glob("*/run.json"))
    old = read_run(runs[0], "cpu")
    each = {u: {"stoi": 0.9} for u in old.utterances}
    last = old.points[-1].index
    at = {"index": last, "step": 5 * last, "audio_seconds": 10.0 * last, "sha256": "s"}
    Record(runs[0]).write("score", **at, set="held_out", metrics={"stoi": 0.9}, utterances=each)
    new = read_run(runs[0], "cpu")
    assert new.final == {**old.final, "stoi": 0.9}
    assert new.utterances == {u: {**v, "stoi": 0.9} for u, v in old.utterances.items()}
    assert (new.spans, new.spent, new.points) == (old.spans, old.spent, old.points)
    after = report(sweep)
    assert after["headline"] == before["headline"]
    (told,) = set(after["warnings"]) - set(before["warnings"])
    assert told.startswith("Not scored on stoi")
    assert "wg score" in told
    assert runs[0].name not in told
