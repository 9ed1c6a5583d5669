"""A warm start from another run: its function to begin with, its time on the bill."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wg.checkpoint.weights import load_model, save_weights
from wg.errors import UserError
from wg.measure.clock import headline
from wg.measure.record import last_clock, read_events, scores
from wg.sweep.rundir import prepare
from wg.train.build import build
from wg.train.run import _run, main
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]


@pytest.fixture
def donor(tiny_config: Config) -> Path:
    """A finished run of two flows (one stage)."""
    config = tiny_config(model={"n_flows": 2}, strategy={"adamw": {"lr": 3e-3}}, arm="donor")
    run_dir = prepare(config, [])
    assert _run(run_dir, 0) == 0
    return run_dir


def test_it_starts_as_the_donor_and_is_charged_for_it(donor: Path, tiny_config: Config) -> None:
    config = tiny_config(strategy={"warm_start": {"donor": str(donor)}}, arm="warm")
    job = build(Settings.from_config(config))
    old, _ = load_model(donor / "final")
    mel, audio = job.store.mel(0)[None], job.store.audio(0)[None]
    with torch.no_grad():
        assert torch.allclose(job.module.model(mel, audio).z, old(mel, audio).z, atol=1e-4)
    run_dir = prepare(config, [])
    assert _run(run_dir, 0) == 0
    events = read_events(run_dir)
    cost = events[0]["donor"]["train_seconds"]
    charged = last_clock(read_events(donor))
    assert charged is not None
    assert cost == pytest.approx(headline(charged, "cpu"))
    assert cost > 0
    before = scores(read_events(donor), "grid")[-1]["metrics"]
    after = scores(events, "grid")[0]["metrics"]
    assert after["nats_per_sample"] == pytest.approx(before["nats_per_sample"], abs=1e-3)


def test_a_donor_may_be_fitted_to_its_mel(donor: Path, tiny_config: Config) -> None:
    """What is done to generated audio is no part of what a donor has learned."""
    strategy = {"warm_start": {"donor": str(donor)}, "mel_consistency": {"rounds": 3}}
    job = build(Settings.from_config(tiny_config(strategy=strategy)))
    model = job.module.model
    assert model.consistency is not None
    assert float(model.consistency.filters.sum()) > 0
    old, _ = load_model(donor / "final")
    mel, audio = job.store.mel(0)[None], job.store.audio(0)[None]
    with torch.no_grad():
        assert torch.allclose(model(mel, audio).z, old(mel, audio).z, atol=1e-4)


def test_a_donor_without_a_record_must_name_its_price(donor: Path, tiny_config: Config) -> None:
    (donor / "events.jsonl").unlink()
    strategy = {"warm_start": {"donor": str(donor)}}
    run_dir = prepare(tiny_config(strategy=strategy), [])
    with pytest.raises(UserError, match="donor_seconds=SECONDS"):
        _run(run_dir, 0)
    strategy["warm_start"]["donor_seconds"] = 12.5
    run_dir = prepare(tiny_config(strategy=strategy), [])
    assert _run(run_dir, 0) == 0
    assert read_events(run_dir)[0]["donor"]["train_seconds"] == 12.5


@pytest.mark.parametrize(
    ("donor_path", "sentence"), [("nowhere", "holds no finished model"), ("corrupt", "is corrupt")]
)
def test_donors_that_cannot_be_used(
    donor_path: str, sentence: str, donor: Path, tiny_config: Config,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if donor_path == "corrupt":
        weights = (donor / "final" / "model.safetensors").resolve()
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
        donor_path = str(donor)
    run_dir = prepare(tiny_config(strategy={"warm_start": {"donor": donor_path}}), [])
    assert main([str(run_dir)]) == 2
    assert sentence in capsys.readouterr().err


def test_a_donor_of_other_mels_is_refused_unless_it_is_wanted(
    donor: Path, tiny_config: Config
) -> None:
    warm = {"donor": str(donor)}
    ours = tiny_config(strategy={"warm_start": warm})
    other = {**ours["data"], "mel": {**ours["data"]["mel"], "f_max": 4000.0}}
    with pytest.raises(UserError, match=r"the donor's f_max is 8000.*any_mel=true"):
        build(Settings.from_config({**ours, "data": other}))
    wanted = {**ours, "data": other, "strategy": {"warm_start": {**warm, "any_mel": True}}}
    assert build(Settings.from_config(wanted)).plan.donor is not None


def test_a_donor_must_not_change_under_a_run(
    donor: Path, tiny_config: Config, stopped: Any
) -> None:
    run_dir = prepare(tiny_config(strategy={"warm_start": {"donor": str(donor)}}), [])
    with stopped(4):
        assert _run(run_dir, 0) == 130
    old, meta = load_model(donor / "final")
    with torch.no_grad():
        old.WN[0].end.bias.add_(1.0)
    rest = {k: v for k, v in meta.items() if k not in ("format", "sha256", "model")}
    save_weights((donor / "final").resolve(), old.state_dict(), old.config, rest)
    with pytest.raises(UserError, match="has changed since this run began from it"):
        _run(run_dir, 0)


def test_a_donor_that_is_gone_stays_charged(
    donor: Path, tiny_config: Config, tmp_path: Path, stopped: Any
) -> None:
    """And a run that began from it goes on to the same weights."""
    ends = []
    for out in ("whole", "parts"):
        warm = {"warm_start": {"donor": str(donor)}}
        run_dir = prepare(tiny_config(strategy=warm, out=str(tmp_path / out)), [])
        if out == "parts":
            with stopped(4):
                assert _run(run_dir, 0) == 130
            shutil.rmtree(donor)
        assert _run(run_dir, 0) == 0
        ends.append(load_model(run_dir / "final")[0].state_dict())
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])
    first, second = (e["donor"] for e in read_events(run_dir) if e["event"] == "start")
    assert first == second
    assert first["train_seconds"] > 0
    with pytest.raises(UserError, match="holds no finished model"):
        build(Settings.from_config(tiny_config(strategy=warm)))


def test_another_initialisation_would_destroy_the_donor(donor: Path, tiny_config: Config) -> None:
    strategy = {"warm_start": {"donor": str(donor)}, "whiten_init": {}}
    with pytest.raises(UserError, match="'warm_start' and 'whiten_init' both set init"):
        Settings.from_config(tiny_config(strategy=strategy)).plan()


def test_growing_in_one_run_never_jumps(tiny_config: Config) -> None:
    """The likelihood before and after each insertion is the same."""
    config = tiny_config(strategy={"grow_flows": {"n_flows": [2, 3, 4]}})
    job = build(Settings.from_config(config))
    model = job.module.model
    torch.manual_seed(0)
    for k, wn in enumerate(model.WN):
        if model.active[k]:
            torch.nn.init.normal_(wn.end.weight, std=0.2)
    mel, audio = job.store.mel(0)[None], job.store.audio(0)[None]
    losses = []
    for n in (2, 3, 4):
        job.module._grow(n)
        assert sum(model.active) == n
        with torch.no_grad():
            losses.append(float(job.module.training_step((mel, audio), 0)))
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)


def test_the_corpus_must_not_change_under_a_run(
    tiny_config: Config, tmp_path: Path, corpus_dir: Path
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(corpus_dir, folder)
    run_dir = prepare(tiny_config(data={"path": str(folder)}), [])
    assert _run(run_dir, 0) == 0
    events = read_events(run_dir)
    (run_dir / "final").unlink()  # or there would be nothing left to do
    shutil.copy(folder / "clip0.wav", folder / "clip9.wav")
    with pytest.raises(UserError, match="have changed since"):
        _run(run_dir, 0)
    assert read_events(run_dir) == events  # a finished run stays finished
