"""8-bit products: exact on what 8 bits hold, near elsewhere, never a number for what is none."""

from __future__ import annotations

import math

import pytest
import torch
from tests_helpers import trained_looking
from torch import Tensor
from torch.nn import functional as F

from wg.flow import FlowConfig, fp8
from wg.flow.layers import WeightNormConv1d
from wg.flow.waveglow import nll

SHAPES = [(1, 1), (3, 1), (3, 8)]  # taps and dilation


def case(K: int, integers: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, weight, bias, gradient of the output: whole numbers that 8 bits hold, or normal ones."""
    generator = torch.Generator().manual_seed(K)

    def draw(*shape: int, largest: float) -> Tensor:
        if not integers:
            return torch.randn(*shape, generator=generator)
        numbers = torch.randint(-3, 4, shape, generator=generator).float()
        numbers.view(-1)[0] = largest  # so that the scale is 1
        return numbers

    x, weight = draw(2, 16, 37, largest=448), draw(32, 16, K, largest=448)
    d_out = draw(2, 32, 37, largest=57344)
    return x, weight, torch.randn(32, generator=generator), d_out


def both(K: int, dilation: int, integers: bool) -> list[tuple[Tensor, Tensor]]:
    """(ours, PyTorch's) of the output and of the gradients of input, weight and bias."""
    x, weight, bias, d_out = case(K, integers)
    padding = dilation * (K - 1) // 2
    found = []
    for conv in (
        lambda *a: fp8.conv1d(*a, padding, dilation),
        lambda *a: F.conv1d(*a, padding=padding, dilation=dilation),
    ):
        leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
        out = conv(*leaves)
        found.append([out, *torch.autograd.grad(out, leaves, d_out)])
    return list(zip(*found, strict=True))


@pytest.mark.parametrize(("K", "dilation"), SHAPES)
def test_what_8_bits_hold_is_multiplied_exactly(K: int, dilation: int) -> None:
    for ours, exact in both(K, dilation, integers=True):
        assert ours.shape == exact.shape
        assert torch.allclose(ours, exact, rtol=1e-6, atol=1e-6 * float(exact.detach().abs().max()))


def test_half_precision_rounds_the_product_once() -> None:
    """Under autocast, whose own products would be rounded before they are scaled."""
    x, weight, bias, _ = case(3, integers=False)
    exact = fp8.conv1d(x, weight, bias * 0, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        half = fp8.conv1d(x, weight, bias * 0, 1, 1)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, exact.to(torch.bfloat16))


@pytest.mark.parametrize(("K", "dilation"), SHAPES)
def test_the_rest_is_rounded_to_3_bits_and_gradients_to_2(K: int, dilation: int) -> None:
    # Uniform rounding of a mantissa of m bits: 2^-m / sqrt(12) of its size or less, twice.
    bounds = (2**-3, 2**-2, 2**-2, 1e-6)
    for (ours, exact), bound in zip(both(K, dilation, integers=False), bounds, strict=True):
        error = float((ours - exact).detach().norm() / exact.detach().norm())
        assert error < bound * math.sqrt(2 / 12)
        assert error > bound / 20 or bound < 1e-3, "these are not 8 bits"


def test_every_tensor_has_its_own_scale() -> None:
    """Small and large numbers keep the same number of digits; zeros are zeros."""
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    for factor in (1e-12, 1.0, 1e12):
        rounded, scale = fp8.quantised(factor * x, fp8.E4M3)
        assert float((rounded.float() * scale / factor - x).norm() / x.norm()) < 0.04
        assert rounded.float().abs().max() == 448
    zeros, scale = fp8.quantised(torch.zeros(3, 3), fp8.E5M2)
    assert not zeros.float().any()
    assert scale == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_stays_none(bad: float) -> None:
    """A step that overflowed has to be seen by the guard, whatever its arithmetic."""
    x, weight, bias, _ = case(1, integers=False)
    x[0, 3, 5] = bad
    assert fp8.conv1d(x, weight, bias, 0, 1)[0, :, 5].isnan().all()


def model(computed: str) -> torch.nn.Module:
    made = trained_looking(FlowConfig(n_flows=3, n_early_every=2, n_layers=2, n_channels=32))
    for layer in made.modules():
        if isinstance(layer, WeightNormConv1d):
            layer.computed = computed
    return made


def test_wn_is_computed_with_it_where_channels_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the first and the last of its layers; near to bf16, and of the same direction."""
    calls: list[tuple[int, ...]] = []
    conv = fp8.conv1d
    monkeypatch.setattr(fp8, "conv1d", lambda x, w, *a: calls.append(w.shape) or conv(x, w, *a))
    generator = torch.Generator().manual_seed(1)
    mel = torch.randn(2, 80, 9, generator=generator)
    audio = 0.3 * torch.randn(2, 2048, generator=generator)
    found = []
    for computed in ("plain", "fp8"):
        made = model(computed)
        with torch.autocast("cpu", torch.bfloat16):
            loss = nll(made(mel, audio))  # type: ignore[arg-type]
        loss.backward()
        found.append(
            (float(loss.detach()), torch.cat([p.grad.flatten() for p in made.parameters()]))
        )  # type: ignore[union-attr]
    (loss_a, a), (loss_b, b) = found
    a_wn = [(128, 640, 1), (64, 32, 3), (64, 32, 1), (64, 32, 3), (32, 32, 1)]
    assert calls == 3 * a_wn
    assert loss_b == pytest.approx(loss_a, abs=0.02)
    assert loss_b != loss_a
    assert float(F.cosine_similarity(a, b, dim=0)) > 0.99


def test_what_is_kept_for_the_way_back_is_of_8_bits() -> None:
    x, weight, bias, _ = case(3, integers=False)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        fp8.conv1d(x.requires_grad_(), weight.requires_grad_(), bias, 1, 1)
    assert sum(t.nbytes for t in kept) == x.numel() + weight.numel() + 2 * 4
