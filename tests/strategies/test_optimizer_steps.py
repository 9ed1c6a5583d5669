"""Steps of optimizers: fused kernels, and fp16's that its scaler leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contract import Config, start_run
from strategies_table import ROWS

from wg.errors import UserError
from wg.measure.record import read_events, train_curve
from wg.train.build import build
from wg.train.module import fused
from wg.train.run import _run
from wg.train.settings import Settings


@pytest.mark.parametrize("optimizer", [[], ["adamw"]])
def test_a_fused_step_is_the_step(optimizer: list[str], tiny_config: Config) -> None:
    """The same gradients make the same weights, over steps that have moments behind them."""
    ended = []
    for extra in ([], ["fused_optimizer"]):
        chosen = {name: ROWS[name] for name in [*optimizer, *extra]}
        job = build(Settings.from_config(tiny_config(strategy=chosen)))
        step = job.module.configure_optimizers()
        assert bool(step.param_groups[0].get("fused")) == bool(extra)
        generator = torch.Generator().manual_seed(0)
        for _ in range(4):
            for p in job.module.model.parameters():
                p.grad = torch.randn(p.shape, generator=generator)
            step.step()
        ended.append(torch.cat([p.detach().flatten() for p in job.module.model.parameters()]))
    assert float((ended[0] - ended[1]).abs().max()) < 1e-6
    assert not torch.equal(ended[0], torch.zeros_like(ended[0]))


def test_an_optimizer_without_a_fused_kernel_is_refused() -> None:
    with pytest.raises(UserError, match="Rprop has no fused kernel"):
        fused(torch.optim.Rprop([torch.nn.Parameter(torch.ones(2))]))


def test_fp16_counts_the_steps_that_its_scaler_skips(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scale that overflows fp16 skips steps until it has fallen far enough, then trains."""
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device: scaler(device, init_scale=2.0**22))
    run_dir = start_run(tiny_config(strategy={"fp16": {}}, log_every=1), tmp_path, "fp16")
    assert _run(run_dir, 0) == 0
    curve = train_curve(read_events(run_dir))
    skipped = [e["skipped_steps"] for e in curve]
    assert skipped[0] == 1
    assert skipped == sorted(skipped)
    assert skipped[-1] < len(curve)
    assert curve[-1]["loss"] < curve[0]["loss"]
