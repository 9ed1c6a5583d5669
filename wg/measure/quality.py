"""How good generated audio is: copy-synthesis metrics against the reference recording.

Each is a row of :data:`wg.measure.metrics.METRICS`. :func:`score` computes those that listen to
audio; the likelihood (``nats_per_sample``) comes from the model's forward pass. Those of pitch and
envelope are in :mod:`wg.measure.pitch`, networks' opinions in :mod:`wg.measure.mos`.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wg.audio.io import from_int16, resample_audio, to_int16
from wg.audio.mel import MelConfig, MelSpectrogram
from wg.measure.metrics import DEFAULT
from wg.measure.mos import distillmos, dnsmos
from wg.measure.pitch import f0_rmse, mcd, periodicity, vuv_error

NAN = float("nan")
PESQ_RATE = 16000  # Hz; wide-band PESQ is defined here and at no other rate
MAX_PESQ_SECONDS = 20.0  # P.862's program has room for 50 utterances, and crashes on more
# (n_fft, hop, window) of Parallel WaveGAN (Yamamoto et al., 2020, arXiv:1910.11480)
STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
STFT_FLOOR = 1e-7  # of the squared magnitude, before the root and the logarithm
LSB = 1 / 32768  # one step of 16 bits
LINES = (1, 2, 3)  # k of the tones k Fs / 8 that groups of 8 samples leave behind
LINE_WINDOW = 2048  # samples; long enough to tell a tone from the harmonics of a voice

# (reference, generated, mel config) -> value; both (T,) float32 as int16 holds them
Compute = Callable[[np.ndarray, np.ndarray, MelConfig], float]


@functools.lru_cache(maxsize=8)
def _mel(config: MelConfig) -> MelSpectrogram:
    return MelSpectrogram(config)


def log_mel_l1(reference: np.ndarray, generated: np.ndarray, mel: MelConfig) -> float:
    """Mean absolute difference of the log-mels of two (T,) signals, in nats; 0 when equal."""
    both = _mel(mel)(torch.from_numpy(np.stack([reference, generated])))
    return float((both[0] - both[1]).abs().mean())


def _magnitude(audio: Tensor, n_fft: int, hop: int, window: int) -> Tensor:
    short = n_fft // 2 + 1 - audio.shape[-1]
    audio = F.pad(audio, (0, max(short, 0)))  # reflection needs more than half a window
    hann = torch.hann_window(window)
    spectrum = torch.stft(audio, n_fft, hop, window, hann, return_complex=True)
    return spectrum.abs().square().clamp(min=STFT_FLOOR).sqrt()


def mr_stft(reference: np.ndarray, generated: np.ndarray, _: MelConfig | None = None) -> float:
    """Multi-resolution STFT loss of two (T,) signals; 0 when equal.

    Spectral convergence plus L1 of log magnitudes (nats), averaged over three resolutions.
    """
    both = torch.from_numpy(np.stack([reference, generated]))
    total = 0.0
    for n_fft, hop, window in STFT_RESOLUTIONS:
        ref, gen = _magnitude(both, n_fft, hop, window)
        convergence = torch.linalg.norm(ref - gen) / torch.linalg.norm(ref)
        total += float(convergence + (ref.log() - gen.log()).abs().mean())
    return total / len(STFT_RESOLUTIONS)


def pesq_wb(reference: np.ndarray, generated: np.ndarray, mel: MelConfig) -> float:
    """Wide-band PESQ of two (T,) signals: MOS-LQO, 1.04 (bad) to 4.64 (equal).

    Computed at 16 kHz, other rates are resampled. Audio over 20 s is scored in equal pieces
    and averaged. nan where PESQ has no answer: silence, no speech found, under 0.25 s.
    """
    rate = mel.sampling_rate
    both = np.stack([resample_audio(x, rate, PESQ_RATE) for x in (reference, generated)])
    n_pieces = math.ceil(both.shape[1] / (MAX_PESQ_SECONDS * PESQ_RATE))
    values = [_pesq_piece(ref, gen) for ref, gen in np.array_split(both, n_pieces, axis=1)]
    answers = [value for value in values if not math.isnan(value)]
    return sum(answers) / len(answers) if answers else NAN


def _pesq_piece(ref: np.ndarray, gen: np.ndarray) -> float:
    import pesq

    silent = not np.abs(ref).max() > 0 or not np.abs(gen).max() > 0
    if silent or len(ref) < 0.25 * PESQ_RATE:
        return NAN
    try:
        return float(
            pesq.pesq(PESQ_RATE, np.ascontiguousarray(ref), np.ascontiguousarray(gen), "wb")
        )
    except pesq.PesqError:
        return NAN


def stoi(reference: np.ndarray, generated: np.ndarray, mel: MelConfig) -> float:
    """STOI of two (T,) signals (Taal et al. 2011): about 0 (unintelligible) to 1 (equal).

    pystoi resamples to 10 kHz itself. nan when there are under 30 frames (0.4 s) of speech.
    """
    return _intelligibility(reference, generated, mel, extended=False)


def estoi(reference: np.ndarray, generated: np.ndarray, mel: MelConfig) -> float:
    """Extended STOI of two (T,) signals (Jensen and Taal 2016): about 0 (unintelligible) to 1
    (equal); nan as in :func:`stoi`."""
    return _intelligibility(reference, generated, mel, extended=True)


def _intelligibility(ref: np.ndarray, gen: np.ndarray, mel: MelConfig, extended: bool) -> float:
    import pystoi

    # pystoi draws from numpy's global generator (noise of 1e-16); training must not notice.
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # too few frames: it returns 1e-5
            return float(pystoi.stoi(ref, gen, mel.sampling_rate, extended=extended))
    except (RuntimeWarning, ValueError, IndexError):
        return NAN
    finally:
        np.random.set_state(state)


def level_db(reference: np.ndarray, generated: np.ndarray, _: MelConfig | None = None) -> float:
    """RMS level of the generated (T,) signal relative to the reference, in dB; 0 when equal.

    Levels are floored at one step of 16 bits, so that silence has a (very low) level too.
    """
    ref, gen = (
        max(float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))), LSB)
        for x in (reference, generated)
    )
    return 20 * math.log10(gen / ref)


def _lines(audio: np.ndarray) -> np.ndarray:
    """Level of the tones at k Fs / 8 above their neighbourhoods, (3,) in dB: Welch's method with
    the mean over frames taken in dB, so that a steady tone counts and a loud vowel does not."""
    N = LINE_WINDOW
    padded = np.pad(audio.astype(np.float64), (0, max(N - len(audio), 0)))
    hann = np.hanning(N + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(padded, N)[:: N // 4] * hann
    # White noise of variance v has v in every bin. Rounding to 16 bits has LSB^2 / 12, which
    # gives digital silence a spectrum, too: a flat one.
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 / np.sum(hann**2) + LSB**2 / 12
    levels = []
    for k in LINES:
        tone = k * N // 8  # exactly on a bin; the window spreads it over three
        near = [*range(tone - 24, tone - 3), *range(tone + 4, tone + 25)]
        above = np.log10(power[:, tone - 1 : tone + 2].mean(axis=1))
        levels.append(10 * float(np.mean(above - np.log10(power[:, near]).mean(axis=1))))
    return np.array(levels)


def line_noise_db(
    reference: np.ndarray, generated: np.ndarray, _: MelConfig | None = None
) -> float:
    """Steady tones at Fs/8, 2 Fs/8 and 3 Fs/8 of the generated (T,) signal, in dB: WaveGlow's
    "line noise", which comes from generating samples in groups of 8.

    The level of each tone (3 bins of a 2,048-sample window, mean over frames in dB) above its
    neighbourhood, less the same of the reference; of the three the largest, and 0 where the
    reference has at least as much. Some 1 dB is chance. In speech a tone 40 dB below its level
    gives about 12 dB, one 50 dB below about 6; silence gives 0.
    """
    return max(0.0, float(np.max(_lines(generated) - _lines(reference))))


def dc_offset(reference: np.ndarray, generated: np.ndarray, _: MelConfig | None = None) -> float:
    """Mean of the generated (T,) signal less that of the reference, in steps of 16 bits
    (1/32768 of full scale); 0 when equal."""
    ref, gen = (float(np.mean(x, dtype=np.float64)) for x in (reference, generated))
    return (gen - ref) / LSB


# Metrics that listen to audio, by their names in wg.measure.metrics. nats_per_sample is the
# model's own to give.
COMPUTE: dict[str, Compute] = {
    "log_mel_l1": log_mel_l1,
    "mr_stft": mr_stft,
    "pesq_wb": pesq_wb,
    "stoi": stoi,
    "estoi": estoi,
    "level_db": level_db,
    "line_noise_db": line_noise_db,
    "dc_offset": dc_offset,
    "mcd": mcd,
    "f0_rmse": f0_rmse,
    "vuv_error": vuv_error,
    "periodicity": periodicity,
    "dnsmos": dnsmos,
    "distillmos": distillmos,
}


def score(
    reference: np.ndarray,
    generated: np.ndarray,
    mel_config: MelConfig,
    metrics: Iterable[str] = DEFAULT,
) -> dict[str, float]:
    """The audio metrics among ``metrics`` of generated against reference, both (T,) float at the
    mel's rate.

    Both are first rounded and clipped as an int16 file would be: that is what is heard.
    When generated holds samples that are not finite every value is nan; a single metric is
    nan where it has no answer. Never raises on garbage audio.

    Errors: UserError for a metric whose packages are not installed.
    """
    assert reference.shape == generated.shape
    assert reference.ndim == 1
    wanted = [name for name in metrics if name in COMPUTE]
    if not np.isfinite(generated).all():
        return dict.fromkeys(wanted, NAN)
    ref, gen = (from_int16(to_int16(x)[0]) for x in (reference, generated))
    with torch.no_grad():
        return {name: COMPUTE[name](ref, gen, mel_config) for name in wanted}
