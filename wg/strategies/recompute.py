from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def recompute(plan: Plan) -> None:
    """Forget what is inside each WN, and compute it a second time on the way back.

    Why: the inside of WN is nearly all of the memory of training; without it, one WN's is held
    at a time (361 MiB in place of 1,979 at the paper's size and two seconds of audio), so that
    a larger batch or longer segments fit.
    Source: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
    Cost: a second forward pass of every WN, a third more arithmetic.
    Fails: where memory was no limit it is slower, and that is all it is.
    """
    plan.memory = "recompute"
