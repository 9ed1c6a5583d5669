from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def composed_conditioning(plan: Plan) -> None:
    """Upsampling and projection as one convolution from mel frames to groups.

    Why: the published way upsamples 80 bands and projects 640 channels at every group. Both are
    linear: their composition takes 320 inputs a group, once it is made.
    Source: associativity; wg.flow.conditioning.TransposedConv.
    Cost: making it takes 3.4 G products for each flow of a small model and step, whatever the
    batch: by arithmetic it pays from some 20,000 groups (160,000 samples) in a step on. Measured:
    even there, 1.25 times as fast at 384,000 samples (reports/bench).
    Fails: in small batches, where it is several times slower; `interpolated_mel` is cheap always
    and is another model.
    """
    plan.conditioning = "composed"
