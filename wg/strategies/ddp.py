from typing import Literal

from wg.plan import Plan, Ranks
from wg.strategies.registry import require, strategy


@strategy(kind="system")
def ddp(plan: Plan, ranks: int = 2, backend: Literal["auto", "nccl", "gloo"] = "auto") -> None:
    """Data parallelism: every rank computes its share of the batch, gradients are averaged.

    Why: the batch of one step in 1/ranks of the time, less the all-reduce. The batch and its
    segments are those of a single process, so the mathematics is the same up to rounding.
    Source: Li et al. 2020, https://arxiv.org/abs/2006.15704; Lightning's DDPStrategy.
    Cost: one all-reduce of all gradients a step. backend "auto": nccl on GPUs, gloo on CPUs.
    Fails: when the batch cannot be divided by the ranks (refused), or is too small to hide the
    all-reduce.
    """
    require(ranks >= 1, f"strategy.ddp.ranks={ranks} must be at least 1.")
    plan.ranks = Ranks(ranks, backend)
