"""A batch in parts leaves the gradients of the batch, scaled, poisoned or absent as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests_helpers import trained_looking

from wg.flow import FlowConfig
from wg.flow.grow import sleep
from wg.flow.waveglow import nll
from wg.measure.record import read_events, train_curve
from wg.sweep.rundir import prepare
from wg.train.build import build
from wg.train.guard import poison_gradients
from wg.train.parts import Batch, loss_in_parts, split
from wg.train.run import _run
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]
CONFIG = FlowConfig(
    n_mels=16, n_flows=4, n_early_every=2, n_layers=2, n_channels=4, upsample_kernel=512
)


def batch(B: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    mel = torch.randn(B, 16, 9, generator=generator)
    return mel, 0.3 * torch.randn(B, 2048, generator=generator)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_loss_and_gradients_are_the_whole_batchs(size: int, fused: bool) -> None:
    """Also where the last part is smaller, with flows that have no gradient, and where many
    gradients come of one computation."""
    model = trained_looking(CONFIG)
    for wn in model.WN:
        wn.fused = fused
    model.upsample.fused = fused
    sleep(model, [2])
    found = []
    for parts in ([batch(5)], split(batch(5), size)):
        model.zero_grad()
        loss = loss_in_parts(lambda b: nll(model(*b)), parts, model.parameters())
        loss.backward()
        found.append((loss.detach(), [p.grad for p in model.parameters()]))
    (loss_a, a), (loss_b, b) = found
    assert torch.isclose(loss_a, loss_b, rtol=1e-6)
    assert [g is None for g in a] == [g is None for g in b]
    assert any(g is None for g in a)
    for ga, gb in zip(a, b, strict=True):
        if ga is not None:
            assert torch.allclose(ga, gb, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-8, 0.1])
def test_every_part_is_scaled(factor: float) -> None:
    """1e-8 is nothing in fp16: without the scale, a part's gradient would be lost."""
    ones = (torch.zeros(4, 1), torch.ones(4, 8))
    found = []
    for parts in ([ones], split(ones, 1)):
        w = torch.nn.Parameter(torch.ones(3))
        scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
        scale = torch.tensor(65536.0)

        def loss(b: Batch, w: torch.nn.Parameter = w) -> torch.Tensor:
            # fp16 holds what comes back to it: the gradient times the scale.
            return (w.half().float() * factor * b[1].mean()).sum()

        scaler.scale(loss_in_parts(loss, parts, [w], scaler)).backward()
        assert w.grad is not None
        found.append(w.grad / scale)
    assert torch.allclose(found[0], found[1], rtol=1e-2, atol=0.0)
    assert float(found[1].abs().min()) > 0


def test_an_overflow_in_any_part_is_seen() -> None:
    for bad in range(3):
        audio = torch.ones(3, 8)
        audio[bad] = 1e4
        w = torch.nn.Parameter(torch.ones(3))
        scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
        optimizer = torch.optim.SGD([w], lr=1.0)
        parts = split((torch.zeros(3, 1), audio), 1)
        loss = loss_in_parts(
            lambda b, w=w: (w.half().float() * b[1].mean()).sum(), parts, [w], scaler
        )
        scaler.scale(poison_gradients(loss)).backward()
        scaler.unscale_(optimizer)
        assert loss.isfinite()
        assert not w.grad.isfinite().all()


@pytest.mark.parametrize("bad", [0, 2])
def test_a_part_that_is_not_finite_poisons_all_gradients(bad: int) -> None:
    model = trained_looking(CONFIG)
    mel, audio = batch(3)
    audio[bad, 7] = torch.nan
    parts = split((mel, audio), 1)
    poison_gradients(loss_in_parts(lambda b: nll(model(*b)), parts, model.parameters())).backward()
    assert all(p.grad is not None and p.grad.isnan().all() for p in model.parameters())


def test_a_part_holds_as_much_of_short_segments_as_of_long_ones(tiny_config: Config) -> None:
    strategy = {
        "accumulate": {"segments": 1},
        "curriculum": {"segment_lengths": [1024, 4096]},
    }
    module = build(Settings.from_config(tiny_config(strategy=strategy))).module
    for length, B, sizes in ((1024, 8, [4, 4]), (4096, 2, [1, 1]), (1024, 6, [4, 2])):
        shares = module.parts((torch.zeros(B, 16, 5), torch.zeros(B, length)))
        assert [len(audio) for _, audio in shares] == sizes


def test_a_run_in_parts_makes_one_step_a_batch(
    tiny_config: Config, poison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps, skips and clipping are those of the whole batch; the optimizer is asked once."""
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    curves = []
    for extra in ({}, {"accumulate": {"segments": 1}}):
        strategy = {"clip": {"max_norm": 0.5}, "ema": {"decay": 0.9}, "fp16": {}, **extra}
        run_dir = prepare(tiny_config(strategy=strategy, log_every=1), [])
        with poison(lambda step: step in (2, 5)):
            assert _run(run_dir, 0) == 0
        curves.append(train_curve(read_events(run_dir)))
    for key in ("step", "skipped_steps", "nonfinite_steps", "loss_steps", "samples_seen"):
        assert [e[key] for e in curves[0]] == [e[key] for e in curves[1]]
    losses = [[e["loss"] for e in curve] for curve in curves]
    assert [a is None for a in losses[0]] == [b is None for b in losses[1]]
    for a, b in zip(*losses, strict=True):
        assert a is None or a == pytest.approx(b, abs=2e-3)


def test_a_run_that_diverges_in_parts_is_explained_in_parts(
    tiny_config: Config, poison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What did not fit at once must not be run at once to find the cause."""
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    monkeypatch.setattr("wg.train.guard.MAX_STREAK", 2)
    from wg.flow import WaveGlow

    sizes = set()
    forward = WaveGlow.forward
    monkeypatch.setattr(
        WaveGlow,
        "forward",
        lambda self, mel, audio, *a, **k: (
            sizes.add(len(audio)),
            forward(self, mel, audio, *a, **k),
        )[1],
    )
    run_dir = prepare(tiny_config(strategy={"accumulate": {"segments": 1}}, batch_size=4), [])
    with poison(lambda step: step >= 1):
        assert _run(run_dir, 0) == 1
    (rollback,) = [e for e in read_events(run_dir) if e["event"] == "rollback"]
    assert "the audio that was read is not finite in 1 of 1 segments" in rollback["cause"]
    assert sizes == {1}
