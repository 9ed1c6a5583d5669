"""A step whose gradients are not finite is not made: weights, optimizer and average stay."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wg.measure.record import read_events, train_curve
from wg.strategies.ema import ExponentialAverage
from wg.sweep.rundir import prepare
from wg.train.guard import MAX_STREAK, MIN_SCALE, Guard, GuardedMixed, GuardedPrecision
from wg.train.guard import poison_gradients as poisoned
from wg.train.run import _run

Config = Callable[..., dict[str, Any]]


class Counting(torch.optim.SGD):
    """Counts before it looks at gradients, as Apex's FusedAdam and schedule-free ones do."""

    def step(self, closure: Any = None) -> Any:
        self.param_groups[0]["k"] = self.param_groups[0].get("k", 0) + 1
        return super().step(closure)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1),
    "counting": lambda p: Counting(p, lr=0.1),
}


def guarded_step(plugin: GuardedPrecision, optimizer: Any, guard: Guard, factor: float) -> None:
    """One step on the loss factor * sum(w)."""
    w = optimizer.param_groups[0]["params"][0]
    trainer = SimpleNamespace()
    model = SimpleNamespace(guard=guard, trainer=trainer)
    plugin._after_closure = lambda *a: None  # Lightning's hooks need a Trainer

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = poisoned(w.sum() * factor)
        (plugin.scaler.scale(loss) if plugin.scaler else loss).backward()
        return loss.detach()

    plugin.optimizer_step(optimizer, model, closure)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e25], ids=["nan", "inf", "huge"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_skipped_step_changes_nothing(name: str, factor: float) -> None:
    """1e25: finite gradients whose squares overflow, which Adam would remember for ever."""
    w = torch.nn.Parameter(torch.ones(8))
    optimizer, guard = OPTIMIZERS[name]([w]), Guard()
    plugin = GuardedPrecision()
    guarded_step(plugin, optimizer, guard, 1.0)
    weights, state = w.detach().clone(), copy.deepcopy(optimizer.state_dict())
    assert not torch.equal(weights, torch.ones(8))
    guarded_step(plugin, optimizer, guard, factor)
    assert torch.equal(w, weights)
    after = optimizer.state_dict()
    assert after["param_groups"] == state["param_groups"]
    for key, value in state["state"].get(0, {}).items():
        same = torch.equal(after["state"][0][key], value) if torch.is_tensor(value) else (
            after["state"][0][key] == value
        )  # fmt: skip
        assert same, key
    assert (guard.skipped, guard.nonfinite, guard.streak) == (1, 1, 1)
    guarded_step(plugin, optimizer, guard, 1.0)
    assert not torch.equal(w, weights)
    assert (guard.skipped, guard.streak) == (1, 0)


def test_fp16_tells_its_overflows_from_losses_that_are_not_finite() -> None:
    """Counted once each; only an overflow lowers the scale."""
    w = torch.nn.Parameter(torch.ones(8))
    optimizer, guard = torch.optim.Adam([w]), Guard()
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    plugin = GuardedMixed("16-mixed", "cpu", scaler)
    model = torch.nn.ParameterList([w])
    guarded_step(plugin, optimizer, guard, float("nan"))
    assert (guard.skipped, guard.nonfinite, scaler.get_scale()) == (1, 1, 65536.0)
    guarded_step(plugin, optimizer, guard, 1e34)  # times the scale: beyond fp32 itself
    assert (guard.skipped, guard.nonfinite, scaler.get_scale()) == (2, 1, 32768.0)
    assert guard.scale == (65536.0, 65536.0)
    assert not guard.hopeless(model)
    guarded_step(plugin, optimizer, guard, 1.0)
    assert (guard.skipped, guard.streak, scaler.get_scale()) == (2, 0, 32768.0)
    assert torch.all(w < 1)


def test_when_training_cannot_go_on() -> None:
    w = torch.nn.Parameter(torch.ones(8))
    model = torch.nn.ParameterList([w])
    optimizer, guard = torch.optim.Adam([w]), Guard()
    for n in range(1, MAX_STREAK + 1):
        assert not guard.hopeless(model)
        guarded_step(GuardedPrecision(), optimizer, guard, float("nan"))
        assert guard.streak == n
    assert guard.hopeless(model) == f"{MAX_STREAK} steps in a row were not finite"
    again = Guard()
    again.load_state_dict(guard.state_dict())
    assert again.state_dict() == guard.state_dict()
    guarded_step(GuardedPrecision(), optimizer, guard, 1.0)
    assert not guard.hopeless(model)
    guarded_step(GuardedPrecision(), optimizer, guard, float("nan"))
    with torch.no_grad():
        w[3] = torch.inf
    assert guard.hopeless(model) == "weights are not finite"


def test_a_scale_that_fell_too_far_is_told() -> None:
    w = torch.nn.Parameter(torch.ones(8))
    optimizer, guard = torch.optim.SGD([w], lr=0.0), Guard()
    scaler = torch.amp.GradScaler("cpu", init_scale=4 * MIN_SCALE)
    plugin = GuardedMixed("16-mixed", "cpu", scaler)
    w.register_hook(lambda g: g * torch.inf)  # fp16's backward pass overflows, the loss is finite
    seen = []
    while not guard.hopeless(torch.nn.ParameterList([w])):
        assert len(seen) < 10
        seen.append(scaler.get_scale())
        guarded_step(plugin, optimizer, guard, 1.0)
    assert seen == [4 * MIN_SCALE, 2 * MIN_SCALE, MIN_SCALE]
    assert "fell from 0.015625 to 0.0039" in guard.hopeless(torch.nn.ParameterList([w]))
    assert (guard.skipped, guard.nonfinite) == (3, 0)


def test_a_finite_loss_keeps_its_gradient_to_the_bit() -> None:
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    grads = []
    for f in (poisoned, lambda loss: loss):
        w = x.clone().requires_grad_()
        loss = f((w * torch.tanh(w)).mean())
        loss.backward()
        grads.append((loss.detach(), w.grad))
    assert torch.equal(grads[0][0], grads[1][0])
    assert torch.equal(grads[0][1], grads[1][1])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_bad_batches_are_skipped_counted_and_survived(
    precision: str, tiny_config: Config, poison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With clipping, whose factor would be NaN, and an average, which must not average twice."""
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    updates = []
    update = ExponentialAverage.update
    monkeypatch.setattr(
        ExponentialAverage, "update", lambda self, *a: (updates.append(1), update(self, *a))[0]
    )
    recipe: dict[str, Any] = {"clip": {}, "ema": {"decay": 0.9}}
    if precision != "fp32":
        recipe[precision] = {}
    run_dir = prepare(tiny_config(strategy=recipe, log_every=1), [])
    with poison(lambda step: step in (2, 3, 6)):
        assert _run(run_dir, 0) == 0
    curve = train_curve(read_events(run_dir))
    assert [e["skipped_steps"] for e in curve] == [0, 0, 1, 2, 2, 2, 3, 3]
    assert [e["nonfinite_steps"] for e in curve] == [0, 0, 1, 2, 2, 2, 3, 3]
    assert [e["loss_steps"] for e in curve] == [1, 1, 0, 0, 1, 1, 0, 1]
    assert [e["loss"] is None for e in curve] == [n == 0 for n in [1, 1, 0, 0, 1, 1, 0, 1]]
    assert len(updates) == 5
    # The bad batches are used up all the same: the run ends where it would have ended.
    assert curve[-1]["step"] == 8
    assert curve[-1]["samples_seen"] == 8 * 2 * 4096


def test_the_mean_loss_is_over_finite_steps(
    tiny_config: Config, poison: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    run_dir = prepare(tiny_config(log_every=4), [])
    with poison(lambda step: step in (1, 4)):
        assert _run(run_dir, 0) == 0
    curve = train_curve(read_events(run_dir))
    assert [e["loss_steps"] for e in curve] == [3, 3]
    assert all(e["loss"] is not None for e in curve)
    out = capsys.readouterr().out
    assert "step 2 is skipped: its loss is not finite" in out
    assert "2 steps skipped" in out
