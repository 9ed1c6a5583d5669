from wg.plan import Plan
from wg.strategies.registry import require, strategy


@strategy(kind="system")
def accumulate(plan: Plan, segments: int = 1) -> None:
    """A step's batch in parts, one after the other; one optimizer step on the sum of gradients.

    segments: how many a rank computes at a time, counted in segments of the longest length that
    the recipe has (of shorter ones, as many more as hold the same samples). A part weighs in the
    loss what it holds, so the mathematics is that of the whole batch up to rounding.

    Why: activations are most of the memory. In parts, a batch of the published size fits on a
    small GPU.
    Source: gradient accumulation, as in Ott et al. 2018, https://arxiv.org/abs/1806.00187,
    section 3.
    Cost: what a forward pass does once for all segments (weight norms, the determinants) is done
    for every part, and smaller convolutions keep a processor less busy: 8 segments of 4,096
    samples one by one take 1.2 times the whole on a CPU core (reports/bench). Gradients are held
    twice while they are summed. With `ddp` there is one all-reduce a step all the same.
    Fails: where the batch fits, it only costs.
    """
    require(segments >= 1, f"strategy.accumulate.segments={segments} must be at least 1.")
    plan.micro_batch = segments
