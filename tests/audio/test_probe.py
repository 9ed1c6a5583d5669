"""One file, decoded once: what is counted is known, and what is wrong with it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from wg.audio.check.probe import Probe, _Sums, probe
from wg.audio.io import to_int16

RATE = 16000


def write(path: Path, audio: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, audio, rate, subtype=subtype)
    return path


def noise(seconds: float, scale: float = 0.05, seed: int = 0, rate: int = RATE) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal(int(seconds * rate))


def probed(path: Path) -> Probe:
    one = probe("x", path)
    assert one.error is None
    return one


def test_levels_and_dc(tmp_path: Path) -> None:
    wave = 0.5 * np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE) + 0.01
    one = probed(write(tmp_path / "a.wav", wave))
    assert (one.rate, one.channels, one.n_samples, one.seconds) == (RATE, 1, RATE, 1.0)
    assert (one.format, one.subtype) == ("WAV", "PCM_16")
    assert one.peak == pytest.approx(0.51, abs=1e-4)
    assert one.dc == pytest.approx(0.01, abs=1e-4)
    assert one.rms == pytest.approx((0.125 + 0.0001) ** 0.5, abs=1e-4)
    assert one.clipped == one.clipped_runs == one.quiet == one.zeros == 0


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_clipping_is_counted_in_runs_across_blocks(tmp_path: Path, suffix: str) -> None:
    block = 10 * RATE
    wave = np.full(2 * block, 1000, np.int16)
    wave[10:12] = 32767  # two are no run
    wave[20:23] = 32767
    wave[30:40] = -32768
    wave[50:53] = [32767, -32768, 32767]  # both sides: no run
    wave[block - 2 : block + 2] = 32767
    wave[-3:] = -32767
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, wave, RATE, subtype="PCM_16")
    one = probed(path)
    assert one.clipped == 2 + 3 + 10 + 3 + 4 + 3
    assert one.clipped_runs == 4


def test_silence_in_frames_of_50_ms(tmp_path: Path) -> None:
    wave = noise(1.0)
    wave[4000:8000] = 0  # 5 frames
    wave[8000:8800] = 0.0005 * np.sign(wave[8000:8800])  # one frame at -66 dBFS
    one = probed(write(tmp_path / "a.wav", wave))
    assert one.quiet == 4800
    assert 4000 <= one.zeros < 4100
    assert not one.silent
    tail = probed(write(tmp_path / "b.wav", np.concatenate([noise(1.0), np.zeros(100)])))
    assert tail.quiet == 100  # the last frame is as long as it is
    assert probed(write(tmp_path / "c.wav", np.zeros(5000))).silent


def test_content_is_what_training_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = to_int16(noise(12.0))[0]
    same = [
        write(tmp_path / "a.wav", samples),
        write(tmp_path / "a.flac", samples),
        write(tmp_path / "a24.wav", samples / 32768, subtype="PCM_24"),
        write(tmp_path / "float.wav", samples / 32768, subtype="FLOAT"),
        write(tmp_path / "stereo.wav", np.stack([samples, samples], axis=1)),
    ]
    assert len({probed(path).content for path in same}) == 1
    assert len({probed(path).sha256 for path in same}) == 5
    other = write(tmp_path / "b.wav", samples, rate=RATE + 1)
    changed = write(tmp_path / "c.wav", np.append(samples[:-1], samples[-1] + 1))
    assert len({probed(path).content for path in (same[0], other, changed)}) == 3


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "cannot be read: No such file"),
        ("text", "not audio"),
        ("zero", "empty (0 bytes)"),
        ("header", "empty (no samples)"),
        ("nan", "not finite: 1"),
        ("scale", "reaches 20000"),
        ("cut", "flac"),
    ],
)
def test_unreadable(tmp_path: Path, kind: str, words: str) -> None:
    path = tmp_path / "a.wav"
    if kind == "text":
        path.write_text("no audio")
    elif kind == "zero":
        path.touch()
    elif kind == "header":
        write(path, np.zeros(0))
    elif kind == "nan":
        write(path, np.where(np.arange(9) == 4, np.nan, 0.1), subtype="FLOAT")
    elif kind == "scale":
        write(path, np.array([0.0, 20000.0]), subtype="FLOAT")
    elif kind == "cut":
        data = write(tmp_path / "whole.flac", noise(2.0)).read_bytes()
        path.write_bytes(data[: len(data) // 2])
    error = probe("x", path).error
    assert error is not None
    assert words in error


def test_memory_is_that_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", noise(25.0))
    sizes = []
    add = _Sums.add

    def watched(self: _Sums, block: np.ndarray) -> None:
        sizes.append(len(block))
        add(self, block)

    monkeypatch.setattr(_Sums, "add", watched)
    assert probed(path).n_samples == 25 * RATE
    assert sizes == [10 * RATE, 10 * RATE, 5 * RATE]
