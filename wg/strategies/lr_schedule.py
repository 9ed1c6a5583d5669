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
    shape: Literal["linear", "cosine", "wsd", "constant"] = "linear",
    decay: float = 0.2,
) -> None:
    """Step size over progress: a linear warm-up, a plateau, a fall to `final` at the planned end.

    Shares of the planned audio are warmup, decay_from and decay. shape: linear and cosine fall
    from decay_from on (0: from the end of the warm-up); wsd, "warm-up, stable, decay", falls over
    the last `decay` along 1 - sqrt; constant does not fall. A setting that the shape has no use
    for must be left as it is.

    Why: a large step explores, a small one settles; what remains after the fall is the quality.
    Source: Loshchilov & Hutter 2017 (cosine), https://arxiv.org/abs/1608.03983; Hu et al. 2024
    (WSD), https://arxiv.org/abs/2404.06395; Hägele et al. 2024 (its 1 - sqrt),
    https://arxiv.org/abs/2405.18392; Defazio et al. 2023 (linear to zero),
    https://arxiv.org/abs/2310.07831.
    Cost: none. The run is at its best only at its planned end, and is judged there.
    Fails: when training stops early, it stops at a large step.
    """
    require(0 <= warmup < 1, f"strategy.lr_schedule.warmup={warmup} must lie in [0, 1).")
    require(
        0 <= decay_from < 1, f"strategy.lr_schedule.decay_from={decay_from} must lie in [0, 1)."
    )
    require(
        decay_from == 0 or decay_from >= warmup,
        f"strategy.lr_schedule.decay_from={decay_from} lies within the warm-up, which ends at "
        f"{warmup}; 0 decays from its end.",
    )
    require(0 <= final <= 1, f"strategy.lr_schedule.final={final} must lie in [0, 1].")
    require(
        shape != "wsd" or 0 < decay <= 1 - warmup,
        f"strategy.lr_schedule.decay={decay} must be above 0 and leave room for the warm-up.",
    )
    falls = shape in ("linear", "cosine")
    require(
        falls or decay_from == 0,
        f"strategy.lr_schedule.decay_from={decay_from} goes with shape linear or cosine"
        f"{'; shape wsd takes decay, the share at the end' if shape == 'wsd' else ''}.",
    )
    require(
        shape == "wsd" or decay == 0.2,
        f"strategy.lr_schedule.decay={decay} goes with shape wsd; others take decay_from.",
    )
    require(
        shape != "constant" or final == 0,
        f"strategy.lr_schedule.final={final} cannot be with shape constant, which does not fall.",
    )
    if shape == "constant":
        plan.lr_schedule = WarmupDecay(warmup, 1.0, 1.0, "linear")
    elif shape == "wsd":
        plan.lr_schedule = WarmupDecay(warmup, 1 - decay, final, "1-sqrt")
    else:
        plan.lr_schedule = WarmupDecay(warmup, max(decay_from, warmup), final, shape)
