from collections import defaultdict
from collections.abc import Iterable

import torch

from wg.optim.muon import Muon
from wg.plan import Plan
from wg.strategies.registry import require, strategy


@strategy(kind="algorithm")
def muon(
    plan: Plan,
    lr: float = 0.02,
    momentum: float = 0.95,
    steps: int = 5,
    adam_lr: float = 3e-3,
    beta1: float = 0.9,
    beta2: float = 0.99,
) -> None:
    """Muon on WN's convolutions, Adam on the rest.

    Gates, residual and skip halves, and every layer's share of the conditioning are matrices of
    their own: what is stacked only to save calls is not one linear map. Gains, biases, the
    upsampling and the invertible 1x1 convolutions are Adam's, with adam_lr.

    Why: gradients of wide layers are nearly of low rank; orthogonalised, all directions learn.
    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; coefficients of Amsel
    et al. 2025, https://arxiv.org/abs/2505.16932.
    Cost: five steps of three matrix products for each matrix, whatever the batch: much in a small
    model with short segments, little in a large one.
    Fails: its step size is no Adam step size; without `lr_schedule` the end stays noisy.
    """
    require(lr > 0, f"strategy.muon.lr={lr} must be positive.")
    require(adam_lr > 0, f"strategy.muon.adam_lr={adam_lr} must be positive.")
    require(0 <= momentum < 1, f"strategy.muon.momentum={momentum} must lie in [0, 1).")
    require(0 <= beta1 < 1 and 0 <= beta2 < 1, "strategy.muon: betas must lie in [0, 1).")
    require(1 <= steps <= 10, f"strategy.muon.steps={steps} must lie between 1 and 10.")

    def build(parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> torch.optim.Optimizer:
        groups: dict[int, list[torch.nn.Parameter]] = defaultdict(list)
        named = list(parameters)
        width = {n: p.shape[0] for n, p in named if n.endswith("start.bias")}
        for name, p in named:
            groups[_blocks(name, p, width)].append(p)
        # Adam's group last: what is logged as the step size is Muon's.
        return Muon(
            [
                {"params": groups[n], "blocks": n, "lr": lr if n else adam_lr}
                for n in sorted(groups, reverse=True)
            ],
            momentum=momentum,
            steps=steps,
            betas=(beta1, beta2),
        )

    plan.optimizer = build


def _blocks(name: str, p: torch.nn.Parameter, width: dict[str, int]) -> int:
    """Matrices that a parameter is made of; 0 for Adam's."""
    if not (name.startswith("WN.") and name.endswith((".weight_v", "end.weight"))):
        return 0
    flow = ".".join(name.split(".")[:2])
    if ".end." in name or ".start." in name:
        return 1
    return p.shape[0] // width[f"{flow}.start.bias"]
