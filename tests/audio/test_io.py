"""Reading and writing: exact scaling, clipping, and one clear sentence for each mistake."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wg.audio.io import opus_bytes, read_audio, to_int16, wav_bytes, write_wav
from wg.errors import UserError

RATE = 16000


def tone(rate: int = RATE, seconds: float = 0.25) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)).astype("f4")


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_int16_is_divided_by_32768(tmp_path: Path, suffix: str) -> None:
    pcm = np.array([0, 1, -1, 16384, -32768, 32767], dtype=np.int16)
    soundfile.write(tmp_path / f"a.{suffix}", pcm, RATE, subtype="PCM_16")
    audio = read_audio(tmp_path / f"a.{suffix}", RATE)
    assert audio.dtype == np.float32
    np.testing.assert_array_equal(audio, pcm / 32768)
    np.testing.assert_array_equal(to_int16(audio)[0], pcm)


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([[0.5, 0.25], [0.0, -0.5]]), RATE)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", RATE), [0.375, -0.25], atol=1e-4)


def test_write_clips_and_never_wraps(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.wav"
    share = write_wav(path, np.array([2.0, -2.0, 1e30, np.nan, 0.5, -0.5, 0.25, 0.0]), RATE)
    assert share == 0.5
    pcm, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    assert pcm.tolist() == [32767, -32768, 32767, 0, 16384, -16384, 8192, 0]
    assert [p.name for p in path.parent.iterdir()] == ["a.wav"]


def test_resampling_keeps_pitch_and_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(22050), 22050)
    audio = read_audio(tmp_path / "a.wav", RATE, resample=True)
    assert len(audio) == -(-len(tone(22050)) * RATE // 22050)
    np.testing.assert_allclose(audio[500:3500], tone()[500:3500], atol=2e-3)


def mistake(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.wav"
    if kind == "text":
        path.write_text("this is no audio")
    elif kind == "zero":
        path.touch()
    elif kind == "header":
        soundfile.write(path, np.zeros(0), RATE)
    elif kind == "rate":
        soundfile.write(path, tone(22050), 22050)
    elif kind == "nan":
        soundfile.write(path, np.array([0.0, np.nan]), RATE, subtype="FLOAT")
    elif kind == "scale":
        soundfile.write(path, np.array([0.0, 20000.0]), RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "does not exist"),
        ("text", "not audio"),
        ("zero", "empty"),
        ("header", "no samples"),
        ("rate", r"22050 Hz .*16000.*data\.resample=true"),
        ("nan", "not finite"),
        ("scale", r"20000 .*\[-1, 1\]"),
    ],
)
def test_mistakes_name_the_file(tmp_path: Path, kind: str, words: str) -> None:
    path = mistake(tmp_path, kind)
    with pytest.raises(UserError, match=words) as caught:
        read_audio(path, RATE)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("rate", "encoded"), [(16000, 16000), (22050, 24000), (44100, 48000)])
def test_opus_bytes(rate: int, encoded: int) -> None:
    data = opus_bytes(tone(rate, 1.0), rate)
    assert data[:4] == b"OggS"
    assert b"OpusHead" in data[:64]
    audio, _ = soundfile.read(io.BytesIO(data))
    assert len(data) < 20000
    # libsndfile may report a rate of its own choice; the duration must be right.
    info = soundfile.info(io.BytesIO(data))
    assert info.frames / info.samplerate == pytest.approx(1.0, abs=0.02)
    assert np.sqrt(np.mean(audio**2)) == pytest.approx(0.3536, abs=0.03)
    assert info.samplerate in {encoded, 48000}


def test_encoders_survive_garbage() -> None:
    garbage = np.array([np.nan, np.inf, -np.inf, 1e30] * 4000)
    assert wav_bytes(garbage, RATE)[:4] == b"RIFF"
    assert opus_bytes(garbage, 22050)[:4] == b"OggS"
