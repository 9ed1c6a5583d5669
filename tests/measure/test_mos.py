"""Opinions of networks: what they are given, what they say, and how their absence is told."""

from __future__ import annotations

import math
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from wg.audio.corpus import DEMO
from wg.audio.mel import MelConfig
from wg.errors import UserError
from wg.measure import mos
from wg.measure.metrics import check_metrics_installed
from wg.measure.quality import score


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(next(DEMO.glob("flac/*/pbx-invalid.flac")), dtype="float32")[0]


@pytest.mark.parametrize("name", ["dnsmos", "distillmos"])
def test_absent_packages_are_named(
    speech: np.ndarray, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("speechmos", "distillmos"):
        monkeypatch.setitem(sys.modules, module, None)
    mos._distillmos.cache_clear()
    mel = MelConfig(sampling_rate=16000)
    with pytest.raises(UserError, match=rf"'{name}' needs .*: pip install 'wg\[{name}\]'"):
        score(speech, speech, mel, [name])
    with pytest.raises(UserError, match=rf"pip install 'wg\[{name}\]'"):
        check_metrics_installed([name])


def test_dnsmos_is_given_the_generated_audio_at_16_khz_within_its_range(
    speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []

    def run(audio: np.ndarray, sr: int) -> dict[str, Any]:
        heard.append((audio, sr))
        return {"ovrl_mos": np.float64(3.25), "sig_mos": 1.0, "bak_mos": 1.0, "p808_mos": 1.0}

    package = ModuleType("speechmos")
    package.dnsmos = SimpleNamespace(run=run)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "speechmos", package)
    loud = np.sign(speech).astype(np.float32)  # resampling overshoots full scale
    assert score(speech, loud, MelConfig(sampling_rate=22050), ["dnsmos"]) == {"dnsmos": 3.25}
    ((audio, sr),) = heard
    assert sr == 16000
    assert audio.shape == (math.ceil(speech.size * 16000 / 22050),)
    assert audio.dtype == np.float32
    assert np.abs(audio).max() == 1.0
    short = speech[:100]
    assert math.isnan(score(short, short, MelConfig(), ["dnsmos"])["dnsmos"])
    assert len(heard) == 1


def test_distillmos_is_built_once_and_given_a_batch_of_one(
    speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, shapes = [0], []

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            built[0] += 1

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            assert not torch.is_grad_enabled()
            shapes.append(tuple(x.shape))
            return 1 + x.abs().mean(dim=1)

    package = ModuleType("distillmos")
    package.ConvTransformerSQAModel = Network  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "distillmos", package)
    mos._distillmos.cache_clear()
    mel = MelConfig(sampling_rate=16000)
    loud, soft = (score(speech, g * speech, mel, ["distillmos"])["distillmos"] for g in (1, 0.5))
    mos._distillmos.cache_clear()
    assert built[0] == 1
    assert shapes == [(1, speech.size)] * 2
    assert loud - 1 == pytest.approx(2 * (soft - 1), rel=1e-2)


# Of a recording, the same with noise, and noise alone, by speechmos 0.0.1.1 and distillmos 0.9.1.
KNOWN = {"dnsmos": (3.318, 2.460, 1.112), "distillmos": (4.467, 2.726, 1.600)}


@pytest.mark.parametrize("name", KNOWN)
def test_the_networks_say_what_they_are_known_to_say(speech: np.ndarray, name: str) -> None:
    for module in ("speechmos",) if name == "dnsmos" else ("torchaudio", "distillmos"):
        pytest.importorskip(module, reason=f"needs pip install 'wg[{name}]'")
    mel = MelConfig(sampling_rate=16000)
    noise = np.random.default_rng(0).normal(size=speech.size).astype(np.float32)
    heard = [
        score(speech, x, mel, [name])[name] for x in (speech, speech + 0.02 * noise, 0.1 * noise)
    ]
    assert heard == pytest.approx(KNOWN[name], abs=0.02)
