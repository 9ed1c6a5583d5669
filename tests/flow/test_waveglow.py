"""WaveGlow as a flow: invertible, with the log-determinant that autograd finds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests_helpers import trained_looking

from wg.errors import UserError
from wg.flow import FlowConfig, WaveGlow
from wg.flow.layers import Invertible1x1Conv, WeightNormConv1d, random_rotation
from wg.flow.waveglow import gaussian_constant, nll

SMALL = FlowConfig(n_flows=6, n_layers=2, n_channels=16)
MICRO = FlowConfig(
    n_mels=3, n_flows=5, n_group=8, n_early_every=2, n_early_size=2, n_layers=2, n_channels=4,
    upsample_kernel=32, upsample_stride=16,
)  # fmt: skip


@pytest.mark.parametrize("config", [SMALL, MICRO, FlowConfig(n_flows=12, n_layers=3, n_channels=8)])
def test_z_to_audio_to_z(config: FlowConfig) -> None:
    model = trained_looking(config)
    mel = torch.randn(2, config.n_mels, 9)
    z = model.noise(2, 9, torch.Generator().manual_seed(1))
    with torch.no_grad():
        audio = model.infer(mel, z=z)
        assert audio.shape == (2, 9 * config.upsample_stride)
        back = model(mel, audio).z
    assert torch.allclose(back, z, atol=2e-5), (back - z).abs().max()


def test_audio_to_z_to_audio() -> None:
    model = trained_looking(SMALL)
    mel, audio = torch.randn(1, 80, 8), 0.1 * torch.randn(1, 8 * 256)
    with torch.no_grad():
        back = model.infer(mel, z=model(mel, audio).z)
    assert torch.allclose(back, audio, atol=1e-5)


def test_log_determinant_is_that_of_the_jacobian() -> None:
    model = trained_looking(MICRO).double()
    mel, audio = torch.randn(1, 3, 3).double(), torch.randn(1, 32).double()
    jacobian = torch.autograd.functional.jacobian(lambda a: model(mel, a).z.flatten(), audio)
    expected = torch.linalg.slogdet(jacobian.reshape(32, 32)).logabsdet
    out = model(mel, audio)
    groups = out.z.shape[2]
    assert torch.isclose(out.log_s.sum() + groups * out.log_det_W, expected, atol=1e-5)
    z2 = (out.z**2).sum()
    assert torch.isclose(nll(out, 0.7), (z2 / (2 * 0.49) - expected) / 32, atol=1e-6)


def test_gaussian_constant_makes_sigmas_compare() -> None:
    """White noise of the model's own sigma has the entropy of a Gaussian."""
    torch.manual_seed(0)
    model = WaveGlow(MICRO)  # as built: an orthonormal map
    for sigma in (0.5, 1.0, 2.0):
        audio = sigma * torch.randn(1, 16 * 2000)
        with torch.no_grad():
            nats = nll(model(torch.zeros(1, 3, 2000), audio), sigma) + gaussian_constant(sigma)
        expected = 0.5 * torch.log(torch.tensor(2 * torch.pi * torch.e * sigma**2))
        assert abs(float(nats) - float(expected)) < 0.02


def test_inverse_follows_the_optimizer() -> None:
    """The stale-inverse trap: infer, step, infer again must invert the *new* weights."""
    model = trained_looking(MICRO)
    mel, audio = torch.randn(1, 3, 4), torch.randn(1, 64)
    with torch.no_grad():
        model.infer(mel)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    nll(model(mel, audio)).backward()
    optimizer.step()
    with torch.no_grad():
        back = model.infer(mel, z=model(mel, audio).z)
    assert torch.allclose(back, audio, atol=1e-4)


def test_noise_is_drawn_final_channels_first() -> None:
    model = WaveGlow(FlowConfig(n_flows=12, n_layers=1, n_channels=2))
    z = model.noise(1, 2, torch.Generator().manual_seed(3))
    g = torch.Generator().manual_seed(3)
    final, at_8, at_4 = (torch.randn(1, c, 64, generator=g) for c in (4, 2, 2))
    assert torch.equal(z, torch.cat([at_4, at_8, final], dim=1))


def test_sigma_scales_the_noise() -> None:
    model = trained_looking(MICRO)
    mel, z = torch.randn(1, 3, 4), model.noise(1, 4)
    with torch.no_grad():
        assert torch.equal(model.infer(mel, 0.5, z=z), model.infer(mel, 1.0, z=0.5 * z))


