from typing import Any

import torch

from wg.flow import WaveGlow
from wg.plan import Plan
from wg.strategies.registry import require, strategy


class ExponentialAverage:
    """Average of the weights over steps, in fp32, with a horizon that grows from the start."""

    def __init__(self, model: WaveGlow, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.active = list(model.active)
        # Once: hundreds of names are slow to walk, and a step changes what they hold in place.
        self.live = dict(model.state_dict(keep_vars=True))
        self.average = {k: v.detach().clone() for k, v in self.live.items()}

    @torch.no_grad()
    def update(self, model: WaveGlow, progress: float) -> None:
        if model.active != self.active:
            # A waking flow rewrites its neighbour's matrix: a mean across that is of no function.
            self.active, self.updates = list(model.active), 0
            for name, value in self.live.items():
                self.average[name].copy_(value)
            return
        self.updates += 1
        # (1 + n) / (10 + n): early on the average follows, or it would remember the start.
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages = list(self.average.values())
        torch._foreach_lerp_(averages, [self.live[k] for k in self.average], 1 - decay)

    def weights(self, model: WaveGlow) -> dict[str, torch.Tensor]:
        return dict(self.average)

    def state_dict(self) -> dict[str, Any]:
        return {
            "updates": self.updates,
            "active": list(self.active),
            "average": dict(self.average),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates, self.active = state["updates"], list(state["active"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)


@strategy(kind="algorithm")
def ema(plan: Plan, decay: float = 0.999) -> None:
    """Judge and export an exponential average of the weights instead of the last ones.

    Why: the average is near where a decayed step size would have ended, at any time.
    Source: Polyak & Juditsky 1992; the growing horizon is TensorFlow's ExponentialMovingAverage.
    Cost: one copy of the weights and one pass over them a step.
    Fails: a horizon (1 / (1 - decay) steps) longer than the run remembers the start; averaging
    adds nothing to a schedule that decays to zero. In a run that grows, the average begins anew
    when flows wake up.
    """
    require(0 < decay < 1, f"strategy.ema.decay={decay} must lie between 0 and 1.")
    plan.eval_weights = lambda model: ExponentialAverage(model, decay)
