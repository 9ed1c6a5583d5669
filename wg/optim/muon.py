"""Muon for a flow of convolutions, and Adam for what is no matrix, in one optimizer.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) replaces a matrix's momentum
by the nearest orthogonal matrix, so that every direction of it moves by the same amount.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.adam import adam

# Quintic Newton-Schulz steps whose coefficients change from step to step: each is the polynomial
# that does most for the smallest singular values that are left (Amsel, Persson, Musco & Gower
# 2025, "The Polar Express", https://arxiv.org/abs/2505.16932, list 1: for singular values from
# 1e-3 up, with a cushion for rounding). Where more steps are asked for, the last one repeats.
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)


def orthogonalized(G: Tensor, steps: int) -> Tensor:
    """About the nearest (semi-)orthogonal matrix to each of G (n, rows, cols), in G's dtype.

    Computed in bf16 on a GPU, where it is fast and exact enough, and in fp32 elsewhere.
    """
    wide = G.shape[1] <= G.shape[2]
    X = G if wide else G.transpose(1, 2)  # the smaller square is the cheaper one
    X = X.to(torch.bfloat16 if G.device.type == "cuda" else torch.float32)
    # Singular values into [0, 1], less the cushion that the coefficients were made with.
    X = X / (1.01 * X.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for i in range(steps):
        a, b, c = POLAR_EXPRESS[min(i, len(POLAR_EXPRESS) - 1)]
        A = X @ X.transpose(1, 2)
        X = torch.baddbmm(X, torch.baddbmm(A, A, A, beta=b, alpha=c), X, beta=a)
    return (X if wide else X.transpose(1, 2)).to(G.dtype)


class Muon(torch.optim.Optimizer):
    """Groups with ``blocks`` are Muon's, the others Adam's.

    In a group with blocks every parameter is cut into that many equal parts along its first
    dimension, and each part flattened to a matrix (out channels, in channels * kernel): the parts
    of a stacked layer (gates, or one conditioning for many layers) are matrices of their own.

    lr         of a group: the largest change of any direction of a matrix in a step, times
               sqrt(rows / columns) where there are more rows; Adam's step size in Adam's groups
    momentum   Nesterov's
    steps      of Newton-Schulz
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        lr: float = 0.02,
        momentum: float = 0.95,
        steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        fused: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "steps": steps, "betas": betas, "eps": eps,
            "weight_decay": weight_decay, "fused": fused, "blocks": 0,
        }  # fmt: skip
        super().__init__(groups, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; parameters without gradients are left alone."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        matrices: dict[Any, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for group in self.param_groups:
            having = [p for p in group["params"] if p.grad is not None]
            if not having:
                continue
            if group["blocks"]:
                self._collect(group, having, matrices)
            else:
                self._adam(group, having)
        # Matrices of one shape, whatever layers they are from, in one batch of products.
        for (_, _, steps, lr, _), found in matrices.items():
            weights, updates = zip(*found, strict=True)
            stacked = orthogonalized(torch.stack(updates), steps)
            rows, columns = stacked.shape[1:]
            scale = -lr * max(1.0, rows / columns) ** 0.5
            torch._foreach_add_(list(weights), list(stacked.unbind()), alpha=scale)
        return loss

    def _collect(
        self,
        group: dict[str, Any],
        parameters: list[Tensor],
        matrices: dict[Any, list[tuple[Tensor, Tensor]]],
    ) -> None:
        """(matrix, what is to be orthogonalised) of every part, by what may share a batch."""
        grads = [p.grad for p in parameters if p.grad is not None]
        for p in parameters:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        kept = [self.state[p]["momentum"] for p in parameters]
        m = group["momentum"]
        torch._foreach_lerp_(kept, grads, 1 - m)
        nesterov = torch._foreach_lerp(grads, kept, m)
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for p, update in zip(parameters, nesterov, strict=True):
            blocks = group["blocks"]
            shape = (blocks, p.shape[0] // blocks, p[0].numel())
            key = (*shape[1:], group["steps"], group["lr"], p.device)
            ours, theirs = p.view(shape), update.reshape(shape)
            matrices[key] += zip(ours.unbind(), theirs.unbind(), strict=True)

    def _adam(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        for p in parameters:
            if not self.state[p]:
                # torch's kernels ask every count for its number but when fused: on a GPU, for
                # each parameter, that would wait for it.
                place = p.device if group["fused"] else torch.device("cpu")
                self.state[p] = {
                    "step": torch.zeros((), dtype=torch.float32, device=place),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
        states = [self.state[p] for p in parameters]
        beta1, beta2 = group["betas"]
        adam(
            list(parameters),
            [p.grad for p in parameters if p.grad is not None],
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in states],
            foreach=not group["fused"],
            fused=group["fused"],
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
