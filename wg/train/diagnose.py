"""Why a step was not finite: the batch is run again and the first bad tensor is named.

Nothing is guessed. Hooks watch every module's inputs and outputs in order of computation, and
every gradient in order of the backward pass; the first that is not finite is the finding.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from wg.flow import WaveGlow
from wg.flow.waveglow import nll

Kind = Literal["weights", "data", "forward", "backward", "none"]


@dataclass(frozen=True)
class Finding:
    """The first tensor that is not finite.

    what   in words
    half   it is in fp16, whose range ends at 65504
    items  the batch's items that it is not finite in; empty where it belongs to none
    """

    kind: Kind
    what: str
    half: bool = False
    items: tuple[int, ...] = ()


@dataclass(frozen=True)
class Level:
    """Of some segments of a batch: how many, of how many in all; how many of them are digital
    silence (most samples exactly 0); the peak of the loudest in dB of full scale."""

    n: int
    of: int
    silent: int
    peak_db: float

    def describe(self) -> str:
        if self.silent:
            kind = "digital silence" if self.silent == self.n else f"{self.silent} digital silence"
        else:
            kind = f"none digital silence, the loudest peaks at {self.peak_db:.0f} dB"
        return f"{self.n} of {self.of} segments ({kind})"


def level(audio: Tensor, items: Sequence[int] = ()) -> Level:
    """audio (B, T): of ``items`` of it, or of all."""
    chosen = audio[list(items)] if items else audio
    silent = int(((chosen == 0).float().mean(dim=1) > 0.5).sum())
    peak = float(chosen.abs().max())
    peak_db = 20 * math.log10(peak) if peak > 0 else -math.inf
    return Level(len(chosen), len(audio), silent, peak_db)


def diagnose(
    model: WaveGlow,
    batch: tuple[Tensor, Tensor],
    sigma: float,
    autocast: AbstractContextManager[Any],
    scale: float = 1.0,
) -> Finding:
    """The first tensor that is not finite when ``batch`` (mel, audio) goes through ``model`` and
    back, the loss times ``scale`` as fp16 does. The model and its gradients stay as they are."""
    # A copy: without the hooks that a strategy or DDP put on the model, free to take ours.
    model = copy.deepcopy(model)
    model.zero_grad(set_to_none=True)
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            return Finding("weights", f"{name} is not finite: a step before it was too large")
    for name, value in zip(("mel", "audio"), batch, strict=True):
        if not value.isfinite().all():
            items = _items(value, len(value))
            return Finding("data", f"the {name} that was read is not finite", items=items)
    watch = _Watch(model, len(batch[1]))
    try:
        with autocast:
            output = model(*batch)
            loss = nll(output, sigma)
        if watch.found is None and not loss.isfinite():
            reach = float(output.z.detach().abs().max())
            watch.report(f"the sum of z^2 overflowed (max |z| {reach:.3g})")
        if watch.found is None:
            watch.backward = True
            (loss * scale).backward()
    finally:
        watch.close()
    if watch.found is not None:
        return watch.found
    norms = {n: float(p.grad.norm()) for n, p in model.named_parameters() if p.grad is not None}
    if norms and not math.isfinite(math.hypot(*norms.values())):
        name = max(norms, key=lambda n: norms[n])
        return Finding("backward", f"the gradients' norm overflowed ({name}: {norms[name]:.3g})")
    return Finding("none", "the same batch alone, run again, gave finite gradients")


class _Watch:
    """Hooks on every module of ``model``; ``found`` is the first tensor that is not finite."""

    def __init__(self, model: WaveGlow, batch_size: int) -> None:
        self.batch_size = batch_size
        self.found: Finding | None = None
        self.backward = False
        self._log_s: dict[str, float] = {}  # flow -> its largest log_s, in order of computation
        self._handles: list[RemovableHandle] = []
        for name, module in model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._before(name)))
            self._handles.append(module.register_forward_hook(self._after(name)))
        for name, p in model.named_parameters():
            hook = self._on_gradient(f"the gradient of {name}", parameter=True)
            self._handles.append(p.register_post_accumulate_grad_hook(hook))

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def report(self, what: str, tensor: Tensor | None = None, parameter: bool = False) -> None:
        if self.found is not None:
            return
        half = tensor is not None and tensor.dtype == torch.float16
        items = () if tensor is None or parameter else _items(tensor, self.batch_size)
        kind: Kind = "backward" if self.backward else "forward"
        self.found = Finding(kind, what, half, items)

    def _before(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            for tensor in _tensors(inputs):
                if not tensor.isfinite().all():
                    self.report(self._between(name), tensor)

        return hook

    def _after(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for i, tensor in enumerate(_tensors(output)):
                if not tensor.isfinite().all():
                    self.report(self._inside(name, i, tensor, inputs), tensor)
                if tensor.requires_grad:
                    what = f"the gradient at the output of {name or 'the model'}"
                    self._handles.append(tensor.register_hook(self._on_gradient(what)))
            if re.fullmatch(r"WN\.\d+", name) and self.found is None:
                log_s = output.detach().chunk(2, dim=1)[1]
                self._log_s[name.split(".")[1]] = float(log_s.max())

        return hook

    def _on_gradient(self, what: str, parameter: bool = False) -> Any:
        def hook(tensor: Tensor) -> None:
            gradient = tensor.grad if parameter else tensor
            if gradient is not None and not gradient.isfinite().all():
                self.report(f"{what} is not finite", gradient, parameter)

        return hook

    def _between(self, name: str) -> str:
        """In words: modules before ``name`` were finite, and what reaches it is not."""
        if re.fullmatch(r"(convinv|WN)\.\d+", name) or not name:
            return self._affine()
        return f"the input of {name} overflowed"

    def _affine(self) -> str:
        """The affine step is no module: exp(log_s) * a1 + b of the flow that came last."""
        if not self._log_s:
            return "the model's input overflowed"
        limit = math.log(torch.finfo(torch.float32).max)
        for flow, log_s in self._log_s.items():
            if log_s > limit:
                return f"log_s of flow {flow} overflowed exp (max {log_s:.1f})"
        flow, log_s = list(self._log_s.items())[-1]
        return f"the affine step of flow {flow} overflowed (log_s up to {log_s:.1f})"

    def _inside(self, name: str, i: int, tensor: Tensor, inputs: Any) -> str:
        """In words: what reached module ``name`` was finite, and its output ``i`` is not."""
        kind, _, flow = name.partition(".")
        if not name:  # the whole model: z after the last affine step, or a sum
            sums = ("the sum of log_s", "the sum of log|det W|")
            return self._affine() if i == 0 else f"{sums[i - 1]} overflowed"
        if kind == "convinv" and i == 1:
            return f"W of flow {flow} is singular (log|det W| = {float(tensor.detach()):g})"
        reach = max((float(t.detach().abs().max()) for t in _tensors(inputs)), default=0.0)
        ends = torch.finfo(tensor.dtype)
        dtype = str(tensor.dtype).removeprefix("torch.")
        return f"{name} overflowed {dtype}, which ends at {ends.max:.3g} (its input: {reach:.3g})"


def _items(tensor: Tensor, batch_size: int) -> tuple[int, ...]:
    """Where along the batch ``tensor`` (B, ...) is not finite."""
    if tensor.dim() == 0 or len(tensor) != batch_size:
        return ()
    bad = ~tensor.detach().reshape(batch_size, -1).isfinite().all(dim=1)
    return tuple(bad.nonzero().flatten().tolist())


def _tensors(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors in nested tuples, in order."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, (tuple, list)):
        for v in value:
            yield from _tensors(v)
