"""Weights that are judged in place of the trained ones: equal and exponential averages."""

from __future__ import annotations

import pytest
import torch
from tests_helpers import trained_looking

from wg.flow import FlowConfig, WaveGlow
from wg.flow.grow import sleep, wake
from wg.plan import Base, EvalWeights
from wg.strategies import make_plan

CONFIG = FlowConfig(
    n_mels=16, n_flows=4, n_early_every=2, n_layers=2, n_channels=4, upsample_kernel=512
)


def averager(model: WaveGlow, start: float) -> EvalWeights:
    return average_of("swa", {"start": start}, model)


def average_of(name: str, settings: dict[str, float], model: WaveGlow) -> EvalWeights:
    make = make_plan(Base(), {name: settings}).eval_weights
    assert make is not None
    return make(model)


def jolt(model: WaveGlow, seed: int) -> dict[str, torch.Tensor]:
    """Another place in weight space; returns a copy of it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return {k: v.clone() for k, v in model.state_dict().items()}


def test_the_mean_is_of_every_step_since_the_start_and_of_no_other() -> None:
    model = WaveGlow(CONFIG)
    average = averager(model, 0.5)
    seen = []
    for step in range(1, 11):
        weights = jolt(model, step)
        average.update(model, step / 10)
        judged = average.weights(model)
        if step < 5:
            assert all(torch.equal(judged[k], w) for k, w in weights.items())
            continue
        seen.append(weights)
        for k in weights:
            mean = torch.stack([w[k].double() for w in seen]).mean(0)
            assert torch.allclose(judged[k].double(), mean, atol=1e-6)
    assert len(seen) == 6


def test_a_restored_mean_goes_on_in_the_same_bits() -> None:
    model = WaveGlow(CONFIG)
    whole = averager(model, 0.0)
    for step in range(6):
        jolt(model, step)
        whole.update(model, 0.5)
        if step == 2:
            state = whole.state_dict()
            state = {**state, "average": {k: v.clone() for k, v in state["average"].items()}}
            resumed = averager(model, 0.0)
            resumed.load_state_dict(state)
        elif step > 2:
            resumed.update(model, 0.5)
    a, b = whole.weights(model), resumed.weights(model)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_an_exponential_average_forgets_with_a_horizon_that_grows() -> None:
    """decay_n = min(decay, (1 + n) / (10 + n)), by hand."""
    model = WaveGlow(CONFIG)
    average = average_of("ema", {"decay": 0.3}, model)
    expected = {k: v.double() for k, v in model.state_dict().items()}
    for step in range(1, 9):
        weights = jolt(model, step)
        average.update(model, step / 8)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = {k: decay * expected[k] + (1 - decay) * weights[k].double() for k in weights}
    judged = average.weights(model)
    assert all(torch.allclose(judged[k].double(), v, atol=1e-6) for k, v in expected.items())


@pytest.mark.parametrize("name", ["swa", "ema"])
def test_a_restored_average_knows_which_flows_it_is_of(name: str) -> None:
    """Resumed just after a flow woke up, it does not begin anew a second time."""
    settings = {"swa": {"start": 0.0}, "ema": {"decay": 0.9}}[name]
    model = trained_looking(CONFIG)
    sleep(model, [0, 2])
    whole = average_of(name, settings, model)
    wake(model, [2, 0], torch.Generator().manual_seed(0))
    whole.update(model, 0.3)
    jolt(model, 0)
    whole.update(model, 0.4)
    resumed = average_of(name, settings, model)
    resumed.load_state_dict(whole.state_dict())
    jolt(model, 1)
    for average in (whole, resumed):
        average.update(model, 0.5)
    a, b = whole.weights(model), resumed.weights(model)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["upsample.weight"], model.state_dict()["upsample.weight"])


def test_a_waking_flow_begins_the_mean_anew() -> None:
    """The judged weights are of the model's function, not of a mean across two bases."""
    model = trained_looking(CONFIG)
    sleep(model, [0, 2])
    average = averager(model, 0.0)
    average.update(model, 0.3)
    wake(model, [2, 0], torch.Generator().manual_seed(0))
    average.update(model, 0.6)
    judged = average.weights(model)
    assert all(torch.equal(judged[k], w) for k, w in model.state_dict().items())
    k = "upsample.weight"
    before = judged[k].clone()
    jolt(model, 0)
    average.update(model, 0.7)
    assert torch.allclose(average.weights(model)[k], (before + model.state_dict()[k]) / 2)
