from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def bf16(plan: Plan) -> None:
    """Forward and backward in bfloat16 where autocast allows; weights and the flow itself in fp32.

    Why: tensor cores run bf16 at several times the fp32 rate and activations halve. The exponent
    is fp32's, so no loss scaling is needed. The 1x1 convolutions, the affine step and the
    likelihood stay in fp32: rounding them would quantise the signal.
    Source: Kalamkar et al. 2019, https://arxiv.org/abs/1905.12322.
    Cost: 8 bits of mantissa in the couplings' networks.
    Fails: on CPUs without bf16 units it is emulated, correct and slow.
    """
    plan.precision = "bf16-mixed"
