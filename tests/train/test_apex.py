"""NVIDIA's apex: told from its namesake on disk, every kind of release, and what is asked of it.

apex cannot be built here. Folders that look like its releases stand for it; what their
optimizers are given is looked at, and their mathematics is torch's.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from wg.errors import UserError
from wg.measure.record import read_events, train_curve
from wg.plan import Base, StrategyConflict
from wg.strategies import make_plan
from wg.sweep.rundir import prepare
from wg.train.apex_amp import ApexO1
from wg.train.recorder import Recorder
from wg.train.run import _run
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]
OPTIMIZERS = """
import torch

class FusedAdam(torch.optim.Adam):
    def __init__(self, params, lr=1e-3, bias_correction=True, betas=(0.9, 0.999), eps=1e-8,
                 adam_w_mode=True, weight_decay=0.0, amsgrad=False, set_grad_none=True):
        self.asked = {"adam_w_mode": adam_w_mode}
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

class FusedLAMB(torch.optim.SGD):
    def __init__(self, params, lr=1e-3, bias_correction=True, betas=(0.9, 0.999), eps=1e-6,
                 weight_decay=0.01, amsgrad=False, adam_w_mode=True, grad_averaging=True,
                 set_grad_none=True, max_grad_norm=1.0, use_nvlamb=False):
        self.asked = {"max_grad_norm": max_grad_norm, "betas": betas, "eps": eps}
        super().__init__(params, lr=lr)
"""
# What 25.05's amp does at O1, in its terms: a cast around convolutions that can be switched off,
# a loss scale that overflows lower, a step that is replaced by nothing once after an overflow.
AMP = """
import types
from contextlib import contextmanager
import torch
import torch.nn.functional as F

_amp_state = types.SimpleNamespace(handle=types.SimpleNamespace(_is_active=True))
_scaler = {"loss_scale": 2.0**16, "unskipped": 0}

def _half(function):
    def cast(*args, **kwargs):
        if not _amp_state.handle._is_active:
            return function(*args, **kwargs)
        args = [a.half() if torch.is_tensor(a) else a for a in args]
        return function(*args, **kwargs)
    return cast

def initialize(models, optimizers, opt_level, verbosity):
    assert opt_level == "O1"
    for name in ("conv1d", "conv_transpose1d"):
        setattr(F, name, _half(getattr(F, name)))
    for optimizer in optimizers:
        optimizer._amp_stash = types.SimpleNamespace(already_patched=False)
        step = optimizer.step
        def uncast(*args, step=step, **kwargs):
            with disable_casts():
                return step(*args, **kwargs)
        optimizer.step = uncast
    return models, optimizers

@contextmanager
def disable_casts():
    _amp_state.handle._is_active = False
    yield
    _amp_state.handle._is_active = True

@contextmanager
def scale_loss(loss, optimizer):
    yield loss.float() * _scaler["loss_scale"]
    grads = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    for grad in grads:
        grad.mul_(1 / _scaler["loss_scale"])
    if all(bool(grad.isfinite().all()) for grad in grads):
        _scaler["unskipped"] += 1
        return
    _scaler.update(loss_scale=_scaler["loss_scale"] / 2, unskipped=0)
    step = optimizer.step
    def skip():
        optimizer.step, optimizer._amp_stash.already_patched = step, False
    optimizer.step, optimizer._amp_stash.already_patched = skip, True

def state_dict():
    return {"loss_scaler0": dict(_scaler)}

def load_state_dict(state):
    _scaler.update(state["loss_scaler0"])
"""
# Folders of a release: (path, what is in its __init__.py)
NVIDIA = {
    "apex": "from . import optimizers",
    "apex/multi_tensor_apply": "",
    "apex/optimizers": OPTIMIZERS,
}
RELEASES: dict[str, dict[str, str]] = {
    "none": {},
    "namesake": {"apex": "raise RuntimeError('was imported')", "apex/lib": ""},
    "no kernels": {**NVIDIA, "apex/amp": ""},
    "25.05": {**NVIDIA, "apex/amp": AMP, "amp_C": ""},
    "25.07": {**NVIDIA, "amp_C": ""},
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """``install("25.07")`` puts such a release first on the import path."""

    def put(release: str) -> None:
        if release == "none" and importlib.util.find_spec("apex") is not None:
            pytest.skip("an apex is installed here")
        for folder, text in RELEASES[release].items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / "__init__.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()

    yield put
    for name in [n for n in sys.modules if n.split(".")[0] in ("apex", "amp_C")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("release", "sentence"),
    [
        ("none", "which no package index has: build it from its source"),
        ("namesake", "is an unrelated package of that name: pip uninstall apex"),
        ("no kernels", "was built without: build it again"),
    ],
)
def test_what_is_not_apex_is_refused_by_name(
    release: str, sentence: str, install: Callable[[str], None], tiny_config: Config
) -> None:
    install(release)
    with pytest.raises(UserError) as e:
        Settings.from_config(tiny_config(strategy={"apex": {}})).plan()
    assert str(e.value).startswith("strategy 'apex' needs")
    assert sentence in str(e.value)


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, torch.nn.Parameter]]:
    """Parameters that pass for a GPU's."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    shapes = {
        "WN.0.start.weight_v": (4, 2, 1),
        "WN.0.start.bias": (4,),
        "convinv.0.conv.weight": (2, 2, 1),
    }
    return [(n, torch.nn.Parameter(torch.ones(s))) for n, s in shapes.items()]


