"""Loud segments first: the order is by level, the draw is a function of seed and step alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from wg.train.build import build
from wg.train.data import SegmentStream, level_dbfs
from wg.train.pool import Pool, loudest_first
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]
HOP = 256


@pytest.fixture
def swelling(tmp_path: Path) -> Path:
    """Seven clips of noise that swells from silence, of unequal lengths, one shorter than a
    segment."""
    folder = tmp_path / "swelling"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, n in enumerate((20000, 24001, 9000, 17000, 24000, 26000, 2000)):
        wave = np.linspace(0, 0.1 * (i + 1) / 7, n) * rng.standard_normal(n)
        soundfile.write(folder / f"{i}.wav", wave.clip(-1, 1), 16000, subtype="PCM_16")
    return folder


def stream(config: dict[str, Any], rank: int = 0) -> SegmentStream:
    job = build(Settings.from_config({**config, "segment_length": 3000}))
    return SegmentStream(job.store, job.plan, HOP, rank)


def settings(tiny_config: Config, folder: Path, **changes: Any) -> dict[str, Any]:
    strategy = {"loudness_curriculum": {"start": 0.2, "until": 0.5}, **changes.pop("strategy", {})}
    data = {"path": str(folder), "short_clips": "pad"}
    return tiny_config(data=data, strategy=strategy, **changes)


@pytest.mark.parametrize("T", [3000, 4096, 256])
def test_the_order_is_by_level(tiny_config: Config, swelling: Path, T: int) -> None:
    s = stream(settings(tiny_config, swelling))
    utterances = s.store.train
    starts = np.array([max((s.store.n_samples(i) - T) // HOP, 0) + 1 for i in utterances])
    order = loudest_first(s.store, utterances, starts, T, HOP)
    pool = Pool(starts)
    assert sorted(order) == list(range(starts.sum()))
    levels = []
    for pick in order:
        j, frame = pool.place(int(pick))
        levels.append(level_dbfs(s._segment(utterances[j], frame, T)[1].double()))
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > levels[-1] + 10


def test_the_loudest_share_grows_to_all(tiny_config: Config, swelling: Path) -> None:
    s = stream(settings(tiny_config, swelling))
    plain = stream(tiny_config(data={"path": str(swelling), "short_clips": "pad"}))
    T, mean = 3000, []
    everything = sorted(
        level_dbfs(s._segment(*place(s, pick), T)[1]) for pick in range(s._pool(T, 1.0).size)
    )
    for progress in (0.0, 0.1, 0.3, 0.49):
        share = np.sqrt(0.04 + 0.96 * progress / 0.5)
        audio = torch.cat([s.batch(k, T, 2, progress)[1] for k in range(60)])
        levels = [level_dbfs(a) for a in audio]
        floor = everything[len(everything) - int(np.ceil(share * len(everything)))]
        assert min(levels) >= floor - 1e-3
        mean.append(np.mean(levels))
    assert mean == sorted(mean, reverse=True)
    for progress in (0.5, 0.9):
        for k in range(5):
            assert torch.equal(s.batch(k, T, 2, progress)[1], plain.batch(k, T, 2)[1])


def place(s: SegmentStream, pick: int) -> tuple[int, int]:
    j, frame = s._pool(3000, 1.0).place(pick)
    return s.store.train[j], frame


def test_ranks_workers_and_a_late_start_see_the_same(tiny_config: Config, swelling: Path) -> None:
    config = settings(tiny_config, swelling)
    whole = stream(config)
    alone = list(whole)
    loaded = list(DataLoader(whole, batch_size=None, num_workers=2))
    two = settings(tiny_config, swelling, strategy={"ddp": {"ranks": 2}})
    shares = [list(stream(two, rank)) for rank in (0, 1)]
    late = stream(config)
    late.step, late.samples_seen = 3, 3 * 2 * 3000
    assert len(alone) == len(loaded) == len(shares[0])
    for k, (mel, audio) in enumerate(alone):
        assert torch.equal(loaded[k][1], audio)
        assert torch.equal(torch.cat([shares[0][k][1], shares[1][k][1]]), audio)
        assert torch.equal(torch.cat([shares[0][k][0], shares[1][k][0]]), mel)
    for expected, found in zip(alone[3:], late, strict=True):
        assert torch.equal(expected[1], found[1])


def test_silence_is_drawn_again_from_the_same_share(tiny_config: Config, swelling: Path) -> None:
    s = stream(settings(tiny_config, swelling))
    quiet = -45.0
    s.silence_db = quiet
    for k in range(40):
        _, audio = s.batch(k, 3000, 2, 0.2)
        share = s._pool(3000, 0.2)
        assert share.order is not None
        loudest = share.order[: share.size]
        allowed = {level_dbfs(s._segment(*place(s, int(p)), 3000)[1]) for p in loudest}
        assert all(level_dbfs(a) in allowed for a in audio)
