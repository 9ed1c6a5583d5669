"""Segments are a pure function of (seed, step): paired, resumable, the same on any ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from wg.errors import UserError
from wg.train import data
from wg.train.build import build
from wg.train.data import MEL_FLOOR, SegmentData, SegmentStream, level_dbfs
from wg.train.held import Held, check_room
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


def test_crops_are_the_ones_that_the_seed_draws(tiny_config: Config) -> None:
    """Written out once more: a change here would unpair new runs from old ones."""
    s = stream(tiny_config(seed=3))
    starts = np.array([s.store.n_samples(i) for i in s.store.train]) // s.hop - 4096 // s.hop + 1
    ends = np.cumsum(starts)
    picks = np.random.default_rng([3, 5]).integers(ends[-1], size=2)
    _, audio = s.batch(5, 4096, 2)
    for pick, crop in zip(picks, audio, strict=True):
        j = int(np.searchsorted(ends, pick, side="right"))
        first = int(pick - (ends[j] - starts[j])) * s.hop
        assert torch.equal(crop, s.store.audio(s.store.train[j], first, first + 4096))


@pytest.fixture
def half_silent(tmp_path: Path) -> Path:
    """Six clips at 16 kHz: a second of noise at -26 dBFS, then 2 s of nothing."""
    folder = tmp_path / "half_silent"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        wave = np.concatenate([0.05 * rng.standard_normal(16000), np.zeros(32000)])
        soundfile.write(folder / f"{i}.wav", wave, 16000, subtype="PCM_16")
    return folder


def batches(s: SegmentStream, n: int = 12, B: int = 2) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [s.batch(step, 4096, B) for step in range(n)]


def test_silent_crops_are_drawn_again_and_no_other(tiny_config: Config, half_silent: Path) -> None:
    config = tiny_config(data={"path": str(half_silent)})
    off, on = batches(stream(config)), batches(stream(config, silence_db=-60.0))
    kept = changed = 0
    for (mel_off, audio_off), (mel, audio) in zip(off, on, strict=True):
        for i in range(2):
            assert level_dbfs(audio[i]) >= -60
            if level_dbfs(audio_off[i]) >= -60:
                kept += 1
                assert torch.equal(audio[i], audio_off[i])
                assert torch.equal(mel[i], mel_off[i])
            else:
                changed += 1
    assert kept >= 3
    assert changed >= 3
    again = batches(stream(config, silence_db=-60.0))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(on, again, strict=True))
    # A threshold that everything passes changes nothing.
    low, plain = (batches(stream(tiny_config(), silence_db=dB)) for dB in (-100.0, None))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(low, plain, strict=True))


def test_silent_crops_after_all_tries_the_loudest(
    tiny_config: Config, half_silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wg.train.data.TRIES", 3)
    config = tiny_config(data={"path": str(half_silent)})
    off, on = batches(stream(config)), batches(stream(config, silence_db=-10.0))
    levels = [[level_dbfs(a) for _, audio in b for a in audio] for b in (off, on)]
    assert all(b >= a for a, b in zip(*levels, strict=True))
    silent = [row.count(float("-inf")) for row in levels]
    assert silent[1] < silent[0] / 2


def with_plan(s: SegmentStream, **slots: Any) -> SegmentStream:
    for name, value in slots.items():
        object.__setattr__(s.plan, name, value)
    return s


@pytest.mark.parametrize("dequantize", [0.0, 1.0])
def test_redraws_and_noise_do_not_depend_on_ranks_and_workers(
    tiny_config: Config, half_silent: Path, dequantize: float
) -> None:
    config = tiny_config(data={"path": str(half_silent)})
    ddp = tiny_config(data={"path": str(half_silent)}, strategy={"ddp": {"ranks": 2}})
    whole = with_plan(stream(config, silence_db=-60.0), dequantize=dequantize)
    parts = [
        with_plan(stream(ddp, rank=r, silence_db=-60.0), dequantize=dequantize) for r in (0, 1)
    ]
    for step in range(8):
        expected = whole.batch(step, 4096, 2)
        shares = [part.batch(step, 4096, 2) for part in parts]
        for i in (0, 1):
            assert torch.equal(torch.cat([share[i] for share in shares]), expected[i])
    alone = [audio for _, audio in whole]
    loaded = [audio for _, audio in DataLoader(whole, batch_size=None, num_workers=2)]
    assert len(alone) == len(loaded)
    assert all(torch.equal(a, b) for a, b in zip(alone, loaded, strict=True))


def test_dequantisation_is_uniform_and_changes_no_crop(tiny_config: Config) -> None:
    clean, noisy = (
        batches(with_plan(stream(tiny_config(batch_size=8)), dequantize=d), 4, 8)
        for d in (0.0, 1.0)
    )
    plain = batches(stream(tiny_config(batch_size=8)), 4, 8)
    steps = []
    for (mel, audio), (mel_noisy, audio_noisy), (_, audio_plain) in zip(
        clean, noisy, plain, strict=True
    ):
        assert torch.equal(audio, audio_plain)
        assert torch.equal(mel, mel_noisy)  # of the clean audio
        steps.append((audio_noisy.double() - audio.double()) * 32768)
    noise = torch.stack(steps).flatten()
    assert noise.abs().max() <= 0.5 + 1e-2  # float32 rounds it to steps of 2^-28 or less
    assert abs(float(noise.mean())) < 0.005
    assert float(noise.var()) == pytest.approx(1 / 12, rel=0.02)
    rows = torch.cat(steps)
    assert not torch.equal(rows[0], rows[1])
    half = batches(with_plan(stream(tiny_config(batch_size=8)), dequantize=0.5), 1, 8)[0][1]
    assert torch.allclose((half - clean[0][1]) * 2, noisy[0][1] - clean[0][1], atol=1e-7)


def test_a_silent_corpus_is_refused_at_the_start(tiny_config: Config, half_silent: Path) -> None:
    job = build(Settings.from_config(tiny_config(data={"path": str(half_silent)})))
    made = SegmentData(job.store, job.plan, 256, silence_db=-60.0)
    assert made.silence_db == -60.0
    with pytest.raises(UserError, match=r"all training audio is below data.silence_db=-20"):
        SegmentData(job.store, job.plan, 256, silence_db=-20.0)


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
        ({"strategy": {"grow_flows": {"n_flows": [4, 2]}}}, "must increase"),
        ({"strategy": {"lr_schedule": {"shape": "zigzag"}}}, "'wsd' or 'constant'"),
    ],
)
def test_wrong_settings_get_a_sentence(
    changes: dict[str, Any], sentence: str, tiny_config: Config
) -> None:
    with pytest.raises(UserError) as e:
        Settings.from_config(tiny_config(**changes)).plan()
    assert sentence in str(e.value)


@pytest.mark.parametrize(
    "strategy", [{}, {"dequantize": {"lsb": 2.0}}, {"loudness_curriculum": {"start": 0.3}}]
)
def test_a_held_corpus_makes_the_very_same_batches(
    strategy: dict[str, Any], tiny_config: Config
) -> None:
    job = build(Settings.from_config(tiny_config(strategy={**strategy, "cached_mel": {}})))
    mapped = list(job.data.train_dataloader())
    job.data.hold(torch.device("cpu"))
    assert job.data.held is not None
    # What lies on the disk is read no more.
    job.store._audio, job.store._mel = job.store._audio[:0], job.store._mel[:0]
    if "loudness_curriculum" in strategy:  # which looks at all audio, once, where it is mapped
        job.data.store = build(Settings.from_config(tiny_config())).store
    held = list(job.data.train_dataloader())
    assert len(held) == len(mapped)
    for a, b in zip(mapped, held, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


def test_levels_are_measured_where_audio_is_stored(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where it is held: a GPU would be asked for a number for every segment."""
    job = build(
        Settings.from_config(tiny_config(strategy={"cached_mel": {}}, data={"silence_db": -28.25}))
    )
    mapped = list(job.data.train_dataloader())
    job.data.hold(torch.device("cpu"))
    assert job.data.held is not None
    taken, tried = [], []
    audio = Held.audio

    def take(self: Held, *where: int) -> torch.Tensor:
        taken.append(where)
        return audio(self, *where)

    def level(audio: torch.Tensor) -> float:
        tried.append(level_dbfs(audio))
        return tried[-1]

    monkeypatch.setattr(Held, "audio", take)
    monkeypatch.setattr(data, "level_dbfs", level)
    held = list(job.data.train_dataloader())
    for a, b in zip(mapped, held, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert len(taken) == sum(len(audio) for _, audio in held)
    assert min(tried) < -28.25 <= max(tried)


def test_a_corpus_is_held_only_where_the_plan_says_so(tiny_config: Config) -> None:
    job = build(Settings.from_config(tiny_config()))
    job.data.hold(torch.device("cpu"))
    assert job.data.held is None


@pytest.mark.parametrize(("device", "where"), [("cpu", " in memory, "), ("cuda", "the GPU's")])
def test_a_corpus_that_does_not_fit_is_refused(device: str, where: str) -> None:
    check_room(2_000_000_000, 4_000_000_000, torch.device(device))
    with pytest.raises(UserError, match=r"hold 2\.1 GB .*4\.0 GB are free") as refusal:
        check_room(2_100_000_000, 4_000_000_000, torch.device(device))
    assert where in str(refusal.value)
