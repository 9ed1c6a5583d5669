"""Folders that look like releases of apex, which cannot be built here, or like its namesake."""

from __future__ import annotations

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
# What 25.05's amp does, in its terms. At O1: a cast around convolutions that can be switched off.
# At O2: float16 weights, and fp32 masters of them in the optimizer's groups, which are copied back
# after a step. At both: a loss scale that overflows lower, a step that is replaced by nothing once
# after an overflow.
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
    for optimizer in optimizers:
        optimizer._amp_stash = types.SimpleNamespace(already_patched=False)
    return {"O1": _o1, "O2": _o2}[opt_level](models, optimizers)

def _o1(models, optimizers):
    for name in ("conv1d", "conv_transpose1d"):
        setattr(F, name, _half(getattr(F, name)))
    for optimizer in optimizers:
        optimizer._prepare_amp_backward = optimizer._post_amp_backward = lambda: None
        step = optimizer.step
        def uncast(*args, step=step, **kwargs):
            with disable_casts():
                return step(*args, **kwargs)
        optimizer.step = uncast
    return models, optimizers

def _o2(models, optimizers):
    for model in models:
        for module in model.modules():
            tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            for tensor in tensors:
                tensor.data = tensor.data.half()
    (optimizer,) = optimizers
    optimizer.load_state_dict(optimizer.state_dict())
    stash = optimizer._amp_stash
    stash.lazy = False

    def lazy():
        if stash.lazy:
            return
        stash.lazy = True
        stash.fp16_groups, stash.fp32_from_fp16_groups = [], []
        for group in optimizer.param_groups:
            stash.fp16_groups.append([p for p in group["params"] if p.dtype == torch.half])
            masters = {p: p.detach().clone().float() for p in stash.fp16_groups[-1]}
            stash.fp32_from_fp16_groups.append(list(masters.values()))
            group["params"] = [masters.get(p, p) for p in group["params"]]
        stash.all_fp16_params = sum(stash.fp16_groups, [])
        stash.all_fp32_from_fp16_params = sum(stash.fp32_from_fp16_groups, [])

    def prepare():
        lazy()
        for p in stash.all_fp16_params:
            p.grad = None

    def post():
        for half, master in zip(stash.all_fp16_params, stash.all_fp32_from_fp16_params):
            if half.grad is not None:
                assert half.grad.dtype == torch.half and master.grad is None
                master.grad = half.grad.float()

    optimizer._amp_lazy_init = lazy
    optimizer._prepare_amp_backward, optimizer._post_amp_backward = prepare, post
    step, zero_grad = optimizer.step, optimizer.zero_grad
    def new_step(closure=None):
        assert closure is None
        step()
        with torch.no_grad():
            for half, master in zip(stash.all_fp16_params, stash.all_fp32_from_fp16_params):
                half.copy_(master)
                master.grad = None
    def new_zero_grad():
        lazy()
        zero_grad()
    optimizer.step, optimizer.zero_grad = new_step, new_zero_grad
    return models, optimizers

@contextmanager
def disable_casts():
    _amp_state.handle._is_active = False
    yield
    _amp_state.handle._is_active = True

@contextmanager
def scale_loss(loss, optimizer):
    optimizer._prepare_amp_backward()
    yield loss.float() * _scaler["loss_scale"]
    optimizer._post_amp_backward()
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
