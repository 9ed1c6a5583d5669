"""Legacy mixed precision of NVIDIA's apex (releases up to 25.05) under the guard: O1 and O2.

Neither touches the modules that carry the signal itself (1x1 convolutions, front ends), where
rounding would quantise it. Whether a step is made is the guard's to say; amp's own verdict is only
its loss scale.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wg.errors import UserError
from wg.plan import Plan, StrategyConflict
from wg.strategies.apex import find_apex
from wg.train.guard import GuardedPrecision

# Children of a WaveGlow that compute in float16. All others carry the signal.
HALF = ("upsample", "WN")


class _LossScale:
    """amp's loss scale with the face of torch's GradScaler, as far as it is looked at."""

    def __init__(self, amp: Any) -> None:
        self.amp = amp

    def get_scale(self) -> float:
        return float(self.amp.state_dict()["loss_scaler0"]["loss_scale"])

    def scale(self, tensor: Tensor) -> Tensor:
        return tensor * self.get_scale()


class ApexAmp(GuardedPrecision):
    """What all levels share: amp's loss scale, under the guard.

    Raises :class:`UserError` where the installed release has no amp.
    """

    level: str

    @classmethod
    def conflicts(cls, plan: Plan) -> dict[str, str]:
        """Slots whose value it cannot be had with, and why."""
        raise NotImplementedError

    def __init__(self) -> None:
        found = find_apex()
        if found is None or not found.amp:
            raise UserError(
                f"strategy.apex.amp={self.level} needs a release of apex up to 25.05, and the one "
                "installed has no amp any more; take strategy fp16, which is PyTorch's own."
            )
        from apex import amp

        self.amp = amp
        self.scaler: Any = _LossScale(amp)

    def connect(
        self, model: nn.Module, optimizers: list[Any], lr_schedulers: list[Any]
    ) -> tuple[nn.Module, list[Any], list[Any]]:
        if optimizers:
            trained: Any = getattr(model, "module", model)  # out of DDP's wrapper
            optimizers = self._initialize(trained.model, optimizers)
        return model, optimizers, lr_schedulers

    def _initialize(self, flow: nn.Module, optimizers: list[Any]) -> list[Any]:
        raise NotImplementedError

    def backward(  # type: ignore[override]
        self, tensor: Tensor, model: Any, optimizer: Any, *args: Any, **kwargs: Any
    ) -> None:
        with self.amp.scale_loss(tensor, optimizer) as scaled:
            super().backward(scaled, model, optimizer, *args, **kwargs)

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Any, model: Any, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        before = self.amp.state_dict()
        scale = self.scaler.get_scale()
        loss = closure()  # leaves unscaled gradients, and the scale lowered when they overflowed
        lowered = self.amp.state_dict()
        self.amp.load_state_dict(before)  # the guard tells of the scale that it happened at
        verdict = model.guard.judge(optimizer, loss, self.scaler)
        assert self.scaler.get_scale() == scale
        if verdict.made or verdict.overflow:
            self.amp.load_state_dict(lowered)
        if verdict.made:
            self._after_closure(model, optimizer)
            optimizer.step(**kwargs)
        elif optimizer._amp_stash.already_patched:
            optimizer.step()  # amp's stand-in, which does nothing but take itself away
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {k: dict(v) for k, v in self.amp.state_dict().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.amp.load_state_dict(state_dict)


class ApexO1(ApexAmp):
    """amp replaces functions of torch by ones that cast to float16. They are active here during
    the forward pass alone, and not in the modules that carry the signal itself."""

    level = "O1"

    @classmethod
    def conflicts(cls, plan: Plan) -> dict[str, str]:
        again = (
            "casts in the forward pass alone, and what is computed again on the way back would not "
            "be what was computed before"
        )
        asked = {
            "compile": plan.compile is not None,
            "memory": plan.memory != "keep",
            "wn": plan.wn == "fused",
        }
        why = {"compile": "exchanges PyTorch's functions, which a compiler does not see"}
        return {slot: why.get(slot, again) for slot in asked if asked[slot]}

    def __init__(self) -> None:
        super().__init__()
        self._off: Any = None  # amp's context in which nothing is cast, while in it
        self._inside = False  # in a module of the signal, and casts are on around it

    def _initialize(self, flow: nn.Module, optimizers: list[Any]) -> list[Any]:
        _, optimizers = self.amp.initialize([flow], optimizers, opt_level="O1", verbosity=0)
        # Its cache of casts asks for the graph of PyTorch 1 when a weight is used twice in a
        # step, as by parts of a batch, and saves nothing where weights are used once.
        self.amp._amp_state.handle._enable_caching = False
        for module in signal_modules(flow):
            module.register_forward_pre_hook(self._enter_signal)
            module.register_forward_hook(self._leave_signal)
        self._casts(False)
        return optimizers

    def _casts(self, on: bool) -> None:
        # Through the one door that amp has; its context managers are entered and left by hand
        # because the forward pass is what lies between leaving and entering.
        if on and self._off is not None:
            self._off.__exit__(None, None, None)
            self._off = None
        elif not on:
            self._off = self.amp.disable_casts()
            self._off.__enter__()

    def _enter_signal(self, *_: Any) -> None:
        self._inside = self._off is None
        if self._inside:
            self._casts(False)

    def _leave_signal(self, *_: Any) -> None:
        if self._inside:
            self._casts(True)

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        self._casts(True)
        try:
            yield
        finally:
            self._casts(False)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().optimizer_step(*args, **kwargs)
        self._casts(False)  # amp switches them on behind every step
        return loss

    def teardown(self) -> None:
        if self._off is None:
            self._casts(False)
        super().teardown()


class ApexO2(ApexAmp):
    """amp keeps float16 weights, and fp32 masters of them that the optimizer moves.

    The masters are the model's own parameters: whatever looks at weights between steps
    (checkpoints, averages, growth, the guard) sees those of any other run, and a resumed run has
    lost nothing by rounding. The float16 weights are a twin's, which stands in the model's place
    while a step is computed, under autocast for what is not weights.
    """

    level = "O2"

    @classmethod
    def conflicts(cls, plan: Plan) -> dict[str, str]:
        found = {}
        if plan.compile is not None:
            found["compile"] = "exchanges modules, which a compiled step does not see"
        if plan.ranks.n > 1:
            found["ranks"] = "has weights that DDP does not know of"
        return found

    def _initialize(self, flow: nn.Module, optimizers: list[Any]) -> list[Any]:
        self.flow = flow
        self.own = {name: getattr(flow, name) for name in HALF}
        self.twin = copy.deepcopy(self.own)
        (optimizer,) = optimizers
        self.masters, self.halves = (
            [p for name in HALF for p in modules[name].parameters()]
            for modules in (self.own, self.twin)
        )
        half_of = dict(zip(self.masters, self.halves, strict=True))
        groups = [list(group["params"]) for group in optimizer.param_groups]
        for group, parameters in zip(optimizer.param_groups, groups, strict=True):
            group["params"] = [half_of.get(p, p) for p in parameters]
        # One module that is never called: amp casts its weights, and autocast all that goes in.
        _, optimizers = self.amp.initialize(
            [nn.ModuleList(self.twin.values())], optimizers, opt_level="O2", verbosity=0
        )
        for name in HALF:  # statistics of mels, say
            for ours, half in zip(self.own[name].modules(), self.twin[name].modules(), strict=True):
                half._buffers.update(ours._buffers)
        optimizer._amp_lazy_init()
        # Masters that amp would make are the model's weights rounded; put these in their places.
        master_of = dict(zip(self.halves, self.masters, strict=True))
        stash = optimizer._amp_stash
        stash.fp32_from_fp16_groups = [[master_of[p] for p in g] for g in stash.fp16_groups]
        stash.all_fp32_from_fp16_params = [master_of[p] for p in stash.all_fp16_params]
        for group, parameters in zip(optimizer.param_groups, groups, strict=True):
            group["params"] = parameters
        return optimizers

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        for name, module in self.twin.items():
            setattr(self.flow, name, module)
        try:
            yield
        finally:
            for name, module in self.own.items():
                setattr(self.flow, name, module)

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        # Not only after steps: weights were loaded, or grew.
        with torch.no_grad():
            torch._foreach_copy_(self.halves, self.masters)
        device = self.masters[0].device.type
        with self._in_place(), torch.autocast(device, torch.float16):
            yield

    def backward(self, *args: Any, **kwargs: Any) -> None:
        with self._in_place():  # for what is computed again on the way back
            super().backward(*args, **kwargs)


LEVELS: dict[str, type[ApexAmp]] = {f"apex-{kind.level}": kind for kind in (ApexO1, ApexO2)}


def check_amp(plan: Plan) -> None:
    """Raises :class:`StrategyConflict` for what amp cannot be had with."""
    if plan.precision not in LEVELS:
        return
    kind, writers = LEVELS[plan.precision], plan.writers()
    for slot, why in kind.conflicts(plan).items():
        raise StrategyConflict(
            f"strategies '{writers[slot]}' and '{writers['precision']}' cannot both be had as they "
            f"are: amp={kind.level} {why}; set strategy.apex.amp=none and take fp16, or take one "
            "of them out of the recipe."
        )


def signal_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Modules of a WaveGlow that the signal itself goes through."""
    for name, child in model.named_children():
        if name not in HALF:
            yield from child if isinstance(child, nn.ModuleList) else [child]
