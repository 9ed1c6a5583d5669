"""The names of quality: unit, direction and meaning of every metric, without torch.

:mod:`wg.measure.quality` computes them; targets, statistics and reports only need this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["lower", "higher", "zero"]


@dataclass(frozen=True)
class MetricInfo:
    """``direction``: 'lower' or 'higher' is better; 'zero' for a signed difference, which is
    best when it is none."""

    name: str
    unit: str
    direction: Direction
    description: str
    source: str = ""

    @property
    def arrow(self) -> str:
        """Which way is better, as one sign."""
        return {"lower": "↓", "higher": "↑", "zero": "→0"}[self.direction]

    def best(self, value: float) -> float:
        """A key to sort by: the smallest is the best."""
        return {"lower": value, "higher": -value, "zero": abs(value)}[self.direction]


_ROWS = (
    MetricInfo(
        "nats_per_sample",
        "nats/sample",
        "lower",
        "negative log-likelihood of held-out audio, with the Gaussian constant",
        "Prenger et al. 2018, arXiv:1811.00002; from the model's forward pass",
    ),
    MetricInfo(
        "log_mel_l1",
        "nats",
        "lower",
        "mean absolute difference of log-mel spectrograms",
        "the mel that the model is conditioned on (wg.audio.mel)",
    ),
    MetricInfo(
        "mr_stft",
        "1",
        "lower",
        "multi-resolution STFT loss: spectral convergence + L1 of log magnitudes",
        "Yamamoto et al. 2020 (Parallel WaveGAN), arXiv:1910.11480",
    ),
    MetricInfo(
        "pesq_wb",
        "MOS-LQO",
        "higher",
        "perceptual evaluation of speech quality, wide band",
        "ITU-T P.862.2, package pesq",
    ),
    MetricInfo(
        "estoi",
        "1",
        "higher",
        "extended short-time objective intelligibility",
        "Jensen and Taal 2016, package pystoi",
    ),
    MetricInfo(
        "level_db",
        "dB",
        "zero",
        "RMS level relative to the reference",
        "20 log10 of the ratio of RMS values",
    ),
    MetricInfo(
        "line_noise_db",
        "dB",
        "lower",
        "steady tones at Fs/8, 2Fs/8, 3Fs/8 above their neighbourhood, beyond the reference's",
        "power spectra of 2,048-sample Hann windows, mean over frames in dB (wg.measure.quality)",
    ),
    MetricInfo(
        "dc_offset",
        "LSB",
        "zero",
        "mean of the signal relative to the reference, in steps of 16 bits",
        "difference of the means, times 32768",
    ),
)
METRICS: dict[str, MetricInfo] = {row.name: row for row in _ROWS}


def metric_info(name: str) -> MetricInfo:
    """The row of ``name``; one that the table lacks (a newer record's) is shown as it is."""
    return METRICS.get(name) or MetricInfo(name, "", "lower", name.replace("_", " "))
