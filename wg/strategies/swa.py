from typing import Any

import torch

from wg.flow import WaveGlow
from wg.plan import Plan
from wg.strategies.registry import require, strategy


class EqualAverage:
    """Mean of the weights after each step from progress ``start`` on, in fp32; until then, the
    weights themselves."""

    def __init__(self, model: WaveGlow, start: float) -> None:
        self.start = start
        self.device = next(model.parameters()).device
        self.active = list(model.active)
        self.averaged = 0
        # Once: hundreds of names are slow to walk, and a step changes what they hold in place.
        self.live = dict(model.state_dict(keep_vars=True))
        self.average: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def update(self, model: WaveGlow, progress: float) -> None:
        if progress < self.start:
            return
        if model.active != self.active:
            # A waking flow rewrites its neighbour's matrix: a mean across that is of no function.
            self.active, self.averaged = list(model.active), 0
        self.averaged += 1
        if self.averaged == 1:
            self.average = {k: v.detach().clone() for k, v in self.live.items()}
        else:
            means = list(self.average.values())
            torch._foreach_lerp_(means, [self.live[k] for k in self.average], 1 / self.averaged)

    def weights(self, model: WaveGlow) -> dict[str, torch.Tensor]:
        return dict(self.average if self.averaged else model.state_dict())

    def state_dict(self) -> dict[str, Any]:
        average = dict(self.average) if self.averaged else {}
        return {"averaged": self.averaged, "active": list(self.active), "average": average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.averaged, self.active = state["averaged"], list(state["active"])
        self.average = {k: v.to(self.device) for k, v in state["average"].items()}


@strategy(kind="algorithm")
def swa(plan: Plan, start: float = 0.75) -> None:
    """Judge and export the plain mean of the weights over the last part of training.

    start: progress from which on the weights of every step count, all alike; until then the last
    ones are judged. In a run that grows, the mean begins anew when flows wake up.

    Why: a constant step keeps circling around a good point; the centre of the circle is better
    than any place on it, and no decay of the step size has to be planned.
    Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better
    generalization", https://arxiv.org/abs/1803.05407 (who average once an epoch; with no batch
    normalisation here, there are no statistics to measure again).
    Cost: one copy of the weights and, from `start` on, one pass over them a step.
    Fails: begun while the weights still travel, the mean lags behind them; `ema` forgets and this
    does not. Beside a step size that decays to zero it averages what has settled already.
    Seen: 0.96 of `nvidia`'s speed to an early target, 0.84 to 1.09, for which it is not made
    (reports/members).
    """
    require(0 <= start < 1, f"strategy.swa.start={start} must lie in [0, 1).")
    plan.eval_weights = lambda model: EqualAverage(model, start)
