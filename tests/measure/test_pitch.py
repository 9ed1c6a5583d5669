"""Pitch, voicing, periodicity and envelopes of signals whose values are known."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from wg.audio.corpus import DEMO
from wg.audio.mel import MelConfig
from wg.errors import UserError
from wg.measure import pitch
from wg.measure.metrics import check_metrics_installed
from wg.measure.pitch import (
    cepstral_distance,
    f0_rmse,
    frame_periodicity,
    mcd,
    mel_cepstra,
    periodicity,
    vuv_error,
)
from wg.measure.quality import score

RATE = 16000
MEL = MelConfig(sampling_rate=RATE)
OF_PITCH = ("mcd", "f0_rmse", "vuv_error", "periodicity")
DB = 20 / math.log(10)  # dB in a neper


@pytest.fixture
def world() -> None:
    pytest.importorskip("pyworld", reason="needs pip install 'wg[pitch]'")


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(next(DEMO.glob("flac/*/pbx-invalid.flac")), dtype="float32")[0]


def voice(seconds: float = 2.0, cents: float = 0.0, seed: int = 0) -> np.ndarray:
    """A buzz whose pitch glides between 110 and 220 Hz, ``cents`` higher, in faint noise."""
    t = np.arange(int(seconds * RATE)) / RATE
    f0 = 110 * 2 ** (0.5 + 0.5 * np.sin(2 * np.pi * t)) * 2 ** (cents / 1200)
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    buzz = sum(np.cos(k * phase) / k for k in range(1, 20))
    noise = np.random.default_rng(seed).normal(size=t.size)
    return (0.05 * buzz + 1e-4 * noise).astype(np.float32)


def white(n: int, level: float = 0.05, seed: int = 1) -> np.ndarray:
    return (level * np.random.default_rng(seed).normal(size=n)).astype(np.float32)


@pytest.mark.usefixtures("world")
def test_equal_signals_are_ideal(speech: np.ndarray) -> None:
    assert score(speech, speech, MEL, OF_PITCH) == dict.fromkeys(OF_PITCH, 0.0)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("cents", [-300, 50, 700])
def test_a_shift_of_pitch_is_known(cents: float) -> None:
    """A constant shift is its own RMS."""
    assert f0_rmse(voice(), voice(cents=cents), MEL) == pytest.approx(abs(cents), abs=6)
    assert vuv_error(voice(), voice(cents=cents), MEL) < 0.02


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_share_of_unvoiced_frames_is_known(share: float) -> None:
    whole = voice(4.0)
    broken = whole.copy()
    n = round(share * whole.size)
    broken[:n] = white(n, 1e-4)
    assert vuv_error(whole, broken, MEL) == pytest.approx(share, abs=0.02)
    assert vuv_error(broken, whole, MEL) == pytest.approx(share, abs=0.02)
    assert f0_rmse(whole, broken, MEL) < 20  # of the frames that both are voiced in


@pytest.mark.usefixtures("world")
def test_no_common_voice_is_no_pitch() -> None:
    assert math.isnan(f0_rmse(voice(), np.zeros(2 * RATE, np.float32), MEL))
    assert vuv_error(np.zeros(RATE, np.float32), np.zeros(RATE, np.float32), MEL) == 0.0


def test_cepstra_are_those_of_a_known_envelope() -> None:
    """ln |H| = 3 + 0.7 cos 3w - 0.4 cos 10w along the mel axis."""
    f = np.linspace(0, RATE / 2, 513)
    w = np.pi * np.log1p(f / 700) / np.log1p(RATE / 2 / 700)
    envelope = 3 + 0.7 * np.cos(3 * w) - 0.4 * np.cos(10 * w)
    c = mel_cepstra(np.exp(2 * envelope)[None], RATE)
    expected = np.zeros(24)
    expected[[2, 9]] = 0.7, -0.4
    assert c[0] == pytest.approx(expected, abs=0.01)
    # Scaled in its logarithm by half: half of the cepstra are the difference. In dB it is the RMS
    # of the difference of the log spectra along the axis, as Parseval has it.
    half = mel_cepstra(np.exp(envelope)[None], RATE)
    (distance,) = cepstral_distance(c, half)
    assert distance == pytest.approx(DB * 0.5 * math.sqrt((0.7**2 + 0.4**2) / 2), rel=0.01)
    # A gain is c0, which is left out.
    louder = mel_cepstra(100 * np.exp(2 * envelope)[None], RATE)
    assert cepstral_distance(c, louder)[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.usefixtures("world")
def test_the_distortion_of_a_filter_is_its_response() -> None:
    """1 + 0.6 z^-1 before a buzz and before noise: the RMS of its log response on the mel axis,
    less its mean, is what the two differ by."""
    m = (np.arange(4096) + 0.5) / 4096
    f = 700 * np.expm1(m * np.log1p(RATE / 2 / 700))
    response = DB * np.log(np.abs(1 + 0.6 * np.exp(-2j * np.pi * f / RATE)))
    for signal in (voice(), white(2 * RATE)):
        filtered = lfilter([1, 0.6], [1], signal).astype(np.float32)
        assert mcd(signal, filtered, MEL) == pytest.approx(np.std(response), rel=0.1)
        assert mcd(signal, 0.5 * signal, MEL) < 0.05


@pytest.mark.usefixtures("world")
def test_more_noise_is_worse(speech: np.ndarray) -> None:
    noisy = [score(speech, speech + white(speech.size, g), MEL, OF_PITCH) for g in (0.003, 0.03)]
    for name in OF_PITCH:
        assert 0 < noisy[0][name] < noisy[1][name], name


def test_periodicity_of_a_mixture_is_the_share_of_its_power() -> None:
    """A period repeats, noise does not: the correlation is S / (S + N), plus what the largest of
    a hundred correlations of noise is by chance."""
    t = np.arange(2 * RATE) / RATE
    buzz = 0.05 * sum(np.cos(2 * np.pi * k * 160 * t) for k in range(1, 30)).astype(np.float32)
    power = float(np.mean(buzz**2))
    for noise_share, slack in ((0.0, 0.01), (0.25, 0.06), (0.5, 0.08)):
        level = math.sqrt(power * noise_share / (1 - noise_share))
        found = frame_periodicity(buzz + white(buzz.size, level), RATE)[20:-20]
        assert np.mean(found) == pytest.approx(1 - noise_share, abs=slack)
    assert np.mean(frame_periodicity(white(buzz.size), RATE)) < 0.25
    assert np.all(frame_periodicity(1e-4 * buzz, RATE) == 0)  # under -60 dBFS
    assert np.mean(frame_periodicity(np.full(RATE, 0.3, np.float32), RATE)[40:-40]) < 0.01


def test_periodicity_of_a_construct_is_known() -> None:
    whole = voice(4.0)
    broken = whole.copy()
    broken[: 2 * RATE] = 0
    own = frame_periodicity(whole, RATE)
    expected = math.sqrt(np.mean(own[: len(own) // 2] ** 2) / 2)
    assert periodicity(whole, broken, MEL) == pytest.approx(expected, abs=0.01)
    assert expected == pytest.approx(math.sqrt(0.5), abs=0.05)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("n_samples", [1, 100, 790, 810, 3000])
def test_short_and_strange_audio_never_raises(speech: np.ndarray, n_samples: int) -> None:
    clip = speech[8000 : 8000 + n_samples]
    values = score(clip, clip, MEL, OF_PITCH)
    if n_samples < 800:
        assert all(math.isnan(v) for v in values.values())
    else:
        assert values["mcd"] == values["vuv_error"] == values["periodicity"] == 0.0
    for garbage in (np.zeros_like(clip), np.ones_like(clip), 1e30 * clip):
        values = score(clip, garbage, MEL, OF_PITCH)
        assert n_samples < 800 or math.isfinite(values["mcd"])


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_other_rates(rate: int) -> None:
    t = np.arange(3 * rate) / rate  # DIO errs in the last two frames of a signal that is cut off
    tone, higher = (
        (0.05 * sum(np.cos(2 * np.pi * k * f * t) / k for k in range(1, 12))).astype(np.float32)
        for f in (120, 120 * 2 ** (1 / 12))
    )
    mel = MelConfig(sampling_rate=rate, f_max=4000.0)
    values = score(tone, higher, mel, OF_PITCH)
    assert values["f0_rmse"] == pytest.approx(100, abs=6)
    assert values["periodicity"] < 0.05


@pytest.mark.usefixtures("world")
def test_a_reference_is_analysed_once(speech: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyworld

    calls = [0]
    real = pyworld.dio

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        return real(*args, **kwargs)

    monkeypatch.setattr(pyworld, "dio", counted)
    pitch._references.clear()
    for seed in range(3):
        score(speech, speech + white(speech.size, 0.01, seed), MEL, OF_PITCH)
    assert calls[0] == 1 + 3
    assert len(pitch._generated) == 1


def test_without_pyworld_only_what_needs_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyworld", None)
    clip = voice(0.5)
    for name in ("mcd", "f0_rmse", "vuv_error"):
        with pytest.raises(UserError, match=r"needs pyworld.*pip install 'wg\[pitch\]'"):
            score(clip, clip + white(clip.size, 0.01, 7), MEL, [name])
        with pytest.raises(UserError, match=r"pip install 'wg\[pitch\]'"):
            check_metrics_installed([name])
    assert score(clip, clip, MEL, ["periodicity"]) == {"periodicity": 0.0}
    check_metrics_installed(["periodicity"])
