"""Legacy mixed precision of NVIDIA's apex (releases up to 25.05) under the guard: amp's O1.

amp replaces functions of torch by ones that cast to float16. They are active here during the
forward pass alone, and not in the modules that carry the signal itself (1x1 convolutions, front
ends), where rounding would quantise it. Whether a step is made is the guard's to say; amp's own
verdict is only its loss scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from wg.errors import UserError
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


class ApexO1(GuardedPrecision):
    """Raises :class:`UserError` where the installed release has no amp."""

    def __init__(self) -> None:
        found = find_apex()
        if found is None or not found.amp:
            raise UserError(
                "strategy.apex.amp=O1 needs a release of apex up to 25.05, and the one installed "
                "has no amp any more; take strategy fp16, which is PyTorch's own."
            )
        from apex import amp

        self.amp = amp
        self.scaler: Any = _LossScale(amp)
        self._off: Any = None  # amp's context in which nothing is cast, while in it
        self._inside = False  # in a module of the signal, and casts are on around it

    def connect(
        self, model: nn.Module, optimizers: list[Any], lr_schedulers: list[Any]
    ) -> tuple[nn.Module, list[Any], list[Any]]:
        if optimizers:
            trained: Any = getattr(model, "module", model)  # out of DDP's wrapper
            _, optimizers = self.amp.initialize(
                [trained.model], optimizers, opt_level="O1", verbosity=0
            )
            # Its cache of casts asks for the graph of PyTorch 1 when a weight is used twice in a
            # step, as by parts of a batch, and saves nothing where weights are used once.
            self.amp._amp_state.handle._enable_caching = False
            for module in signal_modules(trained.model):
                module.register_forward_pre_hook(self._enter_signal)
                module.register_forward_hook(self._leave_signal)
            self._casts(False)
        return model, optimizers, lr_schedulers

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
        self._casts(False)  # amp switches them on behind every step
        return loss

    def teardown(self) -> None:
        if self._off is None:
            self._casts(False)
        super().teardown()

    def state_dict(self) -> dict[str, Any]:
        return {k: dict(v) for k, v in self.amp.state_dict().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.amp.load_state_dict(state_dict)


def signal_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Modules of a WaveGlow that the signal itself goes through."""
    for name, child in model.named_children():
        if name not in HALF:
            yield from child if isinstance(child, nn.ModuleList) else [child]
