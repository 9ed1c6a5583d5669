"""The cause of a step that was not finite is found, not guessed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from wg.flow import WaveGlow
from wg.flow.config import FlowConfig
from wg.train.diagnose import diagnose, level

SIZE = FlowConfig(
    n_mels=16, n_flows=4, n_early_every=2, n_layers=2, n_channels=4, upsample_kernel=512
)


def healthy() -> tuple[WaveGlow, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = WaveGlow(SIZE)
    for wn in model.WN:
        torch.nn.init.normal_(wn.end.weight, std=0.05)
    mel, audio = torch.randn(3, 16, 5), 0.1 * torch.randn(3, 1024)
    return model, mel, audio


def zero_w(model: WaveGlow, mel: torch.Tensor, audio: torch.Tensor) -> None:
    model.convinv[1].conv.weight.zero_()


def large_log_s(model: WaveGlow, mel: torch.Tensor, audio: torch.Tensor) -> None:
    model.WN[2].end.weight.zero_()
    model.WN[2].end.bias[3:] = 104.25  # the second half of 6 channels


def large_log_s_of_the_last_flow(model: WaveGlow, mel: torch.Tensor, audio: torch.Tensor) -> None:
    model.WN[3].end.weight.zero_()
    model.WN[3].end.bias[3:] = 104.25


def nan_weight(model: WaveGlow, mel: torch.Tensor, audio: torch.Tensor) -> None:
    model.WN[1].in_layers[0].weight_v[0, 0, 0] = torch.nan


def bad_audio(model: WaveGlow, mel: torch.Tensor, audio: torch.Tensor) -> None:
    audio[1, 5] = torch.inf


def large_z(model: WaveGlow, mel: torch.Tensor, audio: torch.Tensor) -> None:
    for wn in model.WN:
        wn.end.weight.zero_()
    model.convinv[0].conv.weight.mul_(1e20)


def large_activations(model: WaveGlow, mel: torch.Tensor, audio: torch.Tensor) -> None:
    model.WN[2].start.weight_g.fill_(1e6)


def large_gradients(model: WaveGlow, mel: torch.Tensor, audio: torch.Tensor) -> None:
    """The half that WN does not see is near 1e11: so is its gradient, in fp32 until it meets WN."""
    model.convinv[3].conv.weight[3:].mul_(1e12)


CASES: dict[str, tuple[Callable[..., None], bool, str, str, tuple[int, ...]]] = {
    # poison, in fp16, kind, words, items of the batch
    "W": (zero_w, False, "forward", "W of flow 1 is singular (log|det W| = -inf)", ()),
    "log_s": (
        large_log_s, False, "forward", "log_s of flow 2 overflowed exp (max 104.2)", (0, 1, 2),
    ),
    "last log_s": (
        large_log_s_of_the_last_flow, False, "forward",
        "log_s of flow 3 overflowed exp (max 104.2)", (0, 1, 2),
    ),
    "weight": (nan_weight, False, "weights", "WN.1.in_layers.0.weight_v is not finite", ()),
    "audio": (bad_audio, False, "data", "the audio that was read is not finite", (1,)),
    "z": (large_z, False, "forward", "the sum of z^2 overflowed (max |z| ", ()),
    "activations": (
        large_activations, True, "forward", "WN.2.start overflowed float16, which ends at 6.55e+04",
        (0, 1, 2),
    ),
    "gradients": (
        large_gradients, True, "backward", "the gradient at the output of WN.3.end is not finite",
        (0, 1, 2),
    ),
    "healthy": (lambda *a: None, False, "none", "gave finite gradients", ()),
    "healthy fp16": (lambda *a: None, True, "none", "gave finite gradients", ()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_first_bad_tensor_is_named(case: str) -> None:
    spoil, half, kind, words, items = CASES[case]
    model, mel, audio = healthy()
    with torch.no_grad():
        spoil(model, mel, audio)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    context: Any = torch.autocast("cpu", torch.float16) if half else contextlib.nullcontext()
    found = diagnose(model, (mel, audio), 1.0, context)
    assert found.kind == kind
    assert words in found.what
    assert set(found.items) == set(items)
    assert found.half == (half and kind != "none")
    # Nothing is left on the model: no hooks, no gradients, the same weights.
    assert all(torch.equal(v, before[k]) or v.isnan().any() for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_scale_that_is_too_large_overflows_the_gradients() -> None:
    model, mel, audio = healthy()
    half = torch.autocast("cpu", torch.float16)
    found = diagnose(model, (mel, audio), 1.0, half, scale=2.0**40)
    assert (found.kind, found.half) == ("backward", True)


def test_levels_tell_digital_silence() -> None:
    audio = torch.zeros(3, 100)
    audio[1] = 0.5
    audio[2, :40] = 0.1
    assert level(audio).describe() == "3 of 3 segments (2 digital silence)"
    assert level(audio, (0, 2)).describe() == "2 of 3 segments (digital silence)"
    words = "1 of 3 segments (none digital silence, the loudest peaks at -6 dB)"
    assert level(audio, (1,)).describe() == words
