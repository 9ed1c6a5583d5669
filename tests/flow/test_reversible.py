"""The reversible flow: the gradients of the plain one, from memory that does not grow."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests_helpers import trained_looking
from torch import Tensor

from wg.flow import FlowConfig, WaveGlow, reversible
from wg.flow.conditioning import Context
from wg.flow.waveglow import nll

SIZES = {
    "n_mels": 5, "n_flows": 6, "n_group": 8, "n_early_every": 2, "n_early_size": 2,
    "n_layers": 2, "n_channels": 6, "upsample_kernel": 48, "upsample_stride": 16,
}  # fmt: skip


def config(**changes: Any) -> FlowConfig:
    return FlowConfig(**{**SIZES, **changes})


def reverse(model: WaveGlow, fused: bool = False) -> WaveGlow:
    model = copy.deepcopy(model)
    model.reversible = True
    for wn in model.WN:
        wn.fused = fused
    return model


def inputs(c: FlowConfig, batch: int = 2, groups: int = 22) -> tuple[Tensor, Tensor]:
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


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_early_every": 9},
        {"swap_odd_halves": True},
        {"actnorm": True},
        {"conditioning": "interpolated"},
        {"conditioning": "frame_rate"},
    ],
)
def test_gradients_are_the_plain_ones_in_fp64(changes: dict[str, Any], fused: bool) -> None:
    c = config(**changes)
    model = trained_looking(c).double()
    if c.actnorm:
        for norm in model.actnorm:
            torch.nn.init.normal_(norm.log_scale, std=0.3)
            torch.nn.init.normal_(norm.offset, std=0.3)
    model.active[2] = model.active[4] = False  # 4: the first after an early output
    mel, audio = inputs(c)
    (loss, grads), (other_loss, other_grads) = (
        gradients(m, mel, audio) for m in (model, reverse(model, fused))
    )
    assert torch.isclose(loss, other_loss, rtol=1e-12)
    assert grads.keys() == other_grads.keys()
    for name, g in grads.items():
        assert (g - other_grads[name]).norm() <= 1e-9 * (g.norm() + flat(grads).norm()), name


def test_gradcheck() -> None:
    """Of z, log_s and log_det_W, in the audio, the mel's features and the parameters."""
    c = config(n_flows=3, n_early_every=2, n_channels=3, n_mels=2)
    model = reverse(trained_looking(c).double())
    x = 0.3 * torch.randn(1, 8, 3, dtype=torch.float64)
    features = torch.randn(1, 16, 3, dtype=torch.float64)

    def run(x: Tensor, features: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        return reversible.flow(model, x, Context(features, 3))

    parameters = [*model.convinv.parameters(), *model.WN.parameters()]
    start = (x.requires_grad_(), features.requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(run, start, atol=1e-6)


def test_inputs_are_undone_to_rounding_at_the_paper_s_depth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """12 flows that transform strongly: every reconstructed input, and the gradients."""
    model = trained_looking(FlowConfig(n_layers=3, n_channels=16))
    for wn in model.WN:
        torch.nn.init.normal_(wn.end.weight, std=0.3)
    mel, audio = torch.randn(2, 80, 8), 0.1 * torch.randn(2, 2048)
    model.zero_grad()
    given: list[Tensor] = []
    undone: list[Tensor] = []
    mix, undo = reversible._mix, reversible._undo

    def spy_mix(model: WaveGlow, k: int, x: Tensor) -> tuple[Tensor, Tensor]:
        if not torch.is_grad_enabled():
            given.append(x.detach())
        return mix(model, k, x)

    def spy_undo(*args: Any) -> Any:
        found = undo(*args)
        undone.append(found[0].detach())
        return found

    monkeypatch.setattr(reversible, "_mix", spy_mix)
    monkeypatch.setattr(reversible, "_undo", spy_undo)
    loss, grads = gradients(reverse(model), mel, audio)
    assert len(given) == len(undone) == 12
    errors = [float((a - b).norm() / a.norm()) for a, b in zip(given, undone[::-1], strict=True)]
    assert max(errors) < 1e-5, errors
    plain_loss, plain = gradients(model, mel, audio)
    assert torch.equal(loss, plain_loss)
    assert (flat(grads) - flat(plain)).norm() <= 1e-5 * flat(plain).norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_differentiates_what_it_computed(dtype: torch.dtype) -> None:
    """To the bit: no second rounding of another input."""
    c = config(n_channels=16)
    model = trained_looking(c)
    mel, audio = (t.float() for t in inputs(c))
    with torch.autocast("cpu", dtype):
        (loss, grads), (other_loss, other) = (
            gradients(m, mel, audio) for m in (model, reverse(model))
        )
    assert torch.equal(loss, other_loss)
    assert (flat(grads) - flat(other)).norm() <= 1e-6 * flat(grads).norm()


def kept_bytes(model: WaveGlow, mel: Tensor, audio: Tensor) -> int:
    """Bytes that a forward pass keeps for its way back, parameters left out."""
    leaves = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in leaves:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = nll(model(mel, audio))
    loss.backward()
    return sum(kept.values())


def test_memory_does_not_grow_with_flows() -> None:
    kept = {}
    for n_flows in (3, 12):
        c = config(n_flows=n_flows, n_early_every=99, n_channels=32)
        model = trained_looking(c)
        mel, audio = (t.float() for t in inputs(c, groups=400))
        kept[n_flows] = [kept_bytes(m, mel, audio) for m in (model, reverse(model))]
    plain, other = zip(*kept.values(), strict=True)
    assert plain[1] > 3 * plain[0]
    assert other[1] <= 1.02 * other[0]
    assert other[1] < 0.03 * plain[1]


def test_the_way_back_can_be_gone_twice_and_in_parts() -> None:
    c = config()
    model = trained_looking(c).double()
    other = reverse(model)
    mel, audio = inputs(c)
    loss = nll(other(mel, audio))
    parameters = list(other.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    second = torch.autograd.grad(loss, parameters)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for part in ("z", "log_s", "log_det_W"):
        grads = [
            torch.autograd.grad(
                getattr(m(mel, audio), part).square().sum(), m.parameters(), allow_unused=True
            )
            for m in (model, other)
        ]
        for a, b in zip(*grads, strict=True):
            # What is not reached has no gradient on one side, and zeros on the other.
            zero = torch.zeros((), dtype=torch.float64)
            assert torch.allclose(a if a is not None else zero, b if b is not None else zero)


def test_a_step_in_between_is_an_error() -> None:
    c = config()
    model = reverse(trained_looking(c))
    mel, audio = (t.float() for t in inputs(c))
    loss = nll(model(mel, audio))
    with torch.no_grad():
        model.convinv[1].conv.weight.mul_(1.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_arrive_flow_by_flow() -> None:
    """From the last flow to the first, through the hooks that DDP sends them by."""
    c = config()
    model = reverse(trained_looking(c))
    order: list[int] = []
    for k, wn in enumerate(model.WN):
        wn.end.weight.register_post_accumulate_grad_hook(lambda _, k=k: order.append(k))
    gradients(model, *(t.float() for t in inputs(c)))
    assert order == list(range(6))[::-1]


def test_inference_and_scoring_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    c = config()
    model = reverse(trained_looking(c))
    mel, audio = (t.float() for t in inputs(c))
    monkeypatch.setattr(reversible, "flow", None)
    with torch.no_grad():
        model(mel, audio)
        model.infer(mel)
    shared = model.conditioning(mel, audio.shape[1])
    model(mel, audio, shared)
