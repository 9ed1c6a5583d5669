from wg.plan import Plan
from wg.strategies.registry import strategy


def _missing() -> str:
    import torch  # a registry is read by programs that need none

    from wg.flow.fp8 import LEAST_CAPABILITY

    if not torch.cuda.is_available():
        return ""  # emulated, as bf16 and fp16 are
    capability = torch.cuda.get_device_capability()
    if capability >= LEAST_CAPABILITY:
        return ""
    return (
        f"needs a GPU of compute capability {'.'.join(map(str, LEAST_CAPABILITY))} or later "
        f"(Ada, Hopper), and {torch.cuda.get_device_name()} has "
        f"{'.'.join(map(str, capability))}: take bf16 in its place."
    )


@strategy(kind="algorithm", missing=_missing)
def fp8(plan: Plan) -> None:
    """Products inside WN of 8-bit floating point numbers, everything else as with `bf16`.

    Activations and weights in e4m3, gradients in e5m2, one scale a tensor, computed anew at every
    call; the flow's own signal, its 1x1 matrices and the likelihood stay in fp32. See
    wg.flow.fp8.

    Why: twice the rate of bf16 in the tensor cores of Ada and Hopper, and a quarter of fp32's
    memory for what a convolution keeps for its way back.
    Source: Micikevicius et al. 2022, https://arxiv.org/abs/2209.05433.
    Cost: 3 bits of mantissa (e4m3) in the couplings' networks, 2 in their gradients, so that it is
    judged by quality and not called the same mathematics; a pass over every tensor for its scale.
    Fails: to help small models, whose products are short; layers with channels that are no
    multiple of 16 stay in bf16, `start` and `end` always. Without `compile` every pass for scale
    and rounding goes through memory on its own, which may cost what the products save. On a CPU it
    is emulated, correct and slow. Not measured on a GPU.
    """
    plan.precision = "bf16-mixed"
    plan.wn = "fp8"
