"""Muon beside what it says it is: a polar factor for matrices, Adam for the rest."""

from __future__ import annotations

import copy

import pytest
import torch

from wg.flow import FlowConfig, WaveGlow
from wg.optim.muon import Muon, orthogonalized
from wg.plan import Base
from wg.strategies import make_plan

CONFIG = FlowConfig(n_mels=5, n_flows=2, n_layers=3, n_channels=4)


@pytest.mark.parametrize("shape", [(3, 16, 48), (2, 48, 16), (1, 20, 20)])
def test_orthogonalized_is_the_polar_factor(shape: tuple[int, ...]) -> None:
    G = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    U, _, V = torch.linalg.svd(G, full_matrices=False)
    got = orthogonalized(G, 9)
    assert torch.allclose(got, U @ V, atol=1e-3)
    rough = torch.linalg.svdvals(orthogonalized(G, 5))
    assert 0.7 < rough.min() < rough.max() < 1.3


def test_singular_values_down_to_a_thousandth_are_lifted() -> None:
    U, _, V = torch.linalg.svd(torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0)))
    G = U @ torch.diag_embed(torch.logspace(0, -3, 32)[None]) @ V
    assert torch.linalg.svdvals(G).min() < 2e-3
    assert torch.linalg.svdvals(orthogonalized(G, 6)).min() > 0.8


def build(**settings: object) -> tuple[WaveGlow, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = WaveGlow(CONFIG)
    plan = make_plan(Base(n_flows=2), {"muon": settings})
    assert plan.optimizer is not None
    return model, plan.optimizer(model.named_parameters())


def test_what_is_stacked_is_cut_into_matrices() -> None:
    """One conditioning layer of 3 WN layers with two gates each is 6 matrices of 4 rows."""
    model, optimizer = build()
    blocks = {p: g["blocks"] for g in optimizer.param_groups for p in g["params"]}
    names = dict(model.named_parameters())
    assert blocks[names["WN.0.cond_layer.weight_v"]] == 6
    assert blocks[names["WN.0.in_layers.1.weight_v"]] == 2
    assert blocks[names["WN.0.res_skip_layers.2.weight_v"]] == 1
    assert blocks[names["WN.1.end.weight"]] == 1
    for name in (
        "upsample.weight",
        "convinv.0.conv.weight",
        "WN.0.start.weight_g",
        "WN.0.end.bias",
    ):
        assert blocks[names[name]] == 0
    assert len(blocks) == len(names)


def test_a_step_moves_every_direction_alike_and_blocks_apart() -> None:
    model, optimizer = build(lr=0.1, momentum=0.0)
    before = copy.deepcopy(model.state_dict())
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    # A block whose gradient is a million times larger moves no further.
    layer = model.WN[0].in_layers[0]
    layer.weight_v.grad[:4] *= 1e6
    optimizer.step()
    moved = (layer.weight_v - before["WN.0.in_layers.0.weight_v"]).detach().view(2, 4, 12)
    values = torch.linalg.svdvals(moved)
    assert torch.allclose(values, torch.full_like(values, 0.1), rtol=0.2)


def test_the_rest_is_adam() -> None:
    model, optimizer = build(adam_lr=1e-2)
    twin = copy.deepcopy(model)
    names = [n for n, p in model.named_parameters() if "convinv" in n or n.endswith("bias")]
    wanted = dict(twin.named_parameters())
    adam = torch.optim.Adam([wanted[n] for n in names], lr=1e-2, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for (_, p), (_, q) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        optimizer.step()
        adam.step()
    got = dict(model.named_parameters())
    assert all(torch.allclose(got[n], wanted[n], atol=1e-7) for n in names)


def test_a_saved_state_goes_on_to_the_bit() -> None:
    model, optimizer = build()
    generator = torch.Generator().manual_seed(1)

    def step(model: WaveGlow, optimizer: torch.optim.Optimizer, grads: list[torch.Tensor]) -> None:
        for p, g in zip(model.parameters(), grads, strict=True):
            p.grad = g.clone()
        optimizer.step()

    grads = [
        [torch.randn(p.shape, generator=generator) for p in model.parameters()] for _ in range(3)
    ]
    step(model, optimizer, grads[0])
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    again, second = build()
    again.load_state_dict(weights)
    second.load_state_dict(state)
    for g in grads[1:]:
        step(model, optimizer, g)
        step(again, second, g)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_parameters_without_gradients_rest() -> None:
    model, optimizer = build()
    before = copy.deepcopy(model.state_dict())
    model.WN[0].start.weight_v.grad = torch.ones_like(model.WN[0].start.weight_v)
    assert isinstance(optimizer, Muon)
    optimizer.step()
    moved = [n for n, p in model.state_dict().items() if not torch.equal(p, before[n])]
    assert moved == ["WN.0.start.weight_v"]