def optimizer(weights: list[tuple[str, torch.nn.Parameter]], **settings: Any) -> Any:
    build = make_plan(Base(), {"apex": settings}).optimizer
    assert build is not None
    return build(weights)


@pytest.mark.parametrize("release", ["25.05", "25.07"])
def test_each_optimizer_is_asked_for_what_its_name_says(
    release: str, install: Callable[[str], None], weights: Any, tiny_config: Config
) -> None:
    install(release)
    Settings.from_config(tiny_config(strategy={"apex": {}})).plan()
    adam = optimizer(weights)
    assert type(adam).__name__ == "FusedAdam"
    assert adam.asked == {"adam_w_mode": False}
    # The published recipe's.
    reference = torch.optim.Adam([p for _, p in weights], lr=1e-4)
    for group in adam.param_groups:
        for key in ("lr", "betas", "eps", "weight_decay"):
            assert group[key] == reference.param_groups[0][key]
    adamw = optimizer(weights, optimizer="adamw", weight_decay=0.1, lr=1e-3)
    assert adamw.asked == {"adam_w_mode": True}
    assert [g["weight_decay"] for g in adamw.param_groups] == [0.1, 0.0]
    assert [len(g["params"]) for g in adamw.param_groups] == [1, 2]
    lamb = optimizer(weights, optimizer="lamb", weight_decay=0.01, beta2=0.99)
    assert type(lamb).__name__ == "FusedLAMB"
    # It would clip at a norm of 1 by itself, whatever the recipe says.
    assert lamb.asked == {"max_grad_norm": float("inf"), "betas": (0.9, 0.99), "eps": 1e-8}


def test_what_it_cannot_do_is_refused(install: Callable[[str], None]) -> None:
    install("25.07")
    build = make_plan(Base(), {"apex": {}}).optimizer
    assert build is not None
    with pytest.raises(UserError, match="strategy 'apex' needs a GPU"):
        build([("a.bias", torch.nn.Parameter(torch.ones(2)))])
    with pytest.raises(UserError, match="positive weight_decay"):
        make_plan(Base(), {"apex": {"optimizer": "lamb"}})
    for other in ("fused_optimizer", "adamw"):
        with pytest.raises(StrategyConflict, match=other):
            make_plan(Base(), {"apex": {}, other: {}})
    with pytest.raises(StrategyConflict, match="bf16"):
        make_plan(Base(), {"apex": {"amp": "O1"}, "bf16": {}})


def test_amp_of_a_release_that_has_none_is_refused(install: Callable[[str], None]) -> None:
    install("25.07")
    with pytest.raises(UserError, match=r"O1 needs a release of apex up to 25\.05"):
        ApexO1()


@pytest.mark.parametrize("extra", [{}, {"accumulate": {"segments": 1}, "clip": {"max_norm": 0.5}}])
def test_o1_is_todays_fp16(
    extra: dict[str, Any],
    install: Callable[[str], None],
    tiny_config: Config,
    tmp_path: Path,
    poison: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit: losses, overflows, steps that are skipped and the scale that is left, with a
    stop and a resumption in between."""
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    for name in ("conv1d", "conv_transpose1d"):
        monkeypatch.setattr(torch.nn.functional, name, getattr(torch.nn.functional, name))
    curves = []
    adamw = {"lr": 1e-3, "beta2": 0.999, "weight_decay": 0.0}
    for recipe in ({"adamw": adamw, "fp16": {}}, {"apex": {"amp": "O1", "lr": 1e-3}}):
        if "apex" in recipe:
            install("25.05")
            monkeypatch.setattr(torch.Tensor, "is_cuda", True)
        config = tiny_config(strategy={**recipe, **extra}, log_every=1, out=str(tmp_path / "runs"))
        run_dir = prepare(config, [])
        with monkeypatch.context() as m, poison(lambda step: step in (2, 5)):
            m.setattr(Recorder, "_log", stop_after(4))
            assert _run(run_dir, 0) == 130
            m.undo()
            assert _run(run_dir, 0) == 0
        curves.append(train_curve(read_events(run_dir)))
    keys = ("step", "loss", "skipped_steps", "nonfinite_steps")
    assert [[e[k] for k in keys] for e in curves[0]] == [[e[k] for k in keys] for e in curves[1]]
    assert curves[1][-1]["nonfinite_steps"] == 2
    handle = importlib.import_module("apex.amp")._amp_state.handle
    assert not handle._is_active  # or scores would be of float16


def stop_after(step: int) -> Callable[..., None]:
    log = Recorder._log

    def stop(self: Any, trainer: Any) -> None:
        log(self, trainer)
        if self.job.data.step == step:
            self._signal = 15

    return stop
