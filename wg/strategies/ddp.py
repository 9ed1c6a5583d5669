from typing import Literal

from wg.plan import Plan, Ranks
from wg.strategies.registry import require, strategy


@strategy(kind="system")
def ddp(
    plan: Plan,
    ranks: int = 2,
    backend: Literal["auto", "nccl", "gloo"] = "auto",
    bucket_mb: float = 25.0,
    compressed: Literal["none", "bf16", "fp16"] = "none",
) -> None:
    """Data parallelism: every rank computes its share of the batch, gradients are averaged.

    bucket_mb: gradients are sent in buckets of this size while the backward pass goes on; large
    ones cost less to send, small ones can start sooner. compressed: gradients travel in 16 bits.
    That is no longer the same mathematics but rounding of every gradient, so a recipe with it is
    to be judged by quality, though the strategy as such is one of the system.

    Why: the batch of one step in 1/ranks of the time, less the all-reduce. The batch and its
    segments are those of a single process, so the mathematics is the same up to rounding.
    Source: Li et al. 2020, https://arxiv.org/abs/2006.15704; Lightning's DDPStrategy; PyTorch's
    bf16_compress_hook and fp16_compress_hook.
    Cost: one all-reduce of all gradients a step. backend "auto": nccl on GPUs, gloo on CPUs.
    Fails: when the batch cannot be divided by the ranks (refused), or is too small to hide the
    all-reduce. fp16 loses gradients below 6e-8 and overflows at 65504; bf16 needs nccl.
    Sharding (FSDP, ZeRO) is left out: 88M parameters with Adam's moments are 1.4 GB, which every
    rank can hold, and sharding would pay for that with more traffic.
    """
    require(ranks >= 1, f"strategy.ddp.ranks={ranks} must be at least 1.")
    require(bucket_mb > 0, f"strategy.ddp.bucket_mb={bucket_mb:g} must be positive.")
    plan.ranks = Ranks(ranks, backend, bucket_mb, compressed)
