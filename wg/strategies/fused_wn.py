from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def fused_wn(plan: Plan) -> None:
    """Each WN, and the upsampling, as one hand-written node of the gradient's graph.

    The mel's projection lies inside; dilated convolutions are matrix products that add to it in
    place; and where two linear layers follow each other (`start` and the first dilated layer,
    every skip and `end`), their product is applied. See wg.flow.fused_ops.

    Why: 14% fewer multiplications at the paper's size, 9% at a small model's and 31% with
    `interpolated_mel`; no slices, zeros and sums between layers, no second buffer for the
    upsampling; two fifths fewer bytes kept for the way back (`wg plan`), 6 to 10% off the peak on
    a CPU. There a step is 1.1 to 1.2 times as fast as plain's, 1.35 times as fast as NVIDIA's, and
    with `bf16` and `fused_optimizer` 1.3 to 1.4 times what `bf16` is alone (reports/bench).
    Source: associativity of linear maps.
    Cost: none. Rounding is that of another order of sums, below 1e-6 of loss and gradients.
    Fails: to help where the projection of the upsampled mel is nearly all of the time, as in
    small models on short segments. Measured on CPUs only: a GPU makes the same products in
    batches, and has cuDNN's convolutions to beat.
    """
    plan.wn = "fused"
