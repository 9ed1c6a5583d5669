from wg.plan import Plan
from wg.strategies.registry import gpu_missing, strategy


@strategy(
    kind="system",
    missing=gpu_missing,
    refuses={
        "fused_wn": "a graph is traced through PyTorch's own operations",
        "reversible": "its hand-written way back is closed to the tracer",
        "accumulate": "a graph writes the gradients of every part to the same place",
        "micro_batch": "a graph writes the gradients of every part to the same place",
    },
)
def cuda_graph(plan: Plan) -> None:
    """The kernels of eager PyTorch, forward and backward, each recorded as one CUDA graph.

    As `compile` with mode reduce-overhead, without new kernels: the same kernels in the same
    order, launched as one. The optimizer's step stays outside.

    Why: WN launches hundreds of short kernels; a small model's GPU waits for the CPU.
    Source: Nguyen et al. 2021, https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs;
    torch.compile(backend="cudagraphs").
    Cost: every segment length, batch size and stage of a growing flow is recorded for itself, on
    the clock `compile`; the graphs' memory is held.
    Fails: with large batches, whose kernels are long enough. Without a GPU it is refused before
    anything is computed. Not measured on a GPU.
    """
    plan.compile = "cudagraphs"  # GRAPHS of wg.train.compile
