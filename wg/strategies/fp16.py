from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def fp16(plan: Plan) -> None:
    """Forward and backward in float16 with a gradient scaler; the original's mixed precision.

    Why: for GPUs with fp16 tensor cores and no bf16 (before Ampere). The scaler multiplies the
    loss so that small gradients do not vanish, and skips a step whose gradients overflow.
    Source: Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740.
    Cost: skipped steps while the scale settles (counted in the records).
    Fails: where activations, or gradients at any useful scale, exceed 65504: the run stops before
    its scale is worn down, and names the layer. Emulated on CPUs.
    """
    plan.precision = "16-mixed"
