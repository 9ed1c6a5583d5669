from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch

from wg.plan import Plan
from wg.strategies.adamw import decay_groups
from wg.strategies.registry import require, strategy


def _missing() -> str:
    if find_spec("pytorch_optimizer") is not None:
        return ""
    return "needs the package pytorch-optimizer: pip install 'pytorch-optimizer>=4.1,<5'."


@strategy(
    kind="algorithm",
    refuses={"fused_optimizer": "SOAP has no fused kernel"},
    missing=_missing,
)
def soap(
    plan: Plan,
    lr: float = 3e-3,
    beta1: float = 0.95,
    beta2: float = 0.95,
    weight_decay: float = 0.01,
    eps: float = 1e-8,
    every: int = 10,
    max_side: int = 512,
) -> None:
    """Adam in the eigenbasis of Shampoo's preconditioner, which is found anew now and then.

    A convolution's weight (out, in, kernel) is rotated along each of its sides that is at most
    max_side long; every: steps between updates of the bases. Gains, biases and the 1x1
    convolutions of the flow are spared: they take Adam's plain step, without weight decay.

    Why: Adam scales each weight alone; in the basis where gradients are uncorrelated the same
    scaling is a far better second-order step.
    Source: Vyas et al. 2024, "SOAP: improving and stabilizing Shampoo using Adam",
    https://arxiv.org/abs/2409.11321; the package pytorch-optimizer.
    Cost: two matrices of side^2 for each rotated side, products of every gradient with them, and
    a QR factorisation of each every few steps. Where the model is small that is much of a step:
    the small model's takes 1.9 times as long on a CPU core (reports/bench).
    Fails: steps of little audio, whose arithmetic is less than the optimizer's. The first step
    only measures and moves nothing.
    Seen: 1.46 times sooner than `nvidia` to an early target, 0.87 to 2.44 (three seeds,
    reports/members).
    """
    require(lr > 0, f"strategy.soap.lr={lr} must be positive.")
    require(0 <= beta1 < 1 and 0 <= beta2 < 1, "strategy.soap: betas must lie in [0, 1).")
    require(weight_decay >= 0, f"strategy.soap.weight_decay={weight_decay} must not be negative.")
    require(eps > 0, f"strategy.soap.eps={eps} must be positive.")
    require(every >= 1, f"strategy.soap.every={every} must be at least 1.")
    require(max_side >= 1, f"strategy.soap.max_side={max_side} must be at least 1.")

    def build(parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> torch.optim.Optimizer:
        from pytorch_optimizer import SOAP

        class ResumableSOAP(SOAP):
            """Bases in the layout that a checkpoint gives back: a factorisation leaves them
            transposed, and products of the other layout round differently."""

            def update_pre_conditioner(self, grad: Any, state: Any, *args: Any, **kw: Any) -> None:
                super().update_pre_conditioner(grad, state, *args, **kw)
                state["Q"] = [q.contiguous() if len(q) else q for q in state["Q"]]

        rotated, spared = decay_groups(parameters, weight_decay)
        return ResumableSOAP(
            # A side of more than 0 is too long: nothing is rotated.
            [{**rotated, "max_precondition_dim": max_side}, {**spared, "max_precondition_dim": 0}],
            lr=lr,
            betas=(beta1, beta2),
            eps=eps,
            precondition_frequency=every,
        )

    plan.optimizer = build
