"""The ends of the scales: what they are made of, in which order they lie, and once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from wg.audio.config import DataConfig
from wg.audio.corpus import load_corpus
from wg.audio.mel import MelConfig
from wg.audio.store import Store
from wg.errors import UserError
from wg.flow import FlowConfig, WaveGlow
from wg.measure import ends
from wg.measure.ends import NoiseThroughMel, Speech, griffin_lim, measure_ends, utterance
from wg.measure.quality import log_mel_l1
from wg.measure.score import fixed_noise
from wg.train.prepare import tell_mel

CONF = Path(__file__).resolve().parents[2] / "conf"
NAMES = ["ground_truth", "griffin_lim", "noise_lpc", "noise_lpc_consistent"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two held-out clips of the demo corpus."""
    values = {**yaml.safe_load((CONF / "data/demo.yaml").read_text()), "held_out": 2}
    config = DataConfig.from_dict(values)
    return Store.prepare(load_corpus(config), config.mel, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def first(store: Store) -> dict[str, dict[str, float]]:
    return measure_ends(store, ["nats_per_sample", "log_mel_l1", "pesq_wb", "estoi"])


def quiet(_: MelConfig) -> dict[str, Callable[[Speech], np.ndarray]]:
    """Generators of the same names that cost nothing."""
    return {name: lambda speech: speech.reference for name in NAMES}


def test_the_ends_are_where_they_are_known_to_be(first: dict[str, dict[str, float]]) -> None:
    assert list(first) == NAMES
    for values in first.values():
        assert set(values) == {"log_mel_l1", "pesq_wb", "estoi"}  # noise has no likelihood
    truth, lim, noise, fitted = (first[name] for name in NAMES)
    assert truth["log_mel_l1"] == 0
    assert truth["pesq_wb"] == pytest.approx(4.64, abs=0.005)
    assert truth["estoi"] == pytest.approx(1)
    assert 2.2 < lim["pesq_wb"] < 3.0
    assert 1.04 < noise["pesq_wb"] < 1.6
    # Griffin-Lim and the noise alone both miss the mel; what is fitted to it meets it best.
    assert fitted["log_mel_l1"] < 0.1 < lim["log_mel_l1"] < noise["log_mel_l1"]
    assert noise["estoi"] < lim["estoi"] < 1


def test_results_are_kept_and_only_new_metrics_are_computed(
    store: Store, first: dict[str, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        ends, "score", lambda ref, gen, mel, names: asked.append(names) or dict.fromkeys(names, 1.0)
    )
    monkeypatch.setattr(ends, "_generators", quiet)
    said: list[str] = []
    assert measure_ends(store, ["log_mel_l1", "pesq_wb"], said.append) == {
        name: {m: values[m] for m in ("log_mel_l1", "pesq_wb")} for name, values in first.items()
    }
    assert not asked
    assert not said
    more = measure_ends(store, ["level_db", "log_mel_l1"], said.append)
    assert asked == [["level_db"]] * (2 * len(NAMES))
    assert len(said) == len(NAMES)
    assert more["noise_lpc"] == {"level_db": 1.0, "log_mel_l1": first["noise_lpc"]["log_mel_l1"]}
    path = store.path.parent.parent / "ends" / f"{store.path.name}.json"
    whole = json.loads(path.read_text())
    assert set(whole["ends"]) == set(NAMES)
    for damaged in ("{", json.dumps({**whole, "format": 0}), '{"format": 1, "ends": [1]}'):
        path.write_text(damaged)
        asked.clear()
        measure_ends(store, ["level_db"])
        assert len(asked) == 2 * len(NAMES)


def test_values_that_are_none_stay_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "score", lambda r, g, m, names: dict.fromkeys(names, math.nan))
    monkeypatch.setattr(ends, "_generators", quiet)
    for _ in range(2):  # computed, and read again
        found = measure_ends(store, ["mr_stft"])
        assert all(math.isnan(values["mr_stft"]) for values in found.values())


def test_the_likelihood_alone_has_no_ends(store: Store) -> None:
    with pytest.raises(UserError, match="listens to audio"):
        measure_ends(store, ["nats_per_sample"])


@pytest.mark.parametrize("rounds", [0, 3])
def test_the_noise_is_what_an_untrained_model_says(store: Store, rounds: int) -> None:
    """A WaveGlow whose couplings and 1x1 convolutions are identities, with this front end."""
    mel = store.mel_config
    config = FlowConfig(n_flows=1, n_layers=1, n_channels=4, front="lpc_whiten", consistency=rounds)
    model = WaveGlow(config)
    (mixing,) = model.convinv
    mixing.conv.weight.data.copy_(torch.eye(8)[..., None])
    tell_mel(model, mel)
    speech = utterance(store, store.held_out[0])
    z = fixed_noise(model, speech.name, speech.mel.shape[1])
    with torch.no_grad():
        said = model.infer(speech.mel[None], 1.0, z=z)[0, : len(speech.reference)].numpy()
    np.testing.assert_allclose(NoiseThroughMel(mel, rounds)(speech), said, atol=1e-5)


def test_griffin_lim_hears_the_mel_alone(store: Store) -> None:
    speech = utterance(store, store.held_out[0])
    flipped = Speech(speech.name, -speech.reference, speech.mel)
    audio = griffin_lim(speech, store.mel_config)
    np.testing.assert_array_equal(audio, griffin_lim(flipped, store.mel_config))
    assert audio.shape == speech.reference.shape
    assert log_mel_l1(speech.reference, audio, store.mel_config) < 0.25


@pytest.mark.parametrize("extra", [0, 8, 248])
def test_griffin_lim_takes_any_length(store: Store, extra: int) -> None:
    """Audio that ends on a whole hop has one frame more than its vocoder is given."""
    hop = store.mel_config.hop_length
    T = 20 * hop + extra
    frames = -(-T // hop)
    i = store.held_out[0]
    speech = Speech("a", store.audio(i, 0, T).numpy(), store.mel(i, 0, frames))
    generated = griffin_lim(speech, store.mel_config)
    assert generated.shape == (T,)
    assert log_mel_l1(speech.reference, generated, store.mel_config) < 0.6
