"""The plain mean of the weights over the last part of training."""

from __future__ import annotations

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
    make = make_plan(Base(), {"swa": {"start": start}}).eval_weights
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
