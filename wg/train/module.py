"""The LightningModule: WaveGlow's likelihood, and the Plan's values at each step."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from wg.errors import UserError
from wg.flow import WaveGlow
from wg.flow.flops import computed, step_flops
from wg.flow.grow import sleep, starting_flows, wake
from wg.flow.width import channels_of, set_width, silence
from wg.plan import EvalWeights, Plan
from wg.train.compile import loss_of, remove_compiled
from wg.train.data import SegmentData
from wg.train.guard import Guard, parameters, poison_gradients
from wg.train.parts import Batch, longest_segment, loss_in_parts, split


class WaveGlowModule(L.LightningModule):
    """Trains ``model`` as ``plan`` says; where the stream stands is the data module's to know."""

    def __init__(self, model: WaveGlow, plan: Plan, data: SegmentData, sigma: float) -> None:
        super().__init__()
        self.model, self.plan, self.sigma = model, plan, sigma
        self._data = data
        self.loss = loss_of(model, sigma, plan.compile)
        self.average: EvalWeights | None = None
        self._average_state: dict[str, Any] | None = None
        self.guard = Guard()
        # Spent so far, over all ranks; None: unknown, of a run whose beginning did not count them.
        self.model_flops: int | None = 0
        # Segments of the longest length that are computed at a time; None: a whole batch.
        self.micro_batch = plan.micro_batch or None
        self._longest = longest_segment(plan)
        if plan.n_active_flows is not None:
            self._sleep_at(plan.n_active_flows(0.0))
        if plan.active_width is not None:
            set_width(model, channels_of(model, plan.active_width(0.0)))

    def _sleep_at(self, n_active: float) -> None:
        on = starting_flows(self.model.config, int(n_active))
        sleep(self.model, [k for k in range(self.model.config.n_flows) if k not in on])

    # -- the step ---------------------------------------------------------------------------

    def on_train_start(self) -> None:
        if self.plan.eval_weights is not None:
            self.average = self.plan.eval_weights(self.model)
            if self._average_state is not None:
                self.average.load_state_dict(self._average_state)
                self._average_state = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        progress = self._data.progress
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * self.plan.lr_schedule(progress)
        self.grow_to(progress)

    def on_train_end(self) -> None:
        if self.global_rank > 0:
            remove_compiled()  # such a process ends at once, without its exit functions

    def grow_to(self, progress: float) -> None:
        """Wake the flows and channels that are computed at ``progress``."""
        if self.plan.n_active_flows is not None:
            self._grow(int(self.plan.n_active_flows(progress)))
        if self.plan.active_width is not None:
            set_width(self.model, channels_of(self.model, self.plan.active_width(progress)))

    def _grow(self, n_active: int) -> None:
        if n_active <= sum(self.model.active):
            return
        on = starting_flows(self.model.config, n_active)
        new = [k for k in on if not self.model.active[k]]
        # The same rotations on every rank and in every attempt.
        generator = torch.Generator().manual_seed(self.plan.base.seed * 1000 + min(new))
        wake(self.model, new[::-1], generator)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        parts = self.parts(batch)
        loss = loss_in_parts(
            lambda part: self.loss(*part), parts, self.model.parameters(), self._scaler()
        )
        return poison_gradients(loss)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Lightning's, and sleeping channels stay unheard whatever an optimizer mixes."""
        super().optimizer_step(*args, **kwargs)
        silence(self.model)

    def _scaler(self) -> torch.amp.GradScaler | None:
        plugin = self._trainer.precision_plugin if self._trainer is not None else None
        return getattr(plugin, "scaler", None)

    def parts(self, batch: Batch) -> list[Batch]:
        """What is computed at a time of this rank's share of a step."""
        if not self.micro_batch:
            return [batch]
        # As many samples of short segments as of the longest ones: that is what memory holds.
        return split(batch, max(self.micro_batch * self._longest // batch[1].shape[1], 1))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if gradient_clip_val is not None:
            # The norm is known: the guard has asked for it.
            torch.nn.utils.clip_grads_with_norm_(
                parameters(optimizer), gradient_clip_val, self.guard.norm
            )

    def step_done(self, batch: Batch) -> None:
        """After each step. Called by the recorder, which Lightning calls before a module's own
        end-of-batch hook: what it records must include this step."""
        self._data.advance(batch[1].numel() * self.trainer.world_size)
        if self.model_flops is not None:
            self.model_flops += self.flops_of_step(*batch[1].shape) * self.trainer.world_size
        # A step that was not made is no step of the average either.
        if self.average is not None and self.guard.last.made:
            self.average.update(self.model, self._data.progress)

    def flops_of_step(self, segments: int, samples: int) -> int:
        """Model FLOPs of a step, of the flows and channels that are computed now."""
        model = self.model
        return step_flops(model.config, segments, samples, computed(model.active), model.width)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.plan.optimizer is not None:
            optimizer = self.plan.optimizer(self.model.named_parameters())
        else:
            # The published recipe: Adam, 1e-4, constant.
            optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        if self.plan.fused:
            optimizer = fused(optimizer)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return optimizer

    # -- weights and state --------------------------------------------------------------------

    def eval_weights(self) -> dict[str, Tensor]:
        """The weights that are judged and exported."""
        if self.average is not None:
            return self.average.weights(self.model)
        return dict(self.model.state_dict())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["wg"] = {
            "active": list(self.model.active),
            "guard": self.guard.state_dict(),
            "model_flops": self.model_flops,
            "average": self.average.state_dict() if self.average is not None else None,
            # Nothing here draws from the global generator; a strategy may.
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["wg"]
        self.model.active = list(state["active"])
        self._average_state = state["average"]
        self.guard.load_state_dict(state["guard"])
        self.model_flops = state.get("model_flops")
        torch.set_rng_state(state["rng"].cpu())
        if state["cuda_rng"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda_rng"].cpu())


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The same optimizer, not yet stepped, with its fused kernel.

    Raises :class:`UserError` for one that has none.
    """
    kind = type(optimizer)
    # Its groups say False where nobody chose, which would outvote the argument.
    groups = [
        {k: v for k, v in g.items() if k not in ("fused", "foreach")}
        for g in optimizer.param_groups
    ]
    try:
        return kind(groups, fused=True)  # type: ignore[call-arg]
    except (TypeError, RuntimeError):
        raise UserError(
            f"strategy 'fused_optimizer': {kind.__name__} has no fused kernel here; take one of "
            "the two out of the recipe."
        ) from None
