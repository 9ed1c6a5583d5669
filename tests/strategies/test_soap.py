"""SOAP: Adam in the eigenbasis of the gradients' correlations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from wg.plan import Base
from wg.strategies import make_plan

Steps = Callable[[torch.Tensor, list[torch.Tensor]], torch.Tensor]


def steps(strategy: str, name: str) -> Steps:
    """The weight ``name`` after the strategy's steps along given gradients."""

    def run(w: torch.Tensor, grads: list[torch.Tensor]) -> torch.Tensor:
        p = torch.nn.Parameter(w.clone())
        build = make_plan(Base(), {strategy: {"weight_decay": 0.0}}).optimizer
        assert build is not None
        optimizer = build([(name, p)])
        for g in grads:
            p.grad = g.clone()
            optimizer.step()
        return p.detach()

    return run


def rotation(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]


@pytest.mark.parametrize(("strategy", "turns"), [("soap", True), ("adamw", False)])
def test_it_does_not_matter_in_which_basis_a_weight_is_written(strategy: str, turns: bool) -> None:
    """What the rotation is for: a turned problem gets the turned steps. Adam's do not turn."""
    generator = torch.Generator().manual_seed(0)
    # Correlated gradients with well-separated eigenvalues, so that the bases are determined.
    left, right = (torch.diag(torch.logspace(0, -2, n).double()) for n in (6, 5))
    noise = torch.randn(40, 6, 5, generator=generator, dtype=torch.float64)
    grads = [left @ g @ right for g in noise]
    U, V = rotation(6, 1), rotation(5, 2)
    w = torch.zeros(6, 5, 1, dtype=torch.float64)
    run = steps(strategy, "WN.0.cond_layer.weight_v")
    plain = run(w, [g[..., None] for g in grads])[..., 0]
    turned = run(w, [(U @ g @ V.T)[..., None] for g in grads])[..., 0]
    error = float((turned - U @ plain @ V.T).norm() / plain.norm())
    assert (error < 0.02) == turns, error


@pytest.mark.parametrize(
    ("name", "shape"),
    [("convinv.0.conv.weight", (4, 4, 1)), ("WN.0.start.weight_g", (6, 1, 1)), ("a.bias", (6,))],
)
def test_what_is_spared_takes_adams_step(name: str, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    grads = [torch.randn(shape, generator=generator) for _ in range(12)]
    found = steps("soap", name)(torch.zeros(shape), grads)
    p = torch.nn.Parameter(torch.zeros(shape))
    adam = torch.optim.Adam([p], lr=3e-3, betas=(0.95, 0.95), eps=1e-8)
    for g in grads[1:]:  # the first is measured only
        p.grad = g
        adam.step()
    assert torch.allclose(found, p.detach(), rtol=1e-4, atol=1e-7)
