from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def reversible(plan: Plan) -> None:
    """Undo each flow on the way back instead of keeping its input: memory that does not grow with
    the number of flows.

    Why: a flow is invertible, so its output says what its input was; WN's activations, needed
    for that, are the ones that its gradient needs.
    Source: Gomez et al. 2017, https://arxiv.org/abs/1707.04585; Jacobsen et al. 2018,
    https://arxiv.org/abs/1802.07088.
    Cost: a second forward pass of every WN, a third more arithmetic.
    Fails: next to `recompute` it saves next to nothing (`wg plan`), since a flow's input is some
    ten channels and WN's activations thousands. Inputs are undone to 1e-5 in fp32; in half
    precision, where that would not do, they are kept.
    """
    plan.memory = "reversible"
