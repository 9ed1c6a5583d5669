"""The old mixed precision of apex: what O1 and O2 compute, against PyTorch's own in float16.

A stand-in for the release's amp does what that does, in its terms; the guard, resumption and the
weights that are saved are what is looked at.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from wg.checkpoint.weights import read_weights
from wg.errors import UserError
from wg.flow import FlowOutput, WaveGlow
from wg.measure.record import read_events, train_curve
from wg.plan import StrategyConflict
from wg.strategies import make_plan
from wg.sweep.rundir import prepare
from wg.train.apex_amp import check_amp
from wg.train.build import precision_plugin
from wg.train.data import SegmentStream
from wg.train.run import _run
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("level", ["O1", "O2"])
def test_amp_of_a_release_that_has_none_is_refused(
    level: str, install: Callable[[str], None]
) -> None:
    install("25.07")
    with pytest.raises(UserError, match=rf"{level} needs a release of apex up to 25\.05"):
        precision_plugin(f"apex-{level}", torch.device("cpu"))


REFUSED = {
    "O1": {"compile": {}, "recompute": {}, "reversible": {}, "fused_wn": {}},
    "O2": {"compile": {}, "ddp": {"ranks": 2}},
}


@pytest.mark.parametrize(("level", "other"), [(k, n) for k in REFUSED for n in REFUSED[k]])
def test_amp_refuses_by_name_what_it_would_compute_wrongly(
    level: str, other: str, tiny_config: Config
) -> None:
    for amp in (level, "none"):
        recipe = {"apex": {"amp": amp}, other: REFUSED[level][other]}
        settings = Settings.from_config(tiny_config(strategy=recipe))
        plan = make_plan(settings.base(), settings.strategy)
        if amp == "none":
            check_amp(plan)
            continue
        with pytest.raises(StrategyConflict, match=f"'{other}' and 'apex'.* amp={level} "):
            check_amp(plan)


@pytest.fixture
def trained(
    install: Callable[[str], None],
    tiny_config: Config,
    tmp_path: Path,
    poison: Any,
    stopped: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[dict[str, Any]], tuple[list[list[Any]], dict[str, torch.Tensor]]]:
    """``trained(recipe)``: (curve, weights) of eight steps: two poisoned, one too loud for the
    loss scale, with a stop and a resumption behind the fourth."""
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    batch = SegmentStream.batch

    def loud(self: SegmentStream, step: int, *args: Any) -> Any:
        mel, audio = batch(self, step, *args)
        return mel, audio * (3000 if step == LOUD else 1)

    monkeypatch.setattr(SegmentStream, "batch", loud)
    for name in ("conv1d", "conv_transpose1d"):
        monkeypatch.setattr(F, name, getattr(F, name))

    def train(recipe: dict[str, Any]) -> tuple[list[list[Any]], dict[str, torch.Tensor]]:
        if "apex" in recipe:
            install("25.05")
            monkeypatch.setattr(torch.Tensor, "is_cuda", True)
        config = tiny_config(strategy=recipe, log_every=1, out=str(tmp_path / "runs"))
        run_dir = prepare(config, [])
        with poison(lambda step: step in (2, 5)):
            with stopped(4):
                assert _run(run_dir, 0) == 130
            assert _run(run_dir, 0) == 0
        keys = ("step", "loss", "skipped_steps", "nonfinite_steps")
        curve = [[e[k] for k in keys] for e in train_curve(read_events(run_dir))]
        assert curve[-1][2:] == [3, 2]
        _, weights, _ = read_weights(run_dir / "final")
        return curve, weights

    return train


LOUD = 3  # the step
ADAM = {"lr": 1e-3, "beta2": 0.999, "weight_decay": 0.0}
PARTS = {"accumulate": {"segments": 1}, "clip": {"max_norm": 0.5}}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("extra", [{}, PARTS])
def test_o1_is_todays_fp16(extra: dict[str, Any], trained: Any) -> None:
    """To the bit: losses, overflows, steps that are skipped, the scale that is left, weights."""
    curve, weights = trained({"adamw": ADAM, "fp16": {}, **extra})
    apex_curve, apex_weights = trained({"apex": {"amp": "O1", "lr": 1e-3}, **extra})
    assert curve == apex_curve
    assert same(weights, apex_weights)
    handle = importlib.import_module("apex.amp")._amp_state.handle
    assert not handle._is_active  # or scores would be of float16


@pytest.mark.parametrize(
    ("extra", "exact"),
    [
        ({}, True),
        ({"clip": {"max_norm": 0.5}, "ema": {}}, True),
        ({"recompute": {}}, True),
        ({"reversible": {}}, False),
        ({"fused_wn": {}}, False),
        ({"interpolated_mel": {}, "lr_schedule": {}}, True),
        ({"grow_flows": {}, "lpc_whiten": {}}, True),
        (PARTS, False),
    ],
    ids=lambda v: "+".join(v) if isinstance(v, dict) else "",
)
def test_o2_is_fp16_with_weights_rounded_in_a_step(
    extra: dict[str, Any], exact: bool, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And their gradients; what is saved, averaged and moved are fp32 weights."""
    plain = WaveGlow.forward

    def forward(self: WaveGlow, *args: Any) -> FlowOutput:
        if not torch.is_grad_enabled():
            return plain(self, *args)
        halves = {
            name: p.half()
            for name, p in self.named_parameters()
            if name.split(".")[0] in ("upsample", "WN")
        }
        with monkeypatch.context() as m:
            m.setattr(WaveGlow, "forward", plain)
            return functional_call(self, halves, args)  # type: ignore[no-any-return]

    with monkeypatch.context() as m:
        m.setattr(WaveGlow, "forward", forward)
        # What is computed again on the way back needs the weights in place then too.
        again = ("recompute", "reversible", "fused_wn")
        others = {k: v for k, v in extra.items() if k not in again}
        curve, weights = trained({"adamw": ADAM, "fp16": {}, **others})
    apex_curve, apex_weights = trained({"apex": {"amp": "O2", "lr": 1e-3}, **extra})
    assert any(not torch.equal(w, w.half().float()) for k, w in weights.items() if "WN" in k)
    if exact:
        assert curve == apex_curve
        assert same(weights, apex_weights)
    else:
        for (_, loss, *steps), (_, apex_loss, *apex_steps) in zip(curve, apex_curve, strict=True):
            assert steps == apex_steps
            assert apex_loss == (None if loss is None else pytest.approx(loss, rel=1e-5, abs=1e-3))
        for name, weight in weights.items():
            # A step of Adam moves by up to its rate whatever the gradient's rounding.
            assert float((weight - apex_weights[name]).abs().max()) < 4.5e-3, name
