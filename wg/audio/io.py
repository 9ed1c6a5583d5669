"""Reading and writing audio: float arrays (T,) in [-1, 1] in memory, 16 bits in files."""

from __future__ import annotations

import io
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from wg.audio.names import kind_of
from wg.errors import UserError

FULL_SCALE = 32768.0  # int16 / 32768, NVIDIA's MAX_WAV_VALUE
# A float file may overshoot 1.0 a little; far beyond, its scale is not [-1, 1] at all.
LOUDEST = 1.5
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)  # what the codec can encode, in Hz


def audio_info(path: str | Path) -> tuple[int, int]:
    """(samples, sampling rate in Hz) from a file's header, without decoding it.

    Errors: UserError when the file is missing, not audio, or empty.
    """
    path = Path(path)
    if kind_of(path) != "file":
        raise UserError(f"audio file {path} does not exist: check the path")
    if path.stat().st_size == 0:
        raise UserError(f"audio file {path} is empty (0 bytes): remove it or copy it again")
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise UserError(
            f"{path} is not audio that can be read ({error.error_string.rstrip('.')}): "
            "remove it or convert it to WAV, FLAC or Ogg"
        ) from None
    if info.frames < 1:
        raise UserError(f"audio file {path} has no samples: remove it or copy it again")
    return info.frames, info.samplerate


def is_cut(path: str | Path) -> bool:
    """Whether a WAV is shorter than its header says, as when copying was cut off; what is there
    of it can be read, and nothing complains."""
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(8)
    stated = int.from_bytes(head[4:], "little")
    # A writer to a pipe cannot know the length: ffmpeg states the largest number of 32 bits,
    # SoX that of 31 bits less a page, others 0.
    known = 0 < stated < 0xFFFFFF00 and not 0x7FFFF000 <= stated < 0x80000000
    return head[:4] == b"RIFF" and known and path.stat().st_size < stated + 8


def check_rate(path: str | Path, found: int, wanted: int, resample: bool) -> None:
    """UserError unless the file's rate is the wanted one (Hz) or resampling was asked for."""
    if found != wanted and not resample:
        raise UserError(
            f"{path} is sampled at {found} Hz but the config says sampling_rate={wanted}: "
            f"set data.sampling_rate={found}, or data.resample=true to convert the audio"
        )


def resampled_length(n_samples: int, rate_in: int, rate_out: int) -> int:
    """Samples after resampling: ceil(n_samples * rate_out / rate_in)."""
    return -(-n_samples * rate_out // rate_in)


def resample_audio(audio: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Audio (T,) at ``rate_in`` Hz -> (ceil(T * rate_out / rate_in),) float32, by soxr HQ."""
    if rate_in == rate_out:
        return audio.astype(np.float32, copy=False)
    import librosa  # slow to import and rarely needed here

    out = librosa.resample(
        audio.astype(np.float32, copy=False),
        orig_sr=rate_in,
        target_sr=rate_out,
        res_type="soxr_hq",
    )
    size = resampled_length(len(audio), rate_in, rate_out)
    return librosa.util.fix_length(out, size=size).astype(np.float32, copy=False)


def read_audio(path: str | Path, sampling_rate: int, resample: bool = False) -> np.ndarray:
    """A WAV, FLAC or Ogg file -> float32 (T,), 16-bit samples divided by 32768.

    Several channels are averaged into one. Float files may overshoot [-1, 1] slightly.
    With ``resample`` a file of another rate is converted to ``sampling_rate`` (Hz).

    Errors: UserError when the file is missing, empty, not audio, of another rate (without
    ``resample``), holds samples that are not finite, or is not scaled to [-1, 1].
    """
    _, rate = audio_info(path)
    check_rate(path, rate, sampling_rate, resample)
    try:
        data, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UserError(
            f"{path} cannot be decoded ({error.error_string.rstrip('.')}): "
            "remove it or copy it again"
        ) from None
    audio: np.ndarray = data[:, 0] if data.shape[1] == 1 else data.mean(axis=1)
    check_samples(path, audio)
    return resample_audio(audio, rate, sampling_rate)


def check_samples(path: str | Path, audio: np.ndarray) -> None:
    """UserError when float samples of the file are not finite or not scaled to [-1, 1]."""
    if not np.isfinite(audio).all():
        raise UserError(f"{path} holds samples that are not finite: remove it or convert it again")
    peak = float(np.abs(audio).max(initial=0.0))
    if peak > LOUDEST:
        raise UserError(
            f"{path} reaches {peak:g} where full scale is 1: rescale it to [-1, 1] "
            "or convert it to 16-bit PCM"
        )


def to_int16(audio: np.ndarray) -> tuple[np.ndarray, float]:
    """Float audio (T,) -> (int16 (T,), share of clipped samples in [0, 1]).

    Rounded, and clipped rather than wrapped; a sample that is not a number becomes 0 and
    counts as clipped.
    """
    scaled = np.rint(np.asarray(audio, dtype=np.float64) * FULL_SCALE)
    out = np.isnan(scaled) | (scaled > FULL_SCALE - 1) | (scaled < -FULL_SCALE)
    share = float(out.mean()) if out.size else 0.0
    scaled = np.clip(np.nan_to_num(scaled, nan=0.0), -FULL_SCALE, FULL_SCALE - 1)
    return scaled.astype(np.int16), share


def from_int16(samples: np.ndarray) -> np.ndarray:
    """int16 (T,) -> float32 (T,) in [-1, 1); the inverse of :func:`to_int16`."""
    return samples.astype(np.float32) / np.float32(FULL_SCALE)


def write_wav(path: str | Path, audio: np.ndarray, sampling_rate: int) -> float:
    """Write float audio (T,) as 16-bit PCM WAV; return the share of clipped samples in [0, 1].

    Atomic: a reader sees the old file or the whole new one. Parent folders are made.
    """
    samples, clipped = to_int16(audio)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        soundfile.write(str(temporary), samples, sampling_rate, format="WAV", subtype="PCM_16")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return clipped


def _encode(samples: np.ndarray, sampling_rate: int, **how: Any) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sampling_rate, **how)
    return buffer.getvalue()


def wav_bytes(audio: np.ndarray, sampling_rate: int) -> bytes:
    """Float audio (T,) -> a 16-bit PCM WAV file in memory, clipped rather than wrapped."""
    return _encode(to_int16(audio)[0], sampling_rate, format="WAV", subtype="PCM_16")


def opus_bytes(audio: np.ndarray, sampling_rate: int) -> bytes:
    """Float audio (T,) -> an Ogg/Opus file in memory, small enough to inline in a page.

    A rate that Opus lacks (22,050 Hz) is first resampled: to 24,000 Hz, or to 48,000 Hz
    when it is higher than that. The bytes differ from call to call (Ogg's serial number).
    """
    clean = from_int16(to_int16(audio)[0])
    rate = sampling_rate
    if rate not in OPUS_RATES:
        rate = 24000 if sampling_rate <= 24000 else 48000
        clean = np.clip(resample_audio(clean, sampling_rate, rate), -1.0, 1.0)
    return _encode(clean, rate, format="OGG", subtype="OPUS")
