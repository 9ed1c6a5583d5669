"""What a run has taken, beside its time: model FLOPs and joules in the record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wg.flow.flops import computed, step_flops
from wg.flow.grow import starting_flows
from wg.measure.energy import EnergyMeter, Source
from wg.measure.record import last_joules, read_events, snapshots, train_curve
from wg.sweep.rundir import prepare
from wg.train.build import build
from wg.train.prepare import flow_config
from wg.train.run import _run
from wg.train.settings import Settings, step_shape
from wg.train.workload import workload

Config = Callable[..., dict[str, Any]]
GROWING = {
    "grow_flows": {"n_flows": [2, 4], "until": [0.4]},
    "grow_width": {},
    "curriculum": {"segment_lengths": [1024, 2048]},
    "interpolated_mel": {},
}


@pytest.fixture(autouse=True)
def unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)


def by_the_formula(config: dict[str, Any]) -> dict[int, int]:
    """Step -> model FLOPs up to its end, from the plan alone."""
    settings = Settings.from_config(config)
    plan = settings.plan()
    model = flow_config(settings.model, plan, settings.data.mel.n_fft)
    total = round(plan.base.audio_seconds * plan.base.sampling_rate)
    spent, seen, found = 0, 0, {}
    while seen < total:
        progress = seen / total
        T, B = step_shape(plan, progress)
        flows = width = None
        if plan.n_active_flows is not None:
            on = starting_flows(model, int(plan.n_active_flows(progress)))
            flows = computed([k in on for k in range(model.n_flows)])
        if plan.active_width is not None:
            C = model.n_channels
            width = max(1, round(plan.active_width(progress) * C))  # of fewer than 16 channels
            width = None if width == C else width
        spent += step_flops(model, B, T, flows, width)
        seen += B * T
        found[len(found) + 1] = spent
    return found


@pytest.mark.parametrize("strategy", [{}, GROWING], ids=["plain", "growing"])
def test_model_flops_are_those_of_the_schedule(tiny_config: Config, strategy: Any) -> None:
    config = tiny_config(strategy=strategy, segment_length=2048)
    run_dir = prepare(config, [])
    assert _run(run_dir, 0) == 0
    events, expected = read_events(run_dir), by_the_formula(config)
    curve = train_curve(events)
    assert len(curve) > 3
    assert [e["model_flops"] for e in curve] == [expected[e["step"]] for e in curve]
    first, *_, last = snapshots(events)
    assert first["model_flops"] == 0
    (trained,) = [e for e in events if e["event"] == "trained"]
    assert last["model_flops"] == trained["model_flops"] == max(expected.values())
    # And so says the plan that is made before.
    work = workload(config)
    assert (work.flops, work.steps) == (last["model_flops"], last["step"])


def test_a_resumed_run_goes_on_counting(tiny_config: Config, stopped: Any) -> None:
    config = tiny_config()
    run_dir = prepare(config, [])
    with stopped(4):
        assert _run(run_dir, 0) == 130
    expected = by_the_formula(config)
    (end,) = [e for e in read_events(run_dir) if e["event"] == "end"]
    assert end["model_flops"] == expected[4]
    assert _run(run_dir, 0) == 0
    last = train_curve(read_events(run_dir))[-1]
    assert last["model_flops"] == expected[last["step"]] == max(expected.values())


def test_joules_grow_and_survive_an_attempt(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter(range(10**6))

    def one_more_joule(job: Any, run_dir: Path) -> EnergyMeter:
        earlier = last_joules(read_events(run_dir))
        return EnergyMeter([Source("CPU package", lambda: float(next(readings)))], earlier)

    monkeypatch.setattr("wg.train.run.meter_of", one_more_joule)
    run_dir = prepare(tiny_config(), [])
    assert _run(run_dir, 0) == 0
    events = read_events(run_dir)
    joules = [e["joules"] for e in events if e["event"] in ("train", "snapshot", "trained")]
    assert joules == sorted(joules)
    assert joules[0] == 0.0 < joules[-1]
    assert snapshots(events)[-1]["joules_of"] == "1 CPU package, with all processes on them"
    assert last_joules(events) == joules[-1]
    assert one_more_joule(None, run_dir).joules == joules[-1]


def test_without_a_meter_the_record_says_so(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wg.measure.energy.rapl", lambda folder: ([], "the CPU's energy"))
    run_dir = prepare(tiny_config(), [])
    assert _run(run_dir, 0) == 0
    events = read_events(run_dir)
    assert all(e["joules"] is None for e in train_curve(events))
    assert snapshots(events)[-1]["joules_of"] == "nothing: the CPU's energy"
    assert last_joules(events) == 0.0


def test_the_module_counts_what_all_ranks_compute(tiny_config: Config) -> None:
    job = build(Settings.from_config(tiny_config()))
    flops = job.module.flops_of_step(2, 4096)
    assert flops == step_flops(job.module.model.config, 2, 4096)
    assert 2 * job.module.flops_of_step(1, 4096) == flops
