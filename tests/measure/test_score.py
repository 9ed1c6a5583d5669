"""Scoring: paired noise, off the clock, and never twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wg.measure.metrics import NO_CONSTANT, with_derived
from wg.measure.record import Record, read_events, scores, snapshots
from wg.measure.score import Sigmas, fixed_noise, grid_utterances, judge, score_run
from wg.sweep.rundir import prepare
from wg.train.build import build
from wg.train.run import _run
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]


def test_every_model_hears_the_same_noise(tiny_config: Config) -> None:
    one = build(Settings.from_config(tiny_config(seed=0))).module.model
    other = build(
        Settings.from_config(tiny_config(seed=5, model={"n_flows": 2, "n_channels": 8}))
    ).module.model
    a, b = fixed_noise(one, "clip3.wav", 7), fixed_noise(other, "clip3.wav", 7)
    assert torch.equal(a, b)
    assert a.shape == one.z_shape(1, 7)
    assert not torch.equal(a, fixed_noise(one, "clip4.wav", 7))
    assert abs(float(a.std()) - 1) < 0.05


def test_the_grid_set_is_whole_utterances_and_at_least_one(tiny_config: Config) -> None:
    store = build(Settings.from_config(tiny_config())).store
    assert grid_utterances(store, 0.1, 16000) == store.held_out[:1]
    assert grid_utterances(store, 1.6, 16000) == store.held_out[:2]
    assert grid_utterances(store, 1e9, 16000) == store.held_out


def test_nats_are_the_models_own_likelihood(tiny_config: Config) -> None:
    """Through the shared conditioning, the same number as a plain forward pass."""
    from wg.flow.waveglow import gaussian_constant, nll

    job = build(Settings.from_config(tiny_config()))
    model, store, i = job.module.model, job.store, job.store.held_out[0]
    torch.manual_seed(0)
    for wn in model.WN:
        torch.nn.init.normal_(wn.end.weight, std=0.1)
    nats, reference, generated = judge(
        model, store, i, Sigmas(prior=0.8, noise=0.5), torch.device("cpu")
    )
    with torch.no_grad():
        plain = nll(model(store.mel(i)[None], store.audio(i)[None]), 0.8)
    assert nats == pytest.approx(float(plain) + gaussian_constant(0.8), abs=1e-5)
    without = with_derived({"nats_per_sample": nats}, 0.8)[NO_CONSTANT]
    assert without == pytest.approx(float(plain), abs=1e-5)
    assert reference.shape == generated.shape == (24000,)


def test_scoring_goes_on_where_it_stopped_and_costs_no_training_time(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wg.measure import score as module

    run_dir = prepare(tiny_config(), [])
    real, calls = module.score_utterances, [0]

    def crash_at_third(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise RuntimeError("power cut")
        return real(*args)

    monkeypatch.setattr(module, "score_utterances", crash_at_third)
    assert _run(run_dir, 0) == 1
    events = read_events(run_dir)
    trained = next(e for e in events if e["event"] == "trained")
    assert len(scores(events, "grid")) == 2
    assert _run(run_dir, 0) == 0
    events = read_events(run_dir)
    assert [e["index"] for e in scores(events, "grid")] == [e["index"] for e in snapshots(events)]
    assert calls[0] == 1 + len(snapshots(events))  # the one that crashed, and each one once
    end = events[-1]
    assert end["status"] == "finished"
    assert end["clock"]["train"] == trained["clock"]["train"]
    assert end["clock"]["eval"]["wall"] > 0
    # A metric that was never asked for needs no training either: nothing is left to score.
    job = build(Settings.from_config(tiny_config()))
    n = len(events)
    assert sum(e["event"] == "samples" for e in events) == 1
    score_run(
        run_dir, job.store, job.settings.data.mel, Record(run_dir), sigmas=Sigmas(1, 1),
        grid_seconds=1.0, samples=1, keep="last", device=torch.device("cpu"), say=lambda _: None,
    )  # fmt: skip
    assert len(read_events(run_dir)) == n


def test_one_headline_for_all_snapshots(tiny_config: Config) -> None:
    run_dir = prepare(tiny_config(strategy={"whiten_init": {}}), [])
    assert _run(run_dir, 0) == 0
    taken = snapshots(read_events(run_dir))
    assert [s["index"] for s in taken] == list(range(len(taken)))
    assert taken[0]["step"] == 0
    assert taken[0]["clock"]["data_prep"]["wall"] > 0  # whitening is charged before step 1
    assert taken[0]["clock"]["train"]["wall"] == 0
    for i, snap in enumerate(taken[1:-1], start=1):
        step_audio = 2 * 4096 / 16000
        assert 1.5 * i <= snap["audio_seconds"] < 1.5 * i + step_audio
    times = [s["clock"]["train"]["cpu"] for s in taken]
    assert times == sorted(times)
    # Only the last snapshot's weights are kept, and final/ is it.
    kept = sorted((run_dir / "snapshots").iterdir())
    assert [p.name for p in kept] == [f"{taken[-1]['index']:04d}"]
    assert (run_dir / "final").resolve() == kept[0].resolve()


def test_samples_of_two_folders_do_not_collide(
    tiny_config: Config, tmp_path: Path, corpus_dir: Path
) -> None:
    for i, clip in enumerate(sorted(corpus_dir.glob("*.wav"))):
        folder = tmp_path / "speech" / f"speaker{i}"
        folder.mkdir(parents=True)
        (folder / "001.wav").write_bytes(clip.read_bytes())
    config = tiny_config(
        data={"path": str(tmp_path / "speech")}, evaluation={"samples": 2},
        budget={"audio_seconds": 1.0}, snapshots={"every": 1.0},
    )  # fmt: skip
    run_dir = prepare(config, [])
    assert _run(run_dir, 0) == 0
    (event,) = [e for e in read_events(run_dir) if e["event"] == "samples"]
    files = [f for kinds in event["audio"].values() for f in kinds.values()]
    assert len(event["audio"]) == 2
    assert len({(run_dir / f).read_bytes() for f in files}) == 4


def test_the_grid_has_the_extra_points_and_is_the_same_for_all(tiny_config: Config) -> None:
    """Each point is taken at the first step that reaches it, whatever the step's size."""
    found = []
    for length in (2048, 4096):
        config = tiny_config(
            segment_length=length, snapshots={"every": 1.5, "also": [0.6]}, arm=str(length)
        )
        run_dir = prepare(config, [])
        assert _run(run_dir, 0) == 0
        taken = snapshots(read_events(run_dir))
        assert [s["index"] for s in taken] == [0, 1, 2, 3, 4]
        step = 2 * length / 16000
        for at, snap in zip([0, 0.6, 1.5, 3.0], taken, strict=False):
            assert at <= snap["audio_seconds"] < at + step
        assert taken[-1]["audio_seconds"] >= 4.0
        found.append([s["index"] for s in taken])
    assert found[0] == found[1]
