"""The fused WN is the plain WN: values, gradients, and where it steps aside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests_helpers import trained_looking
from torch import Tensor, nn

from wg.flow import FlowConfig, WaveGlow, fused, fused_cond, fused_upsample
from wg.flow.conditioning import TransposedConv
from wg.flow.layers import WeightNormConv1d
from wg.flow.waveglow import nll
from wg.flow.wn import WN

SIZES = {
    "n_mels": 5, "n_flows": 4, "n_group": 8, "n_early_every": 2, "n_early_size": 2,
    "n_layers": 3, "n_channels": 6, "upsample_kernel": 48, "upsample_stride": 16,
}  # fmt: skip


def config(**changes: Any) -> FlowConfig:
    return FlowConfig(**{**SIZES, **changes})


def fuse(model: WaveGlow, recompute: bool = False) -> WaveGlow:
    model = copy.deepcopy(model)
    for wn in model.WN:
        wn.fused, wn.recompute = True, recompute
    model.upsample.fused = True
    return model


def inputs(c: FlowConfig, batch: int, groups: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    frames = -(-groups * c.n_group // c.upsample_stride)
    mel, audio = torch.randn(batch, c.n_mels, frames), torch.randn(batch, groups * c.n_group)
    return mel.double(), 0.3 * audio.double()


def gradients(model: WaveGlow, mel: Tensor, audio: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad(set_to_none=True)
    loss = nll(model(mel, audio))
    loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), grads


def flat(grads: dict[str, Tensor]) -> Tensor:
    return torch.cat([g.flatten() for g in grads.values()])


@pytest.fixture
def no_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused path is an error."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("this call must be computed plainly")

    monkeypatch.setattr(fused, "couple", refuse)
    monkeypatch.setattr(fused_upsample, "grouped", refuse)


@pytest.mark.parametrize("conditioning", ["upsampled", "interpolated", "frame_rate"])
@pytest.mark.parametrize(
    ("changes", "batch", "groups"),
    [
        ({}, 1, 40),
        ({}, 3, 21),  # no whole number of frames
        ({}, 2, 1),  # every tap but the middle one sees padding
        ({"n_layers": 4}, 1, 5),  # dilations of 8 in 5 groups
        ({"n_layers": 1}, 2, 9),
        ({"kernel_size": 1}, 1, 8),
        ({"kernel_size": 5}, 2, 11),
        ({"n_channels": 7, "n_group": 4, "n_early_every": 9}, 1, 16),
        ({"swap_odd_halves": True}, 1, 12),
        ({"n_group": 2, "n_early_every": 9, "upsample_kernel": 40}, 1, 30),  # halves of 1 channel
        ({"actnorm": True}, 1, 12),
    ],
)
def test_values_and_gradients_are_the_plain_ones_in_fp64(
    conditioning: str, changes: dict[str, Any], batch: int, groups: int
) -> None:
    c = config(conditioning=conditioning, **changes)
    model = trained_looking(c).double()
    other = fuse(model)
    mel, audio = inputs(c, batch, groups)
    (loss, grads), (fused_loss, fused_grads) = gradients(model, mel, audio), gradients(
        other, mel, audio
    )  # fmt: skip
    assert abs(loss - fused_loss) <= 1e-10 * abs(loss)
    assert grads.keys() == fused_grads.keys() == dict(model.named_parameters()).keys()
    for name, g in grads.items():
        error = (g - fused_grads[name]).norm()
        assert error <= 1e-10 * (g.norm() + 1e-3 * flat(grads).norm()), (name, float(error))


def test_a_batch_at_once_is_its_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU computes: all items in batched products, laid out time by time."""
    for conditioning in ("upsampled", "interpolated"):
        c = config(conditioning=conditioning)
        model = fuse(trained_looking(c).double())
        mel, audio = inputs(c, 3, 21)
        loss, grads = gradients(model, mel, audio)
        with monkeypatch.context() as m:
            m.setattr(fused, "_items", lambda t: [t])
            m.setattr(fused.fused_ops, "by_time", lambda like: True)
            m.setattr(fused_cond, "by_time", lambda like: True)
            at_once, grads_at_once = gradients(model, mel, audio)
        assert torch.isclose(loss, at_once, rtol=1e-12)
        assert torch.allclose(flat(grads), flat(grads_at_once), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", ["projected", "groups", "frames"])
def test_gradcheck(form: str) -> None:
    """Against differences, in every tensor that goes in."""
    c = config(n_layers=3, n_channels=3, n_mels=2)
    torch.manual_seed(0)
    wn = WN(2, c, n_cond=4).double()
    nn.init.normal_(wn.end.weight)
    nn.init.normal_(wn.end.bias)
    x = torch.randn(2, 2, 5, dtype=torch.float64, requires_grad=True)
    shape = {"projected": (2, 18, 5), "groups": (2, 4, 5), "frames": (2, 4, 4)}[form]
    features = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    at = torch.tensor([0.25, 0.75], dtype=torch.float64) if form == "frames" else None

    def run(x: Tensor, features: Tensor, *_: Tensor) -> Tensor:
        return fused.couple(wn, x, form, features, at)

    used = [p for n, p in wn.named_parameters() if form != "projected" or "cond" not in n]
    assert torch.autograd.gradcheck(run, (x, features, *used), atol=1e-6)


@pytest.mark.parametrize("conditioning", ["upsampled", "interpolated"])
def test_fp32_to_rounding(conditioning: str) -> None:
    """As near to the plain way as rounding lets be, and no further from the truth."""
    c = FlowConfig(n_flows=6, n_layers=4, n_channels=64, conditioning=conditioning)
    model = trained_looking(c, seed=3)
    torch.manual_seed(1)
    mel, audio = torch.randn(1, 80, 9), 0.3 * torch.randn(1, 2048)
    (loss, grads), (fused_loss, fused_grads) = (
        gradients(m, mel, audio) for m in (model, fuse(model))
    )
    truth = flat(gradients(model.double(), mel.double(), audio.double())[1])
    assert abs(loss - fused_loss) <= 1e-6 * abs(loss)
    errors = [(flat(g) - truth).norm() for g in (grads, fused_grads)]
    assert errors[1] <= 1e-6 * truth.norm()
    assert errors[1] <= 2 * errors[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("conditioning", ["upsampled", "interpolated"])
def test_autocast_computes_in_its_dtype(
    conditioning: str, recompute: bool, dtype: torch.dtype
) -> None:
    c = config(n_channels=16, conditioning=conditioning)
    model = trained_looking(c)
    mel, audio = (t.float() for t in inputs(c, 2, 40))
    exact, exact_grads = gradients(model, mel, audio)
    seen: list[torch.dtype] = []
    products = fused.fused_ops.forward

    def spy(W: Any, dilations: Any, x: Tensor, *rest: Any) -> Any:
        seen.append(x.dtype)
        return products(W, dilations, x, *rest)

    with pytest.MonkeyPatch.context() as m, torch.autocast("cpu", dtype):
        m.setattr(fused.fused_ops, "forward", spy)
        loss, grads = gradients(fuse(model, recompute), mel, audio)
    assert set(seen) == {dtype}
    assert all(g.dtype == torch.float32 for g in grads.values())
    tolerance = 0.02 if dtype == torch.bfloat16 else 0.003
    assert abs(loss - exact) <= tolerance * abs(exact)
    assert (flat(grads) - flat(exact_grads)).norm() <= tolerance * flat(exact_grads).norm()


def test_shared_projections_are_fused_too() -> None:
    """``WaveGlow.conditioning``, made once for both directions, keeps its gradient."""
    c = config()
    model = trained_looking(c).double()
    mel, audio = inputs(c, 2, 20)
    found = []
    for m in (model, fuse(model)):
        shared = m.conditioning(mel, audio.shape[1])
        nll(m(mel, audio, shared)).backward()
        found.append(flat({n: p.grad for n, p in m.named_parameters()}))
    assert torch.allclose(*found, rtol=1e-9, atol=1e-12)


def test_it_computes_again_what_it_does_not_keep() -> None:
    """The same to the bit, from a fraction of the memory."""
    c = config(n_channels=32)
    model = trained_looking(c)
    mel, audio = (t.float() for t in inputs(c, 2, 200))
    found, kept = [], []
    for m in (fuse(model), fuse(model, recompute=True)):
        stored = kept_bytes(lambda m=m: found.append(gradients(m, mel, audio)))
        kept.append(stored)
    (loss, grads), (again, grads_again) = found
    assert torch.equal(loss, again)
    assert torch.equal(flat(grads), flat(grads_again))
    assert kept[1] < 0.15 * kept[0]


def kept_bytes(run: Callable[[], None]) -> int:
    """Bytes that a forward pass keeps for its way back, leaves and their views left out."""
    storages: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if not (t.is_leaf and t.requires_grad) and not (t._is_view() and t._base.is_leaf):
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        run()
    return sum(storages.values())


# -- where it steps aside -------------------------------------------------------------------------


@pytest.mark.usefixtures("no_fused")
def test_without_gradients_the_plain_path_computes() -> None:
    c = config()
    model = fuse(trained_looking(c))
    mel, audio = (t.float() for t in inputs(c, 1, 20))
    with torch.no_grad():
        model(mel, audio)
        model.infer(mel[:, :, :4])
    with pytest.raises(AssertionError, match="plainly"):
        model(mel, audio)
    # The sequence's end is nothing it knows of.
    wn = model.WN[0]
    x, projected = torch.zeros(1, 4, 7), torch.zeros(1, 36, 7)
    wn(x, projected, torch.arange(7)[None, None] > 4)


@pytest.mark.usefixtures("no_fused")
def test_folded_traced_and_exported_models_are_plain() -> None:
    c = config()
    model = fuse(trained_looking(c))
    wn = model.WN[0]
    x, projected = torch.zeros(1, 4, 7), torch.zeros(1, 36, 7)
    torch.jit.trace(wn, (x, projected))
    torch.export.export(wn, (x, projected))
    model.remove_weight_norm().WN[0](x, projected)


def test_it_is_no_part_of_the_parameters_or_of_copies() -> None:
    c = config()
    model = trained_looking(c)
    other = fuse(model)
    assert list(other.state_dict()) == list(model.state_dict())
    mel, audio = (t.float() for t in inputs(c, 1, 20))
    loss, _ = gradients(other, mel, audio)
    copied = copy.deepcopy(other)
    assert copied.WN[0].fused
    with torch.no_grad():
        copied.WN[0].end.bias.add_(1.0)
    assert torch.equal(gradients(other, mel, audio)[0], loss)
    assert not torch.equal(gradients(copied, mel, audio)[0], loss)


def test_flows_that_are_not_computed_have_no_gradient() -> None:
    c = config()
    model = trained_looking(c)
    model.active[1] = False
    mel, audio = (t.float() for t in inputs(c, 1, 20))
    (loss, grads), (fused_loss, fused_grads) = (
        gradients(m, mel, audio) for m in (model, fuse(model))
    )
    assert torch.isclose(loss, fused_loss, rtol=1e-6)
    assert grads.keys() == fused_grads.keys()
    assert not any(n.startswith("WN.1.") for n in fused_grads)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_way_back_can_be_gone_twice_but_not_after_a_step(recompute: bool) -> None:
    c = config()
    model = fuse(trained_looking(c), recompute)
    mel, audio = (t.float() for t in inputs(c, 1, 20))
    loss = nll(model(mel, audio))
    parameters = list(model.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    second = torch.autograd.grad(loss, parameters, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with torch.no_grad():
        parameters[-1].add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, parameters)


def test_hooks_on_modules_and_parameters_fire() -> None:
    """DDP sends a gradient when its parameter's hook fires; the guard's diagnosis watches WN."""
    c = config()
    model = fuse(trained_looking(c))
    modules: list[str] = []
    parameters: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: modules.append(name))
    for name, p in model.named_parameters():
        p.register_post_accumulate_grad_hook(lambda _, name=name: parameters.append(name))
    mel, audio = (t.float() for t in inputs(c, 1, 20))
    gradients(model, mel, audio)
    assert {f"WN.{k}" for k in range(4)} < set(modules)
    assert sorted(parameters) == sorted(n for n, _ in model.named_parameters())


# -- the upsampling -------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [16, 40, 48, 64])
@pytest.mark.parametrize(("frames", "groups"), [(5, 10), (5, 9), (5, 1), (3, 7), (5, 12)])
def test_upsampling_is_the_layer(kernel: int, frames: int, groups: int) -> None:
    """Also beyond the last frame's hop, where only the kernel's tail sounds."""
    groups = min(groups, ((frames - 1) * 16 + kernel) // 8)  # as far as the mel reaches
    torch.manual_seed(0)
    layer = TransposedConv(config(upsample_kernel=kernel)).double()
    mel = torch.randn(3, 5, frames, dtype=torch.float64)
    found = []
    for is_fused in (False, True):
        layer.fused = is_fused
        assert fused_upsample.can_fuse(layer, mel)
        out = layer.context(mel, groups * 8).features
        weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
        found.append((out, *torch.autograd.grad((out * weights).sum(), list(layer.parameters()))))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_upsampling_steps_aside_for_a_mel_that_is_learned() -> None:
    layer = TransposedConv(config())
    assert not fused_upsample.can_fuse(layer, torch.zeros(1, 5, 3, requires_grad=True))
    layer.fused = True
    mel = torch.randn(1, 5, 3, requires_grad=True)
    layer.context(mel, 48).features.sum().backward()
    assert mel.grad is not None


def test_weights_without_norm_are_told_from_those_with() -> None:
    wn = WN(2, config(), n_cond=4)
    assert isinstance(wn.cond_layer, WeightNormConv1d)
    assert fused.usable(wn, torch.zeros(1, 2, 3))
    wn.start = wn.start.folded()
    assert not fused.usable(wn, torch.zeros(1, 2, 3))
