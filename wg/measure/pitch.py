"""Pitch, voicing and spectral envelope against the reference: mcd, f0_rmse, vuv_error, periodicity.

One analysis of an utterance serves all four, frame by frame every 5 ms. Frames are compared as
they lie: copy-synthesis keeps time, so nothing is warped. References are analysed once a process.

WORLD (Morise, Yokomori and Ozawa 2016, package pyworld) finds F0 and envelopes; it is an extra,
since it has to be compiled where it is installed. Periodicity needs nothing.
"""

from __future__ import annotations

import functools
import hashlib
import math
import warnings
from collections import OrderedDict
from types import ModuleType

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from wg.audio.mel import MelConfig
from wg.measure.metrics import missing

NAN = float("nan")
FRAME_PERIOD = 0.005  # s, as WORLD's tools have it
F0_FLOOR, F0_CEIL = 71.0, 800.0  # Hz, DIO's own
N_CEPSTRA = 24  # c1 to c24; c0, the level, is left out
MEL_POINTS = 256  # of the mel axis that envelopes are sampled on
# Periods that the periodicity looks for, and the level under which nothing is periodic.
PERIOD_FLOOR, PERIOD_CEIL = 60.0, 500.0  # Hz
SILENCE_DB = -60.0  # dBFS of a frame, as in CARGAN's and Vocos's evaluations
MIN_SECONDS = 0.05  # three periods of the lowest pitch: anything shorter has no answer
REFERENCES_KEPT = 128  # utterances: some 60 MB of five seconds each

_DB = 10 / math.log(10) * math.sqrt(2)  # of a distance between cepstra, Kubichek 1993


def mcd(reference: np.ndarray, generated: np.ndarray, mel: MelConfig) -> float:
    """Mel-cepstral distortion of two (T,) signals, in dB; 0 when equal.

    The mean over all frames of 10 / ln 10 * sqrt(2 sum_m (c_m - c'_m)^2), m = 1 to 24 (Kubichek
    1993), with the mel-cepstra of :func:`mel_cepstra`. Without c0, so a gain costs nothing. By
    Parseval it is the RMS difference of two smooth log spectra in dB along the mel axis. nan under
    0.05 s.

    Errors: UserError when pyworld is not installed.
    """
    ref, gen = _both(reference, generated, mel)
    if ref.is_short:
        return NAN
    return float(np.mean(cepstral_distance(ref.cepstra, gen.cepstra)))


def f0_rmse(reference: np.ndarray, generated: np.ndarray, mel: MelConfig) -> float:
    """RMS difference of F0 of two (T,) signals in cents (1,200 an octave); 0 when equal.

    Over the frames that are voiced in both; nan when there are none, and under 0.05 s.

    Errors: UserError when pyworld is not installed.
    """
    ref, gen = _both(reference, generated, mel)
    if ref.is_short:
        return NAN
    both = (ref.f0 > 0) & (gen.f0 > 0)
    if not both.any():
        return NAN
    cents = 1200 * np.log2(gen.f0[both] / ref.f0[both])
    return float(np.sqrt(np.mean(cents**2)))


def vuv_error(reference: np.ndarray, generated: np.ndarray, mel: MelConfig) -> float:
    """Share of the frames of two (T,) signals whose voicing differs, 0 (equal) to 1; nan under
    0.05 s.

    Errors: UserError when pyworld is not installed.
    """
    ref, gen = _both(reference, generated, mel)
    return NAN if ref.is_short else float(np.mean((ref.f0 > 0) != (gen.f0 > 0)))


def periodicity(reference: np.ndarray, generated: np.ndarray, mel: MelConfig) -> float:
    """RMS difference over all frames of how periodic two (T,) signals are, 0 (equal) to 1; nan
    under 0.05 s.

    Morrison et al. 2022 take a pitch network's confidence for it; here it is
    :func:`frame_periodicity`, which needs none. Values of the two do not compare.
    """
    ref, gen = _both(reference, generated, mel)
    if ref.is_short:
        return NAN
    return float(np.sqrt(np.mean((ref.periodicity - gen.periodicity) ** 2)))


class Analysis:
    """One signal (T,) at ``rate`` Hz, frame by frame: F = 1 + floor(T / rate / 5 ms). Each part is
    made when it is first asked for."""

    def __init__(self, audio: np.ndarray, rate: int) -> None:
        self.audio, self.rate = audio, rate

    @property
    def is_short(self) -> bool:
        return len(self.audio) < MIN_SECONDS * self.rate

    @functools.cached_property
    def _f0_at(self) -> tuple[np.ndarray, np.ndarray]:
        world, x = _world(), self._double()
        rough, at = world.dio(x, self.rate, F0_FLOOR, F0_CEIL, frame_period=1000 * FRAME_PERIOD)
        return world.stonemask(x, rough, at, self.rate), at

    @property
    def f0(self) -> np.ndarray:
        """(F,) in Hz, 0 where unvoiced."""
        return self._f0_at[0]

    @functools.cached_property
    def cepstra(self) -> np.ndarray:
        """Mel-cepstra (F, 24) in nepers."""
        f0, at = self._f0_at
        power = _world().cheaptrick(self._double(), f0, at, self.rate)
        return mel_cepstra(power, self.rate)

    @functools.cached_property
    def periodicity(self) -> np.ndarray:
        """(F,), 0 to 1."""
        return frame_periodicity(self.audio, self.rate)

    def _double(self) -> np.ndarray:
        return np.ascontiguousarray(self.audio, dtype=np.float64)


