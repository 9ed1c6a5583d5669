from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def tf32(plan: Plan) -> None:
    """fp32 matrix products and convolutions through TF32 tensor cores.

    Why: on Ampere and later GPUs about 8 times the fp32 rate with no change of code, at 10 bits
    of mantissa and fp32's range.
    Source: torch.set_float32_matmul_precision("high").
    Cost: rounding of the products' inputs.
    Fails: in the 1x1 convolutions and the affine step too the signal keeps 10 bits of mantissa;
    scoring is always done without it. Without such a GPU it does nothing. Not measured on
    one.
    """
    plan.matmul = "high"