def test_mel_group_index_is_mel_times_group_plus_offset() -> None:
    model = WaveGlow(MICRO)
    up = torch.arange(3 * 16, dtype=torch.float32).view(1, 3, 16)
    model.upsample.forward = lambda mel: mel  # type: ignore[method-assign, union-attr]
    grouped, groups = model.upsample.context(up, 16)
    assert groups == 2
    assert grouped.shape == (1, 24, 2)
    assert grouped[0, 2 * 8 + 5, 1] == up[0, 2, 8 + 5]


def test_remove_weight_norm_keeps_the_function() -> None:
    model = trained_looking(SMALL)
    folded = copy.deepcopy(model).remove_weight_norm()
    mel, audio = torch.randn(1, 80, 4), 0.1 * torch.randn(1, 1024)
    with torch.no_grad():
        assert torch.allclose(folded(mel, audio).z, model(mel, audio).z, atol=1e-5)
    assert not any(isinstance(m, WeightNormConv1d) for m in folded.modules())


def test_parameter_names_are_the_published_ones() -> None:
    names = set(WaveGlow(MICRO).state_dict())
    for name in (
        "upsample.weight", "upsample.bias", "convinv.0.conv.weight", "WN.4.start.weight_g",
        "WN.0.cond_layer.weight_v", "WN.1.in_layers.1.bias", "WN.1.res_skip_layers.0.weight_g",
        "WN.2.end.weight", "WN.2.end.bias",
    ):  # fmt: skip
        assert name in names


def test_paper_model_has_the_published_size() -> None:
    with torch.device("meta"):
        parameters = sum(
            p.numel() for k in range(12) for p in _meta_flow(FlowConfig(), k).parameters()
        )
    upsample = 80 * 80 * 1024 + 80
    # 87.9 M in all (the figure that NVIDIA's model card gives)
    assert round((parameters + upsample) / 1e6, 1) == 87.9


def _meta_flow(config: FlowConfig, k: int) -> torch.nn.Module:
    from wg.flow.wn import WN

    return torch.nn.ModuleList(
        [torch.nn.Conv1d(config.channels(k), config.channels(k), 1, bias=False),
         WN(config.channels(k) // 2, config, 640)]
    )  # fmt: skip


def test_random_rotation_is_one() -> None:
    for seed in range(5):
        Q = random_rotation(6, torch.Generator().manual_seed(seed))
        assert torch.allclose(Q @ Q.T, torch.eye(6), atol=1e-5)
        assert torch.linalg.det(Q) > 0.99


def test_flow_arithmetic_stays_fp32_under_autocast() -> None:
    model = trained_looking(SMALL)
    mel, audio = torch.randn(1, 80, 5), 0.1 * torch.randn(1, 1024)
    with torch.no_grad():
        exact = model(mel, audio)
        with torch.autocast("cpu", torch.bfloat16):
            out = model(mel, audio)
    assert out.z.dtype == torch.float32
    assert out.log_s.dtype == torch.float32
    # The signal's own path is not rounded: without couplings the two agree to fp32.
    plain = WaveGlow(SMALL)
    with torch.no_grad():
        z = plain(mel, audio).z
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.allclose(plain(mel, audio).z, z, atol=1e-6)
    assert torch.allclose(out.z, exact.z, atol=0.05)


def test_log_det_of_a_reflection() -> None:
    """log|det W|: a W of negative determinant is as good as its mirror."""
    conv = Invertible1x1Conv(2)
    conv.set_matrix(torch.tensor([[0.0, 2.0], [3.0, 0.0]]))
    _, log_det = conv(torch.zeros(1, 2, 1))
    assert torch.isclose(log_det, torch.log(torch.tensor(6.0)))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"n_group": 7}, "even"),
        ({"n_flows": 13}, "leave no channels"),
        ({"kernel_size": 2}, "odd"),
        ({"n_flows": 0}, "n_flows"),
        ({"upsample_stride": 100}, "divide"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, int], word: str) -> None:
    with pytest.raises(UserError, match=word):
        FlowConfig(**{"n_early_every": 3, **changes})


MEL, AUDIO = torch.zeros(1, 3, 4), torch.zeros(1, 64)


