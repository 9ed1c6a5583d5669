from typing import Literal

from wg.plan import Plan
from wg.schedule import WarmupDecay
from wg.strategies.registry import require, strategy


@strategy(kind="algorithm")
def lr_schedule(
    plan: Plan,
    warmup: float = 0.02,
    decay_from: float = 0.0,
    final: float = 0.0,
    shape: Literal["linear", "cosine"] = "linear",
) -> None:
    """Step size over progress: a linear warm-up, a plateau, a fall to `final` at the planned end.

    warmup and decay_from are shares of the planned audio; decay_from=0 decays from the end of
    the warm-up on (linear or cosine), 0.8 is a warm-up-stable-decay schedule.

    Why: a large step explores, a small one settles; what remains after the fall is the quality.
    Source: Loshchilov & Hutter 2017 (cosine); Hu et al. 2024 (WSD), https://arxiv.org/abs/2404.06395;
    Defazio et al. 2023 (linear to zero), https://arxiv.org/abs/2310.07831.
    Cost: none. The run is at its best only at its planned end, and is judged there.
    Fails: when training stops early, it stops at a large step.
    """
    require(0 <= warmup < 1, f"strategy.lr_schedule.warmup={warmup} must lie in [0, 1).")
    require(
        0 <= decay_from < 1, f"strategy.lr_schedule.decay_from={decay_from} must lie in [0, 1)."
    )
    require(0 <= final <= 1, f"strategy.lr_schedule.final={final} must lie in [0, 1].")
    plan.lr_schedule = WarmupDecay(warmup, max(decay_from, warmup), final, shape)
