"""Segments are a pure function of (seed, step): paired, resumable, the same on any ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from wg.errors import UserError
from wg.train.build import build
from wg.train.data import MEL_FLOOR, SegmentStream
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]


def stream(config: dict[str, Any], **kwargs: Any) -> SegmentStream:
    job = build(Settings.from_config(config))
    return SegmentStream(job.store, job.plan, job.settings.data.mel.hop_length, **kwargs)


def test_the_stream_ends_with_the_budget_and_repeats(tiny_config: Config) -> None:
    a, b = list(stream(tiny_config())), list(stream(tiny_config()))
    assert len(a) == np.ceil(4.0 * 16000 / (2 * 4096))
    for (mel, audio), (mel_b, audio_b) in zip(a, b, strict=True):
        assert audio.shape == (2, 4096)
        assert mel.shape == (2, 16, 17)
        assert torch.equal(mel, mel_b)
        assert torch.equal(audio, audio_b)
    other = next(iter(stream(tiny_config(seed=1))))
    assert not torch.equal(other[1], a[0][1])


def test_it_goes_on_where_it_stopped(tiny_config: Config) -> None:
    whole = list(stream(tiny_config()))
    rest = list(stream(tiny_config(), step=3, samples_seen=3 * 2 * 4096))
    assert len(rest) == len(whole) - 3
    assert all(torch.equal(a[1], b[1]) for a, b in zip(whole[3:], rest, strict=True))


def test_ranks_share_the_very_same_batch(tiny_config: Config) -> None:
    whole = next(iter(stream(tiny_config())))
    config = tiny_config(strategy={"ddp": {"ranks": 2}})
    parts = [next(iter(stream(config, rank=r))) for r in (0, 1)]
    for i in (0, 1):
        assert torch.equal(torch.cat([p[i] for p in parts]), whole[i])


def test_mel_and_audio_belong_together(tiny_config: Config) -> None:
    """The mel of the crop itself, away from its edges, is the mel that was served."""
    from wg.audio.mel import MelSpectrogram

    config = tiny_config()
    settings = Settings.from_config(config)
    for (mel, audio), _ in zip(stream(config), range(3), strict=False):
        own = MelSpectrogram(settings.data.mel)(audio)
        assert own.shape == mel.shape
        assert torch.allclose(own[:, :, 2:-2], mel[:, :, 2:-2], atol=1e-3)


def test_curriculum_changes_shapes_and_holds_the_samples(tiny_config: Config) -> None:
    config = tiny_config(strategy={"curriculum": {"segment_lengths": [2048, 8192]}})
    shapes = [tuple(audio.shape) for _, audio in stream(config)]
    assert set(shapes) == {(4, 2048), (1, 8192)}
    assert shapes == sorted(shapes, key=lambda s: s[1])


def test_short_clips_are_refused_skipped_or_padded(tiny_config: Config) -> None:
    long = {"segment_length": 32000, "batch_size": 1}
    with pytest.raises(UserError, match="shorter than segment_length=32000"):
        build(Settings.from_config(tiny_config(**long)))
    mel, audio = next(iter(stream(tiny_config(**long, data={"short_clips": "pad"}))))
    assert audio.shape == (1, 32000)
    assert not audio[0, 24000:].any()
    assert mel.shape == (1, 16, 126)
    assert torch.all(mel[0, :, 100:] == torch.tensor(MEL_FLOOR))


def test_a_batch_that_ranks_cannot_share_is_refused(tiny_config: Config) -> None:
    config = tiny_config(batch_size=3, strategy={"ddp": {"ranks": 2}})
    with pytest.raises(UserError, match="batch of 3 cannot be divided over 2 ranks"):
        Settings.from_config(config).plan()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"segment_length": 4095}, "multiple of model.n_group"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"budget": {"audio_seconds": -1}}, "budget.audio_seconds"),
        ({"snapshots": {"every": 99.0}}, "snapshots.every=99"),
        ({"snapshots": {"also": [99]}}, "snapshots.also=[99"),
        ({"snapshots": {"keep": "some"}}, "'last' or 'all'"),
        ({"budget": {"audio_second": 1}}, "did you mean 'audio_seconds'"),
        ({"sede": 1}, "did you mean 'seed'"),
        ({"model": {"n_mels": 80}}, "the data has 16 mels"),
        ({"model": {"n_flow": 3}}, "did you mean 'n_flows'"),
        ({"strategy": {"adamw": {"lr": "fast"}}}, "strategy.adamw.lr='fast' must be a number"),
        ({"strategy": {"adamw": {"lr": -1}}}, "must be positive"),
        ({"strategy": {"ema": {"decy": 0.9}}}, "did you mean 'decay'"),
        ({"strategy": {"curriculum": {"segment_lengths": [3000]}}}, "does not divide"),
        ({"strategy": {"warm_start": {"n_flows": [4, 2]}}}, "must increase"),
        ({"strategy": {"lr_schedule": {"shape": "zigzag"}}}, "'linear' or 'cosine'"),
    ],
)
def test_wrong_settings_get_a_sentence(
    changes: dict[str, Any], sentence: str, tiny_config: Config
) -> None:
    with pytest.raises(UserError) as e:
        Settings.from_config(tiny_config(**changes)).plan()
    assert sentence in str(e.value)