@pytest.mark.parametrize(
    ("mel", "changes", "message"),
    [
        (MEL[0], {}, r"mel of shape \(3, 4\) must be \(B, 3, F\)"),
        (MEL.mT, {}, r"mel of shape \(1, 4, 3\) must be \(B, 3, F\)"),
        (MEL.numpy(), {}, "mel is a ndarray and must be a torch tensor"),
        (MEL.half(), {}, r"mel of torch\.float16 must be of torch\.float32"),
        (MEL.double(), {}, r"mel of torch\.float64 must be of torch\.float32"),
        (MEL[:, :, :0], {}, "without a 0"),
        (MEL.to("meta"), {}, "mel is on meta and the model on cpu"),
        (MEL, {"z": torch.zeros(1, 8, 9)}, r"z of shape \(1, 8, 9\) must be \(1, 8, 8\)"),
        (MEL, {"z": torch.zeros(1, 8, 8).double()}, r"z of torch\.float64 must be"),
        (MEL, {"sigma": float("nan")}, "sigma=nan must be a finite number"),
        (MEL, {"sigma": -1.0}, r"sigma=-1\.0 must be"),
        (MEL, {"sigma": "x"}, "sigma='x' must be"),
    ],
)
def test_mistakes_with_infer_are_told(mel: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        WaveGlow(MICRO).infer(mel, **changes)


@pytest.mark.parametrize(
    ("mel", "audio", "message"),
    [
        (MEL, AUDIO[0], r"audio of shape \(64,\) must be \(1, T\)"),
        (MEL, AUDIO[None], r"audio of shape \(1, 1, 64\) must be \(1, T\)"),
        (AUDIO, MEL, r"mel of shape \(1, 64\) must be \(B, 3, F\)"),
        (MEL, AUDIO[:, :63], "audio of 63 samples must be a multiple of 8"),
        (MEL, torch.zeros(1, 800), "mel of 4 frames covers 80 samples and the audio has 800"),
        (MEL, AUDIO.double(), r"audio of torch\.float64 must be of torch\.float32"),
        (MEL, AUDIO.long(), r"audio of torch\.int64 must be of a floating dtype"),
        (MEL, AUDIO.repeat(2, 1), r"audio of shape \(2, 64\) must be \(1, T\)"),
        (MEL, AUDIO[:, :0], "without a 0"),
        (MEL, AUDIO.numpy(), "audio is a ndarray"),
    ],
)
def test_mistakes_with_forward_are_told(mel: Any, audio: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        WaveGlow(MICRO)(mel, audio)


def test_autocast_takes_what_it_converts() -> None:
    """And audio may have gaps in memory, as a channel of a stereo recording has."""
    model = WaveGlow(MICRO)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert model(MEL.bfloat16(), AUDIO).z.isfinite().all()
        assert model.infer(MEL.bfloat16()).isfinite().all()
    strided = torch.randn(1, 64, 2)[..., 0]
    assert torch.equal(model(MEL, strided).z, model(MEL, strided.contiguous()).z)


def test_both_directions_share_the_conditioning() -> None:
    """One projection of the mel serves both, also when the audio ends inside a frame."""
    model = trained_looking(SMALL)
    model.active[2] = False
    mel, audio = torch.randn(1, 80, 5), 0.1 * torch.randn(1, 4 * 256 + 64)
    z = model.noise(1, 5)
    with torch.no_grad():
        shared = model.conditioning(mel, 5 * 256)
        assert torch.equal(model.infer(mel, z=z, shared=shared), model.infer(mel, z=z))
        own = model(mel, audio)
        cut = [None if c is None else c[:, :, : audio.shape[1] // 8] for c in shared]
        assert torch.allclose(model(mel, audio, shared=cut).z, own.z, atol=1e-6)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_channels_last_is_another_order_in_memory_alone(dtype: torch.dtype | None) -> None:
    """The same numbers, by convolutions whose results have their channels side by side."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 6, 50, generator=generator)
    layer = WeightNormConv1d(6, 10, 3, dilation=4)
    found = []
    for computed in ("plain", "channels_last"):
        layer.computed = computed
        layer.zero_grad()
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            out = layer(x)
        out.float().square().sum().backward()
        found.append([out.float(), *(p.grad.clone() for p in layer.parameters())])  # type: ignore[union-attr]
    assert out.transpose(1, 2).is_contiguous()
    tolerance = 1e-5 if dtype is None else 0.02
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=tolerance, atol=tolerance)
