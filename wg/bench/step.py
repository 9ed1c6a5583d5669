"""One training step without Lightning: forward, backward, the optimizer's step.

What a strategy changes comes from :func:`wg.train.build.build`, as for a run: the model, the
arithmetic, the optimizer. Left out are the guard's norm, the record and the data, which every
variant shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wg.bench.batch import Batch
from wg.bench.switches import Switches
from wg.bench.zeros import fill_zeros
from wg.errors import UserError
from wg.strategies import make_plan
from wg.train.build import build, precision_plugin
from wg.train.fit import settle
from wg.train.guard import MIN_SCALE
from wg.train.prepare import prepare
from wg.train.settings import Settings, step_shape

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")  # whose plugins need no loop


class Step(Protocol):
    """A step to be timed, and looked at from outside."""

    batch: Batch

    def use(self) -> None:
        """Set the process-wide switches that it computes with."""

    def backward(self) -> Tensor:
        """Forward and backward; the loss."""

    def update(self) -> None:
        """The optimizer's step on the gradients that are there."""

    def gradients(self) -> dict[str, Tensor]:
        """Of the last backward pass, by parameter, unscaled."""

    def weights(self) -> dict[str, Tensor]: ...

    def load(self, weights: Mapping[str, Tensor]) -> None: ...

    def settle(self) -> None:
        """Lower a loss scale that overflows, as the first steps of a run do."""


class OwnStep:
    """The step of a configuration. Errors: UserError when a strategy refuses."""

    def __init__(self, settings: Settings, batch: Batch) -> None:
        self.job = job = build(settings)
        if job.plan.precision not in PRECISIONS:
            raise UserError(
                f"{job.plan.precision} works inside Lightning's loop alone, which is not in this "
                "step: compare runs of wg train instead"
            )
        prepare(job.module.model, job.plan, job.data.stream())
        fill_zeros(job.module.model)
        self.switches = Switches.now()
        job.module.to(job.device)
        self.batch = Batch(*(tensor.to(job.device) for tensor in batch))
        self.precision = precision_plugin(job.plan.precision, job.device)
        # All that a step asks of its Trainer is where the loss scale is.
        job.module._trainer = SimpleNamespace(precision_plugin=self.precision)  # type: ignore[assignment]
        settle(job, Path(), None, self.precision.forward_context)
        self.optimizer = job.module.configure_optimizers()
        average = job.plan.eval_weights
        self.average = average(job.module.model) if average is not None else None

    def use(self) -> None:
        self.switches.set()

    def backward(self) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.forward_context():
            loss = self.job.module.training_step((self.batch.mel, self.batch.audio), 0)
        scaler = self._scaler()
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss.detach()

    def update(self) -> None:
        scaler, limit = self._scaler(), self.job.plan.gradient_clip
        if limit is not None:
            if scaler is not None:
                scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.job.module.model.parameters(), limit)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        if self.average is not None:
            self.average.update(self.job.module.model, 0.5)

    def gradients(self) -> dict[str, Tensor]:
        scaler = self._scaler()
        scale = 1.0 if scaler is None else scaler.get_scale()
        named = self.job.module.model.named_parameters()
        return {name: p.grad / scale for name, p in named if p.grad is not None}

    def weights(self) -> dict[str, Tensor]:
        return {name: w.clone() for name, w in self.job.module.model.state_dict().items()}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        self.job.module.model.load_state_dict(weights)

    def _scaler(self) -> torch.amp.GradScaler | None:
        return getattr(self.precision, "scaler", None)

    def settle(self) -> None:
        scaler = self._scaler()
        while scaler is not None and scaler.get_scale() > MIN_SCALE:
            self.backward()
            if all(g.isfinite().all() for g in self.gradients().values()):
                return
            scaler.update(scaler.get_scale() / 2)


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Checked settings. Errors: UserError when they are wrong, want several processes, or change
    what is not in a step here."""
    settings = Settings.from_config(config)
    plan = make_plan(settings.base(), settings.strategy)
    if plan.ranks.n > 1:
        raise UserError(
            f"{plan.ranks.n} processes share a step, which one process cannot time: compare runs "
            "of wg train instead"
        )
    if plan.corpus == "held":
        raise UserError(
            "how a batch comes to the step is no part of a step that has its batch: compare runs "
            "of wg train instead"
        )
    settings.plan()
    return settings


def shape(settings: Settings) -> tuple[int, int]:
    """(segments, samples in each) of a step, at the end of training, which most steps are like."""
    length, batch = step_shape(settings.plan(), 1.0)
    return batch, length
