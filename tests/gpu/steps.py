"""Steps of recipes on a GPU that is not there: shapes, dtypes and devices of every operation, no
numbers. In a process of its own, because PyTorch looks for a GPU when it is loaded.

    LD_PRELOAD=STAND_IN.so python steps.py JOBS.json FOUND.json

JOBS: recipe -> configuration of a run. FOUND: recipe -> what went wrong, empty when nothing did.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wg.flow import WaveGlow
from wg.flow.fronted import inverse_stream
from wg.flow.waveglow import nll
from wg.train.build import build, precision_plugin
from wg.train.held import Held
from wg.train.prepare import fit_actnorm, prepare
from wg.train.settings import Settings

GPU = torch.device("cuda")


class OnlyGpuIsFake(TorchDispatchMode):
    """Inside of a FakeTensorMode: what is on the GPU has a shape, a dtype and no values; what is
    on the CPU is as always."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._linalg_check_errors.default:
            # Of a fake tensor there is nothing to ask; of a real one its numbers would be.
            raise AssertionError("the host waits to hear whether a matrix was singular")
        for x in tree_leaves((args, kwargs)):
            if isinstance(x, FakeTensor) or (isinstance(x, torch.device) and x.type == "cuda"):
                return func(*args, **kwargs)
        with unset_fake_temporarily():
            return func(*args, **kwargs)


def on_gpu(t: Tensor) -> Tensor:
    return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=GPU)


def train(config: dict[str, Any]) -> None:
    """Two steps on a GPU, from the first to the last shape, without Lightning and its guard; then
    speech."""
    job = build(Settings.from_config(config))
    module, plan, model = job.module, job.plan, job.module.model
    prepare(model, plan, job.data.stream())
    with FakeTensorMode(allow_non_fake_inputs=True), OnlyGpuIsFake():
        module._apply(on_gpu)
        if plan.actnorm:
            fit_actnorm(model, job.data.stream(), GPU)
        precision = precision_plugin(plan.precision, GPU)
        module._trainer = SimpleNamespace(precision_plugin=precision)  # type: ignore[assignment]
        optimizer = module.configure_optimizers()
        average = plan.eval_weights(model) if plan.eval_weights is not None else None
        stream = job.data.stream(held=Held(job.store, GPU) if plan.corpus == "held" else None)
        for i, progress in enumerate((0.0, 1.0)):
            module.grow_to(progress)
            batch = tuple(t.to(GPU) for t in stream.batch(i, 4096, 2, progress))
            step(module, optimizer, precision, batch)
            if average is not None:
                average.update(model, 0.5)
        check_places(model, optimizer, average.weights(model) if average is not None else {})
        speak(model)


def step(module: Any, optimizer: torch.optim.Optimizer, precision: Any, batch: Any) -> None:
    optimizer.zero_grad(set_to_none=True)
    with precision.forward_context():
        loss = module.training_step(batch, 0)
    scaler = getattr(precision, "scaler", None)
    (loss if scaler is None else scaler.scale(loss)).backward()
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    assert grads
    nn.utils.clip_grads_with_norm_(module.parameters(), 1.0, nn.utils.get_total_norm(grads))
    optimizer.step()


@torch.no_grad()
def speak(model: Any) -> None:
    """Likelihood and copy-synthesis, whole and in pieces, of such weights as snapshots hold."""
    c = model.config
    model = WaveGlow(c)._apply(on_gpu)
    mel = torch.empty(1, c.n_mels, 12, device=GPU)
    z = torch.empty(model.z_shape(1, 12), device=GPU)
    audio = model.infer(mel, 1.0, z=z)
    assert audio.device.type == "cuda"
    nll(model(mel, audio))
    stream = inverse_stream(model)
    stream.push(mel, z, last=True)


def check_places(
    model: nn.Module, optimizer: torch.optim.Optimizer, averaged: dict[str, Tensor]
) -> None:
    for name, w in [*model.state_dict().items(), *averaged.items()]:
        assert w.device.type == "cuda", f"{name} is on {w.device}"
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.ndim:
                assert value.device.type == "cuda", f"the optimizer's {name} is on {value.device}"


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    found = {}
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with (
        # Asked before anything is cast.
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        mock.patch("torch.cuda.is_bf16_supported", return_value=True),
        mock.patch("wg.train.held._free", return_value=1 << 30),
        mock.patch("wg.train.compile.BACKEND", "eager"),
    ):
        for name, config in jobs.items():
            try:
                train(config)
                found[name] = ""
            except Exception:
                found[name] = traceback.format_exc()
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
