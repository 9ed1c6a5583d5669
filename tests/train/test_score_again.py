"""``wg score``: metrics after the fact, merged with what is there, and a crash made good."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wg.errors import UserError
from wg.measure import score as scoring
from wg.measure.record import read_events, scale_ends, scores, snapshots, status
from wg.report.read import read_run
from wg.sweep.launch import launch
from wg.sweep.rundir import prepare
from wg.train.attempt import only_one
from wg.train.run import _run
from wg.train.score_again import score_again

Config = Callable[..., dict[str, Any]]
OWN = ["nats_per_sample", "log_mel_l1", "level_db"]


def config_of(tiny_config: Config, **changes: Any) -> dict[str, Any]:
    return tiny_config(
        budget={"audio_seconds": 2.0},
        snapshots={"every": 1.0, **changes.pop("snapshots", {})},
        evaluation={"metrics": OWN},
        **changes,
    )


@pytest.fixture
def finished(tiny_config: Config) -> Path:
    run_dir = prepare(config_of(tiny_config, snapshots={"keep": "all"}), [])
    assert _run(run_dir, 0) == 0
    return run_dir


@pytest.fixture
def crashed(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose training ended, and whose scoring did not: its second snapshot broke it."""
    run_dir = prepare(config_of(tiny_config), [])
    real, calls = scoring.score_utterances, [0]

    def crash(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise RuntimeError("power cut")
        return real(*args)

    with monkeypatch.context() as m:
        m.setattr(scoring, "score_utterances", crash)
        assert _run(run_dir, 0) == 1
    assert status(read_events(run_dir)) == "failed"
    return run_dir


def test_metrics_are_added_to_every_snapshot_on_disk(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_run(finished, "cpu")
    said: list[str] = []
    score_again(finished, ["periodicity", "log_mel_l1"], say=said.append)
    events = read_events(finished)
    for which, n in (("grid", len(snapshots(events))), ("held_out", 1)):
        found = scores(events, which)
        assert len(found) == n > 0
        for event in found:
            assert set(event["metrics"]) == {*OWN, "periodicity"}
            assert 0 < event["metrics"]["periodicity"] < 1
            for values in event["utterances"].values():
                assert set(values) == {*OWN, "periodicity"}
    assert "periodicity" in said[-1]
    assert f"{len(snapshots(events))} of {len(snapshots(events))}" in said[-1]
    after = read_run(finished, "cpu")
    assert status(events) == "finished"
    assert {m: after.final[m] for m in OWN} == {m: before.final[m] for m in OWN}
    # Scoring later is no second time that the run trained, nor does it cost what it is charged.
    assert (after.spans, after.spent, after.attempts) == (before.spans, before.spent, 1)
    assert [p.index for p in after.points] == [p.index for p in before.points]

    def not_again(*args: Any) -> Any:
        raise AssertionError("scored twice")

    monkeypatch.setattr(scoring, "score_utterances", not_again)
    score_again(finished, ["periodicity"], say=said.append)
    assert said[-1].startswith("nothing to score")
    assert len(read_events(finished)) == len(events)


def test_the_likelihood_is_only_computed_when_it_is_asked_for(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_forward(*args: Any) -> Any:
        raise AssertionError("a forward pass")

    monkeypatch.setattr(scoring, "nll", no_forward)
    score_again(finished, ["level_db", "dc_offset"], say=lambda _: None)
    assert "dc_offset" in scores(read_events(finished), "held_out")[0]["metrics"]


def test_snapshots_without_weights_are_counted(tiny_config: Config) -> None:
    run_dir = prepare(config_of(tiny_config), [])
    assert _run(run_dir, 0) == 0
    said: list[str] = []
    score_again(run_dir, ["dc_offset"], say=said.append)
    n = len(snapshots(read_events(run_dir)))
    assert f"1 of {n} snapshots" in said[-1]
    assert f"{n - 1} have no weights on disk" in said[-1]
    last = scores(read_events(run_dir), "grid")
    assert ["dc_offset" in e["metrics"] for e in last] == [False] * (n - 1) + [True]


def test_a_crash_while_scoring_is_made_good_on_another_machine(
    crashed: Path, corpus_dir: Path, tmp_path: Path
) -> None:
    """The run and the corpus were copied elsewhere; only the extra metric was asked for."""
    text = (crashed / "config.yaml").read_text()
    (crashed / "config.yaml").write_text(text.replace(str(corpus_dir), "/no/such/corpus"))
    trained = next(e for e in read_events(crashed) if e["event"] == "trained")
    with pytest.raises(UserError, match=r"not at /no/such/corpus .* --data-path"):
        score_again(crashed, ["dc_offset"])
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(corpus_dir, elsewhere)
    said: list[str] = []
    score_again(crashed, ["dc_offset"], data_path=elsewhere, say=said.append)
    events = read_events(crashed)
    assert status(events) == "finished"
    assert said[-1].endswith("is finished now")
    end = events[-1]
    assert end["event"] == "end"
    assert end["step"] == trained["step"]
    assert end["clock"]["train"] == trained["clock"]["train"]
    for event in (*scores(events, "grid"), *scores(events, "held_out")):
        assert set(event["metrics"]) >= set(OWN)
    assert "dc_offset" in scores(events, "held_out")[0]["metrics"]
    assert [e["index"] for e in scores(events, "grid")] == [e["index"] for e in snapshots(events)]
    assert sum(e["event"] == "samples" for e in events) == 1
    assert (crashed / "final" / "model.safetensors").exists()
    assert len(list((crashed / "snapshots").iterdir())) == 1  # snapshots.keep=last
    assert not (crashed / "checkpoint").exists()
    assert read_run(crashed, "cpu").finished


def test_mistakes_are_told(finished: Path, tiny_config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run directory"):
        score_again(tmp_path)
    with pytest.raises(UserError, match=r"--metrics: there is no metric 'stio'; .*'stoi'"):
        score_again(finished, ["stio"])
    with pytest.raises(UserError, match="--metrics is empty"):
        score_again(finished, [])
    untrained = prepare(config_of(tiny_config, seed=7), [])
    with pytest.raises(UserError, match="has not finished training"):
        score_again(untrained)
    with only_one(finished), pytest.raises(UserError, match="another process"):
        score_again(finished)
    other = tmp_path / "other"
    shutil.copytree(Path(tiny_config()["data"]["path"]), other)
    clips = sorted(other.glob("*.wav"))
    clips[0].write_bytes(clips[1].read_bytes()[:-2] + b"\0\1")
    with pytest.raises(UserError, match="are not the corpus 'noise'"):
        score_again(finished, ["dc_offset"], data_path=other)
    shutil.rmtree(finished / "snapshots")
    with pytest.raises(UserError, match="has no weights here"):
        score_again(finished)


def test_the_ends_are_recorded_once_and_printed_with_the_run_between_them(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        score_again(finished, ["log_mel_l1"], ends=True, say=lambda _: None)
    events = [e for e in read_events(finished) if e["event"] == "ends"]
    assert len(events) == 1
    found = scale_ends(read_events(finished))
    assert found["ground_truth"] == {"log_mel_l1": 0.0}
    assert 0 < found["griffin_lim"]["log_mel_l1"] < found["noise_lpc"]["log_mel_l1"]
    out = capsys.readouterr().out
    own = scores(read_events(finished), "held_out")[0]["metrics"]["log_mel_l1"]
    row = next(line for line in out.splitlines() if line.startswith("log_mel_l1 nats"))
    assert f"{own:.3f}" in row
    assert f"{found['griffin_lim']['log_mel_l1']:.3f}" in row


def test_a_finished_run_says_what_it_lacks(
    finished: Path, tiny_config: Config, capfd: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tiny_config, snapshots={"keep": "all"})
    assert (
        prepare({**config, "evaluation": {**config["evaluation"], "metrics": OWN}}, []) == finished
    )
    assert launch(finished, "a", 0, 1, 1).result == "skipped"
    assert "wg score" not in capfd.readouterr().out
    more = {**config["evaluation"], "metrics": [*OWN, "dc_offset"]}
    assert prepare({**config, "evaluation": more}, []) == finished
    assert launch(finished, "a", 0, 1, 1).result == "skipped"
    assert "`wg score` adds its dc_offset" in capfd.readouterr().out
    score_again(finished, say=lambda _: None)  # without names: the configuration's
    assert launch(finished, "a", 0, 1, 1).result == "skipped"
    assert "wg score" not in capfd.readouterr().out


def test_the_command(finished: Path, wg: Callable[..., Any]) -> None:
    done = wg("score", str(finished), "--metrics", "dc_offset, level_db")
    assert done.returncode == 0, done.stderr
    assert "scored on dc_offset, level_db" in done.stdout
    done = wg("score", str(finished), "--metrics", "dc_ofset")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("wg: --metrics: there is no metric 'dc_ofset'; did you mean")
    assert done.stderr.count("\n") == 1
