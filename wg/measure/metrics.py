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
    ),
    MetricInfo("log_mel_l1", "nats", "lower", "mean absolute difference of log-mel spectrograms"),
    MetricInfo(
        "mr_stft",
        "1",
        "lower",
        "multi-resolution STFT loss: spectral convergence + L1 of log magnitudes",
    ),
    MetricInfo(
        "pesq_wb", "MOS-LQO", "higher", "perceptual evaluation of speech quality, wide band"
    ),
    MetricInfo("estoi", "1", "higher", "extended short-time objective intelligibility"),
    MetricInfo("level_db", "dB", "zero", "RMS level relative to the reference"),
)
METRICS: dict[str, MetricInfo] = {row.name: row for row in _ROWS}


def metric_info(name: str) -> MetricInfo:
    """The row of ``name``; one that the table lacks (a newer record's) is shown as it is."""
    return METRICS.get(name) or MetricInfo(name, "", "lower", name.replace("_", " "))
