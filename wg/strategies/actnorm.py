from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="model")
def actnorm(plan: Plan) -> None:
    """A scale and an offset for every channel before each 1x1 convolution, started so that the
    first batch has zero mean and unit variance there.

    Why: flows that begin near a unit Gaussian need not learn their scale.
    Source: Kingma & Dhariwal 2018 (Glow), section 3.1, https://arxiv.org/abs/1807.03039.
    Cost: one forward pass over a batch before the first step (data preparation).
    Fails: diagonal only: neighbouring samples stay correlated, which `whiten_init` removes.
    Seen: an early target is met before the first step, 146 times sooner than `nvidia` (93 to 229,
    three seeds, reports/members).
    """
    plan.actnorm = True
