from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def recompute(plan: Plan) -> None:
    """Forget what is inside each WN, and compute it a second time on the way back.

    Why: the inside of WN is nearly all of the memory of training; without it, one WN's is held
    at a time (270 MB in place of 2,091 at the paper's size and two segments of 16,000 samples, as
    `wg plan model=paper batch_size=2` counts them), so that a larger batch or longer segments fit.
    Source: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
    Cost: a second forward pass of every WN, a third more arithmetic.
    Fails: where memory was no limit it is slower, and that is all it is.
    """
    plan.memory = "recompute"