def mel_cepstra(power: np.ndarray, rate: int) -> np.ndarray:
    """Power spectra (F, bins) from 0 to ``rate`` / 2 Hz -> mel-cepstra c_1 to c_24 (F, 24).

    ln |H| = c_0 + sum_m c_m cos(m w), w running from 0 to pi along the mel axis (O'Shaughnessy
    1987, m = 2595 log10(1 + f / 700)) from 0 Hz to half the rate.
    """
    return 0.5 * np.log(np.maximum(power, 1e-30)) @ _cosines(rate, power.shape[1])


@functools.lru_cache(maxsize=8)
def _cosines(rate: int, bins: int) -> np.ndarray:
    """(bins, 24): straight lines between bins to ``MEL_POINTS`` on the mel axis, then a DCT-II."""
    w = (np.arange(MEL_POINTS) + 0.5) / MEL_POINTS  # of half a turn
    top = np.log1p(rate / 2 / 700)
    at = 700 * np.expm1(w * top) / (rate / 2) * (bins - 1)
    below = np.minimum(at.astype(int), bins - 2)
    lines = np.zeros((bins, MEL_POINTS))
    point = np.arange(MEL_POINTS)
    lines[below, point] = 1 - (at - below)
    lines[below + 1, point] = at - below
    m = np.arange(1, N_CEPSTRA + 1)
    return lines @ np.cos(np.pi * w[:, None] * m) * (2 / MEL_POINTS)


def cepstral_distance(c: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mel-cepstra (F, 24) of two signals -> dB of each frame (F,)."""
    return _DB * np.sqrt(np.sum((c - other) ** 2, axis=1))


def frame_periodicity(audio: np.ndarray, rate: int) -> np.ndarray:
    """How periodic a signal (T,) is around every 5 ms, (F,) from 0 to 1: the largest normalised
    cross-correlation (Talkin 1995, RAPT) of a stretch of 1/60 s with what lies 1/500 s to 1/60 s
    after it. 0 in frames below -60 dBFS. White noise has about 0.15."""
    W = round(rate / PERIOD_FLOOR)  # samples of the stretch, and the longest period
    first = max(round(rate / PERIOD_CEIL), 1)
    n_frames = 1 + int(len(audio) / rate / FRAME_PERIOD)
    starts = np.round(np.arange(n_frames) * FRAME_PERIOD * rate).astype(int)
    padded = np.pad(audio.astype(np.float64), (W, W + 1))  # frames are centred
    frames = padded[starts[:, None] + np.arange(2 * W)]
    frames = frames - frames.mean(axis=1, keepdims=True)
    n_fft = next_fast_len(2 * W, real=True)
    head = rfft(frames[:, :W], n_fft, axis=1)
    cross = irfft(np.conj(head) * rfft(frames, n_fft, axis=1), n_fft, axis=1)[:, first : W + 1]
    squares = np.pad(np.cumsum(frames**2, axis=1), ((0, 0), (1, 0)))
    energy = squares[:, W:] - squares[:, : W + 1]  # of the W samples after each lag, 0 to W
    norm = np.sqrt(energy[:, :1] * np.maximum(energy[:, first:], 0)) + 1e-12
    found = np.clip(np.max(cross / norm, axis=1), 0, 1)
    loud = squares[:, -1] / (2 * W) > 10 ** (SILENCE_DB / 10)
    return np.where(loud, found, 0.0)


def _world() -> ModuleType:
    """pyworld. Errors: UserError when it, or what it imports, is not there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pkg_resources, which is why setuptools is pinned
            import pyworld
    except ImportError:
        raise missing("mcd") from None
    return pyworld


_references: OrderedDict[tuple[bytes, int], Analysis] = OrderedDict()
_generated: OrderedDict[tuple[bytes, int], Analysis] = OrderedDict()


def _both(ref: np.ndarray, gen: np.ndarray, mel: MelConfig) -> tuple[Analysis, Analysis]:
    rate = mel.sampling_rate
    return _kept(_references, ref, rate, REFERENCES_KEPT), _kept(_generated, gen, rate, 1)


def _kept(
    memory: OrderedDict[tuple[bytes, int], Analysis], audio: np.ndarray, rate: int, most: int
) -> Analysis:
    """The analysis of these samples, from ``memory`` when it is one of the last ``most``."""
    audio = np.ascontiguousarray(audio, dtype=np.float32)
    key = hashlib.blake2b(audio.tobytes(), digest_size=16).digest(), rate
    found = memory.pop(key, None) or Analysis(audio, rate)
    memory[key] = found
    while len(memory) > most:
        memory.popitem(last=False)
    return found
