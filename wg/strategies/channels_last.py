from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="system")
def channels_last(plan: Plan) -> None:
    """WN's signals with all channels of a moment together in memory, its convolutions over images
    of one line, for which PyTorch has such a layout.

    Why: a GPU's tensor cores read channels together; between cuDNN's own layout and PyTorch's,
    half-precision convolutions are transposed on the way in and out.
    Source: torch.channels_last; https://docs.nvidia.com/deeplearning/performance, "Optimizing
    Convolutional Layers".
    Cost: gates are cut out of longer rows.
    Fails: on a CPU core, where a small model's step takes 8% longer, the paper's 17%, and with
    `bf16` gains nothing (reports/bench). `fused_wn` keeps channels together by itself, so the two
    refuse each other. Not measured on a GPU.
    """
    plan.wn = "channels_last"
