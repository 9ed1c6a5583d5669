from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def fused_wn(plan: Plan) -> None:
    """Each WN, and the upsampling, as one hand-written node of the gradient's graph.

    The mel's projection lies inside; dilated convolutions are matrix products that add to it in
    place; what two linear layers do one after the other is done by their product where that is
    smaller (`start` into the first dilated layer, every skip into `end`); weight norms and
    their gradients are made once for all of them. See wg.flow.fused_ops.

    Why: 14% fewer multiplications at the paper's size and 9% at a small model's, a third of a
    small model's with `interpolated_mel`; no padding, slices, zeros and copies between layers,
    and two thirds of the activations.
    Source: associativity; van den Oord et al. 2016 for what WN is.
    Cost: none. Rounding differs from the plain order of sums, by less than 1e-6 of the loss.
    Fails: where matrix products are all of the time, so are they here. It was measured on a CPU
    only; on a GPU it is the same arithmetic in batched products, against cuDNN's convolutions.
    """
    plan.wn = "fused"
