"""What there is to know about one audio file, from decoding it once, in blocks."""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from wg.audio.io import FULL_SCALE, LOUDEST, is_cut, to_int16
from wg.files import sha256_file

FRAME = 0.05  # seconds; silence is judged in frames of this length
FRAMES_PER_BLOCK = 200  # 10 s of audio in memory at a time
SILENCE_DB = -60.0  # dBFS, RMS of a frame
CLIPPED_RUN = 3  # consecutive samples at full scale that no recording reaches by itself


@dataclass(frozen=True)
class Probe:
    """One file. Counts are of samples of one channel, but ``clipped`` of all channels.

    ``error`` says why training could not read it, None when it can. ``peak`` is of any channel,
    ``rms`` and ``dc`` of the channels' mean, all as shares of full scale. ``clipped``: samples
    at full scale; ``clipped_runs``: runs of 3 and more of them on one side. ``quiet``: samples
    in frames of 50 ms below -60 dBFS; ``zeros``: exact ones. ``sha256`` is of the bytes,
    ``content`` of the rate and the 16-bit samples that training would see at that rate: the
    same for a WAV and a FLAC of one recording. ``cut``: a WAV that is shorter than its header
    says; what is there of it can be read.
    """

    id: str
    path: str
    error: str | None = None
    rate: int = 0
    channels: int = 0
    format: str = ""
    subtype: str = ""
    n_samples: int = 0
    peak: float = 0.0
    rms: float = 0.0
    dc: float = 0.0
    clipped: int = 0
    clipped_runs: int = 0
    quiet: int = 0
    zeros: int = 0
    sha256: str = ""
    content: str = ""
    cut: bool = False

    @property
    def seconds(self) -> float:
        return self.n_samples / self.rate if self.rate else 0.0

    @property
    def silent(self) -> bool:
        """Silent from start to end."""
        return self.error is None and self.quiet == self.n_samples


class _Sums:
    """What is added up over the blocks of a file."""

    def __init__(self, rate: int, channels: int) -> None:
        self.frame = max(1, round(FRAME * rate))
        self.n = self.clipped = self.runs = self.quiet = self.zeros = self.not_finite = 0
        self.peak = self.square = self.total = 0.0
        self.content = hashlib.sha256(f"{rate}\n".encode())
        # The last samples at full scale of either side, to see runs across blocks.
        self.tails = [np.zeros((CLIPPED_RUN, channels), bool) for _ in range(2)]

    def add(self, block: np.ndarray) -> None:
        """Samples (T, C) float32; T is a multiple of the frame but at the end of the file."""
        finite = np.isfinite(block)
        if not finite.all():
            self.not_finite += int(block.size - finite.sum())
            block = np.where(finite, block, 0.0)
        self.n += len(block)
        self.peak = max(self.peak, float(np.abs(block).max()))
        self.zeros += int((block == 0).all(axis=1).sum())
        scaled = np.rint(block * np.float32(FULL_SCALE))
        for side, at in enumerate((scaled >= FULL_SCALE - 1, scaled <= 1 - FULL_SCALE)):
            self.clipped += int(at.sum())
            self._count_runs(side, at)
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
        self.content.update(to_int16(mono)[0].astype("<i2").tobytes())
        power = np.square(mono, dtype=np.float64)
        self.square += float(power.sum())
        self.total += float(mono.sum(dtype=np.float64))
        starts = np.arange(0, len(mono), self.frame)
        sizes = np.diff(np.append(starts, len(mono)))
        quiet = np.add.reduceat(power, starts) / sizes < 10 ** (SILENCE_DB / 10)
        self.quiet += int(sizes[quiet].sum())

    def _count_runs(self, side: int, at: np.ndarray) -> None:
        both = np.concatenate([self.tails[side], at])
        # A run counts once, where it becomes long enough: the sample before it is not in it.
        inside = np.ones((len(both) - CLIPPED_RUN, both.shape[1]), bool)
        for k in range(CLIPPED_RUN):
            inside &= both[CLIPPED_RUN - k : len(both) - k]
        self.runs += int((inside & ~both[: len(inside)]).sum())
        self.tails[side] = both[-CLIPPED_RUN:]


def probe(ident: str, path: Path, stop: threading.Event | None = None) -> Probe:
    """Decode a file in blocks. Never raises for what is wrong with it: ``error`` says it.

    ``stop``, when set, ends the work between two blocks; what is returned is then of no use.
    """
    base = Probe(ident, str(path))
    try:
        if path.stat().st_size == 0:
            return replace(base, error="empty (0 bytes)")
        with soundfile.SoundFile(str(path)) as file:
            rate, channels, stated = file.samplerate, file.channels, file.frames
            base = replace(base, format=file.format, subtype=file.subtype)
            sums = _Sums(rate, channels)
            error = None
            try:
                while not (stop and stop.is_set()):
                    size = sums.frame * FRAMES_PER_BLOCK
                    block = file.read(size, dtype="float32", always_2d=True)
                    if not len(block):
                        break
                    sums.add(block)
            except soundfile.LibsndfileError as problem:
                text = problem.error_string.rstrip(".")
                error = f"cannot be decoded after {sums.n / rate:.1f} s: {text}"
        digest, cut = sha256_file(path), is_cut(path)
    except soundfile.LibsndfileError as problem:
        return replace(base, error=f"not audio: {problem.error_string.rstrip('.')}")
    except OSError as problem:
        return replace(base, error=f"cannot be read: {problem.strerror}")
    n = max(sums.n, 1)
    return replace(
        base,
        error=error or _refusal(sums, stated),
        rate=rate,
        channels=channels,
        n_samples=sums.n,
        peak=sums.peak,
        rms=math.sqrt(sums.square / n),
        dc=sums.total / n,
        clipped=sums.clipped,
        clipped_runs=sums.runs,
        quiet=sums.quiet,
        zeros=sums.zeros,
        sha256=digest,
        content=sums.content.hexdigest(),
        cut=cut,
    )


def _refusal(sums: _Sums, stated: int) -> str | None:
    """Why :func:`wg.audio.io.read_audio` or the store would refuse a file that decodes."""
    if sums.n == 0:
        return "empty (no samples)"
    if sums.n != stated:
        return f"decodes to {sums.n} samples where its header says {stated}"
    if sums.not_finite:
        return f"samples that are not finite: {sums.not_finite}"
    if sums.peak > LOUDEST:
        return f"reaches {sums.peak:g} where full scale is 1"
    return None
