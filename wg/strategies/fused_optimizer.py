from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def fused_optimizer(plan: Plan) -> None:
    """The optimizer's step in one pass over the weights, whichever optimizer the recipe has.

    Why: PyTorch's default step reads and writes every weight and both moments several times, once
    for each elementary operation; in a small model that is a good share of the whole step.
    Source: `fused=True` of torch.optim.Adam, AdamW, SGD and Adagrad.
    Cost: none.
    Fails: an optimizer without a fused kernel is refused by name.
    """
    plan.fused = True
