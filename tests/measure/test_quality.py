"""Quality metrics give known values, rank known damage, and survive garbage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile

from wg.audio.corpus import DEMO
from wg.audio.mel import MelConfig
from wg.errors import UserError
from wg.measure.metrics import (
    DEFAULT,
    DERIVED,
    EXTRAS,
    METRICS,
    NO_CONSTANT,
    SHOWN,
    check_metrics,
    metric_info,
    with_derived,
)
from wg.measure.quality import COMPUTE, LSB, dc_offset, line_noise_db, log_mel_l1, mr_stft, score

MEL = MelConfig(sampling_rate=16000)
AUDIO = set(DEFAULT) - {"nats_per_sample"}


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(next(DEMO.glob("flac/*/pbx-invalid.flac")), dtype="float32")[0]


def test_the_table() -> None:
    assert set(METRICS) == {*COMPUTE, "nats_per_sample"}
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.direction in {"lower", "higher", "zero"}
        assert metric.unit
        assert metric.description
        assert metric.source
        assert metric.cost > 0
        assert metric.extra in {"", *EXTRAS}


def test_what_is_scored_by_default_is_cheap_and_always_there() -> None:
    rows = [METRICS[name] for name in DEFAULT]
    assert not [row.name for row in rows if row.extra]
    assert sum(row.cost for row in rows if row.name in COMPUTE) < 0.05
    assert {"pesq_wb", "stoi", "estoi"} <= set(DEFAULT)


def test_only_what_is_asked_for_is_computed(speech: np.ndarray) -> None:
    assert set(score(speech, speech, MEL, ["stoi", "nats_per_sample", "level_db"])) == {
        "stoi",
        "level_db",
    }


def test_wrong_names_are_told() -> None:
    with pytest.raises(UserError, match=r"here: there is no metric 'pesq'.*'pesq_wb'"):
        check_metrics(["stoi", "pesq"], "here")
    with pytest.raises(UserError, match="names 'stoi' twice"):
        check_metrics(["stoi", "mcd", "stoi"], "here")
    with pytest.raises(UserError, match="here is empty"):
        check_metrics([], "here")
    with pytest.raises(UserError, match=f"there is no metric '{NO_CONSTANT}'.*'nats_per_sample'"):
        check_metrics([NO_CONSTANT], "here")
    check_metrics(METRICS, "here")


def test_what_follows_from_nats_stands_beside_them() -> None:
    assert list(SHOWN)[:2] == ["nats_per_sample", NO_CONSTANT]
    assert set(SHOWN) == {*METRICS, *DERIVED}
    assert metric_info(NO_CONSTANT).unit == METRICS["nats_per_sample"].unit
    values = {"log_mel_l1": 1.0, "nats_per_sample": -4.211}
    found = with_derived(values, 1.0)
    assert {k: found[k] for k in values} == values
    assert found[NO_CONSTANT] == pytest.approx(-5.130, abs=5e-4)
    # Where sigma is 1 / sqrt(2 pi), the constant is none.
    assert with_derived(values, (2 * math.pi) ** -0.5)[NO_CONSTANT] == pytest.approx(-4.211)
    assert with_derived({"nats_per_sample": None}, 1.0)[NO_CONSTANT] is None
    assert with_derived({"stoi": 1.0}, 1.0) == {"stoi": 1.0}


def test_identical(speech: np.ndarray) -> None:
    values = score(speech, speech, MEL)
    assert set(values) == AUDIO
    assert values["log_mel_l1"] == values["mr_stft"] == values["level_db"] == 0.0
    assert values["line_noise_db"] == values["dc_offset"] == 0.0
    assert values["pesq_wb"] == pytest.approx(4.64, abs=0.005)
    assert values["estoi"] == pytest.approx(1.0, abs=1e-6)
    assert values["stoi"] == pytest.approx(1.0, abs=1e-6)


def test_half_the_level(speech: np.ndarray) -> None:
    values = score(speech, speech / 2, MEL)
    assert values["level_db"] == pytest.approx(-6.02, abs=0.01)
    assert values["pesq_wb"] > 4.6  # PESQ aligns levels
    assert values["estoi"] > 0.999


def test_gain_is_known_exactly_above_the_floor() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    assert log_mel_l1(noise, noise / 2, MEL) == pytest.approx(math.log(2), abs=1e-4)
    # Spectral convergence of a gain g is 1 - g; its log magnitudes differ by -ln g.
    assert mr_stft(noise, noise / 2) == pytest.approx(0.5 + math.log(2), abs=1e-3)


def test_more_noise_is_worse(speech: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(size=speech.shape)
    a, b = (score(speech, speech + s * noise, MEL) for s in (0.003, 0.03))
    for name in AUDIO - {"line_noise_db"}:  # noise has no lines
        if METRICS[name].direction == "lower":
            assert a[name] < b[name]
        elif METRICS[name].direction == "higher":
            assert a[name] > b[name]


def test_stoi_falls_with_noise(speech: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(size=speech.size).astype(np.float32)
    level = float(np.sqrt(np.mean(speech**2)))
    at = [COMPUTE["stoi"](speech, speech + g * level * noise, MEL) for g in (0.1, 0.3, 1, 3)]
    assert at == sorted(at, reverse=True)
    assert at[0] > 0.97
    assert at[-1] < 0.7
    assert COMPUTE["stoi"](speech, level * noise, MEL) < 0.5


def test_clipped_as_int16_would_be(speech: np.ndarray) -> None:
    loud = speech * 20
    assert score(speech, loud, MEL) == score(speech, np.clip(loud, -1, 1), MEL)


@pytest.mark.parametrize("kind", ["nan", "inf", "huge", "silence", "dc", "impulse"])
def test_garbage_never_raises(speech: np.ndarray, kind: str) -> None:
    garbage = {
        "nan": np.where(np.arange(speech.size) == 7, np.nan, speech),
        "inf": np.where(np.arange(speech.size) == 7, np.inf, speech),
        "huge": 1e30 * np.random.default_rng(0).normal(size=speech.size),
        "silence": np.zeros_like(speech),
        "dc": np.ones_like(speech),
        "impulse": np.eye(1, speech.size)[0],
    }[kind]
    values = score(speech, garbage, MEL)
    assert set(values) == AUDIO
    if kind in {"nan", "inf"}:
        assert all(math.isnan(v) for v in values.values())
    else:
        assert math.isfinite(values["log_mel_l1"])
        for name in ("level_db", "line_noise_db", "dc_offset"):
            assert math.isfinite(values[name])
    assert math.isnan(values["pesq_wb"]) == (kind in {"nan", "inf", "silence"})


@pytest.mark.parametrize("n_samples", [1, 100, 3000])
def test_too_short_is_nan_where_there_is_no_answer(speech: np.ndarray, n_samples: int) -> None:
    clip = speech[8000 : 8000 + n_samples]
    values = score(clip, clip, MEL)
    assert values["log_mel_l1"] == values["line_noise_db"] == values["dc_offset"] == 0.0
    assert math.isnan(values["pesq_wb"])
    assert math.isnan(values["estoi"])
    assert math.isnan(values["stoi"])


def test_pesq_of_long_audio_with_many_utterances() -> None:
    """Bursts of 0.29 s, two a second: over 50 of them end the PESQ program with a crash."""
    rng = np.random.default_rng(0)
    bursts = np.where(np.arange(60 * 16000) % 8000 < 4600, rng.normal(size=60 * 16000), 0) * 0.2
    clip = bursts.astype(np.float32)
    assert COMPUTE["pesq_wb"](clip, clip, MEL) == pytest.approx(4.64, abs=0.005)


def test_other_rates_and_the_global_random_state(speech: np.ndarray) -> None:
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    values = score(speech, speech, MelConfig())
    assert np.random.random() == expected
    assert values["pesq_wb"] == pytest.approx(4.64, abs=0.005)


def tone(audio: np.ndarray, below_db: float, k: float) -> np.ndarray:
    """A tone at k Fs / 8, ``below_db`` under the signal's level."""
    level = np.sqrt(np.mean(audio**2)) * 10 ** (-below_db / 20)
    return level * math.sqrt(2) * np.cos(2 * np.pi * k / 8 * np.arange(audio.size) + 0.3)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_line_noise_in_noise_is_known(k: int) -> None:
    """White noise has its variance in every bin, a tone of power P the mean P N / 6 in three."""
    noise = (0.05 * np.random.default_rng(0).normal(size=64000)).astype(np.float32)
    strong, double = (line_noise_db(noise, noise + tone(noise, dB, k)) for dB in (0.0, -6.0206))
    # In dB a bin of noise averages 2.5 dB below its mean power, the mean of three some 1.3 dB.
    assert strong == pytest.approx(10 * math.log10(2048 / 6) + 2.5 - 1.3, abs=1.0)
    assert double - strong == pytest.approx(6.02, abs=0.05)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_line_noise_is_seen_in_speech(speech: np.ndarray, k: int) -> None:
    clean = score(speech, speech + 1e-4 * np.random.default_rng(0).normal(size=speech.size), MEL)
    assert clean["line_noise_db"] < 1.5
    seen = [score(speech, speech + tone(speech, dB, k), MEL)["line_noise_db"] for dB in (40, 30)]
    assert seen[0] > 8
    assert seen[1] > seen[0] + 6


def test_only_lines_are_line_noise(speech: np.ndarray) -> None:
    elsewhere = score(speech, speech + tone(speech, 30, 1.3), MEL)
    louder = score(speech, 0.3 * speech, MEL)
    silent = score(speech, 0 * speech, MEL)
    assert elsewhere["line_noise_db"] < 1
    assert louder["line_noise_db"] < 1
    assert silent["line_noise_db"] == 0.0
    # What the recording has itself is not held against the model.
    humming = speech + tone(speech, 30, 1)
    assert line_noise_db(humming, speech) == line_noise_db(humming, humming) == 0.0


def test_dc_offset_is_known(speech: np.ndarray) -> None:
    assert dc_offset(speech, speech + 3 * LSB) == pytest.approx(3.0, abs=0.01)
    assert score(speech, speech - 50 * LSB, MEL)["dc_offset"] == pytest.approx(-50, abs=0.01)
    silence = np.zeros_like(speech)
    assert score(silence, silence, MEL)["dc_offset"] == 0.0
