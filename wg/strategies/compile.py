from typing import Literal

from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(
    kind="system",
    refuses={
        "fused_wn": "its hand-written node is what the compiler would write anew",
        "reversible": "its hand-written way back is closed to the compiler",
    },
)
def compile(
    plan: Plan,
    mode: Literal["default", "reduce-overhead", "max-autotune-no-cudagraphs"] = "default",
) -> None:
    """Model and loss through torch.compile, in training; everything else stays eager.

    reduce-overhead: forward and backward pass are recorded as CUDA graphs, so that the CPU
    launches each as one (on a CPU the same as default). max-autotune-no-cudagraphs: kernels are
    chosen by trial on a GPU.

    Why: WN is convolutions with elementwise work between them, which eager PyTorch reads from
    memory and writes back operation by operation; the compiler joins it into few kernels.
    Source: Ansel et al. 2024, https://doi.org/10.1145/3620665.3640366.
    Cost: compiling before the first step, charged on the clock `compile`, from an empty cache and
    again when a run is resumed. Every segment length, batch size and stage of a growing flow is
    compiled for itself, so `curriculum`, `batch_ramp` and growth multiply it. A few layers cost
    most of a minute on a CPU core.
    Fails: in short runs, which never earn the compiling back; on a CPU, where the convolutions are
    nearly all of the time and steps are 3 to 7% faster (reports/bench); without a C++ compiler
    (CPU) or Triton (GPU), refused before the first step. reduce-overhead refuses `accumulate` and
    `micro_batch`. Under `ddp` gradients are sent when all of them are known: nothing is left to
    hide the all-reduce behind.
    """
    plan.compile = mode
