"""Every strategy that changes the network: still a bijection, with the log-determinant it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from strategies_table import ROWS, TRAINED
from torch import Tensor

from wg.audio.mel import MelSpectrogram
from wg.flow import WaveGlow
from wg.strategies import all_strategies
from wg.train.build import Job, build
from wg.train.prepare import prepare
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]
# Plain WaveGlow first: the tests' own control.
MODELS = [None, *(n for n in TRAINED if all_strategies()[n].kind == "model")]


def perturbed(name: str | None, tiny_config: Config) -> tuple[Job, WaveGlow]:
    """The model as training would have moved it: no coupling is an identity, no matrix a
    rotation, no scale 1."""
    strategy = {} if name is None else {name: ROWS[name]}
    job = build(Settings.from_config(tiny_config(strategy=strategy)))
    model = job.module.model
    prepare(model, job.plan, job.data.stream())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return job, model


def clip(job: Job, frames: int) -> tuple[Tensor, Tensor]:
    """(mel (1, M, F), audio (1, F * hop)) of the middle of a recording, with its own mel: what
    fits audio to a mel must leave it alone."""
    hop, first = job.settings.data.mel.hop_length, 20
    audio = job.store.audio(0, first * hop, (first + frames) * hop)[None]
    return MelSpectrogram(job.settings.data.mel)(audio)[:, :, :frames], audio


@pytest.mark.parametrize("name", MODELS, ids=str)
@torch.no_grad()
def test_the_inverse_gives_the_audio_back(name: str | None, tiny_config: Config) -> None:
    job, model = perturbed(name, tiny_config)
    mel, audio = clip(job, 16)
    z = model(mel, audio).z
    again = model.infer(mel, z=z)
    assert again.shape == audio.shape
    assert float((again - audio).abs().max()) < 1e-4
    # It is the mel's and the latent's doing: neither may be left out.
    assert float((model.infer(mel - 1.0, z=z) - audio).abs().max()) > 1e-3
    assert float((model.infer(mel, z=z + 0.1) - audio).abs().max()) > 1e-3


@pytest.mark.parametrize("name", MODELS, ids=str)
def test_the_log_determinant_is_that_of_the_jacobian(name: str | None, tiny_config: Config) -> None:
    """In fp64, against the Jacobian of z by the audio, entry by entry from autograd."""
    job, model = perturbed(name, tiny_config)
    mel, audio = clip(job, 1)
    mel, audio = mel.double(), audio.double()
    model.double()
    with torch.no_grad():
        told = model(mel, audio)
    groups = told.z.shape[2]
    said = float(told.log_s[0] + groups * told.log_det_W)
    jacobian = torch.autograd.functional.jacobian(lambda x: model(mel, x).z.flatten(), audio)
    measured = float(torch.linalg.slogdet(jacobian[:, 0]).logabsdet)
    assert said == pytest.approx(measured, abs=1e-6 * audio.numel())
    # Both parts count, so that neither could be wrong unseen.
    assert abs(float(told.log_s[0])) > 0.1
    assert abs(float(groups * told.log_det_W)) > 0.1
