"""The names of quality: unit, direction, meaning and cost of every metric, without torch.

:mod:`wg.measure.quality` computes them; targets, statistics and reports only need this table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from wg.errors import UserError, nearest

Direction = Literal["lower", "higher", "zero"]


@dataclass(frozen=True)
class MetricInfo:
    """``direction``: 'lower' or 'higher' is better; 'zero' for a signed difference, which is
    best when it is none. ``cost``: CPU seconds for a second of audio at 16 kHz, roughly, on one
    server core; of the likelihood, with model=small. Metrics of one family share their analysis,
    so together they cost less. ``extra``: the optional dependencies that it needs."""

    name: str
    unit: str
    direction: Direction
    description: str
    source: str = ""
    cost: float = 0.0
    extra: str = ""

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
        0.19,
    ),
    MetricInfo(
        "log_mel_l1",
        "nats",
        "lower",
        "mean absolute difference of log-mel spectrograms",
        "the mel that the model is conditioned on (wg.audio.mel)",
        0.001,
    ),
    MetricInfo(
        "mr_stft",
        "1",
        "lower",
        "multi-resolution STFT loss: spectral convergence + L1 of log magnitudes",
        "Yamamoto et al. 2020 (Parallel WaveGAN), arXiv:1910.11480",
        0.007,
    ),
    MetricInfo(
        "pesq_wb",
        "MOS-LQO",
        "higher",
        "perceptual evaluation of speech quality, wide band",
        "ITU-T P.862.2, package pesq",
        0.009,
    ),
    MetricInfo(
        "stoi",
        "1",
        "higher",
        "short-time objective intelligibility",
        "Taal, Hendriks, Heusdens and Jensen 2011, package pystoi",
        0.01,
    ),
    MetricInfo(
        "estoi",
        "1",
        "higher",
        "extended short-time objective intelligibility",
        "Jensen and Taal 2016, package pystoi",
        0.015,
    ),
    MetricInfo(
        "level_db",
        "dB",
        "zero",
        "RMS level relative to the reference",
        "20 log10 of the ratio of RMS values",
        4e-05,
    ),
    MetricInfo(
        "line_noise_db",
        "dB",
        "lower",
        "steady tones at Fs/8, 2Fs/8, 3Fs/8 above their neighbourhood, beyond the reference's",
        "power spectra of 2,048-sample Hann windows, mean over frames in dB (wg.measure.quality)",
        0.0008,
    ),
    MetricInfo(
        "dc_offset",
        "LSB",
        "zero",
        "mean of the signal relative to the reference, in steps of 16 bits",
        "difference of the means, times 32768",
        2e-05,
    ),
    MetricInfo(
        "mcd",
        "dB",
        "lower",
        "mel-cepstral distortion: 24 coefficients without c0, frames of 5 ms as they lie",
        "Kubichek 1993; envelopes by WORLD's CheapTrick (wg.measure.pitch)",
        0.045,
        "pitch",
    ),
    MetricInfo(
        "f0_rmse",
        "cents",
        "lower",
        "RMS difference of the fundamental frequency where both are voiced",
        "WORLD's DIO and StoneMask, Morise et al. 2016 (wg.measure.pitch)",
        0.011,
        "pitch",
    ),
    MetricInfo(
        "vuv_error",
        "1",
        "lower",
        "share of frames that one of the two is voiced in and the other is not",
        "WORLD's DIO and StoneMask, Morise et al. 2016 (wg.measure.pitch)",
        0.011,
        "pitch",
    ),
    MetricInfo(
        "periodicity",
        "1",
        "lower",
        "RMS difference of how periodic each frame is, 0 to 1",
        "Morrison et al. 2022 (CARGAN), arXiv:2110.10139; periodicity by the normalised "
        "cross-correlation of Talkin 1995 instead of a network (wg.measure.pitch)",
        0.008,
    ),
    MetricInfo(
        "dnsmos",
        "MOS",
        "higher",
        "opinion of a network that hears no reference: P.835, overall",
        "Reddy, Gopal and Cutler 2022, arXiv:2110.01763, package speechmos",
        0.39,
        "dnsmos",
    ),
    MetricInfo(
        "distillmos",
        "MOS",
        "higher",
        "opinion of a distilled network that hears no reference",
        "Stahl and Gamper 2025, arXiv:2502.05356, package distillmos",
        0.073,
        "distillmos",
    ),
)
METRICS: dict[str, MetricInfo] = {row.name: row for row in _ROWS}

# What follows from a metric without another look at the model: never scored and no target's
# condition, only shown beside it.
NO_CONSTANT = "nats_per_sample_no_constant"
DERIVED: dict[str, MetricInfo] = {
    NO_CONSTANT: MetricInfo(
        NO_CONSTANT,
        "nats/sample",
        "lower",
        "the same less 0.5 ln(2 pi sigma^2), as papers on likelihood print it; it compares models "
        "of one sigma alone",
        "nats_per_sample and the sigma that the run was trained with",
    )
}
# All that a report may show, each that follows after what it follows from.
SHOWN: dict[str, MetricInfo] = {_ROWS[0].name: _ROWS[0], **DERIVED, **METRICS}

# What every snapshot is scored on where nothing else is asked for (evaluation.metrics): cheap,
# and nothing that an ordinary install lacks.
DEFAULT = (
    "nats_per_sample",
    "log_mel_l1",
    "mr_stft",
    "pesq_wb",
    "stoi",
    "estoi",
    "level_db",
    "line_noise_db",
    "dc_offset",
)
# The modules behind each extra of the metrics.
EXTRAS = {
    "pitch": ("pyworld", "pkg_resources"),  # pyworld imports what setuptools 82 has not any more
    "dnsmos": ("speechmos",),
    "distillmos": ("distillmos", "torchaudio"),
}


def check_metrics(names: Iterable[str], where: str) -> None:
    """Raises :class:`UserError` for a name that is no metric, a name that comes twice, and no
    names at all. ``where``: the setting or option that they come from."""
    names = list(names)
    if not names:
        raise UserError(f"{where} is empty: name at least one metric, such as log_mel_l1.")
    for name in names:
        if name not in METRICS:
            raise UserError(f"{where}: there is no metric '{name}'; {nearest(name, METRICS)}")
        if names.count(name) > 1:
            raise UserError(f"{where} names '{name}' twice.")


def check_metrics_installed(names: Iterable[str]) -> None:
    """Raises :class:`UserError` with the install command for a metric whose packages are not
    there."""
    for name in names:
        extra = METRICS[name].extra
        if any(find_spec(module) is None for module in EXTRAS.get(extra, ())):
            raise missing(name)


def missing(name: str) -> UserError:
    """What to tell where a metric's packages are absent, or do not load."""
    extra = METRICS[name].extra
    modules = " and ".join(EXTRAS[extra])
    return UserError(f"metric '{name}' needs {modules}: pip install 'wg[{extra}]'")


def metric_info(name: str) -> MetricInfo:
    """The row of ``name``; one that the table lacks (a newer record's) is shown as it is."""
    return SHOWN.get(name) or MetricInfo(name, "", "lower", name.replace("_", " "))


def with_derived(values: Mapping[str, float | None], sigma: float) -> dict[str, float | None]:
    """``values`` (metric -> value) and what follows from them: nats per sample less the Gaussian
    constant 0.5 ln(2 pi sigma^2) that wg.measure.score added to them. ``sigma``: of the
    likelihood, not of the noise that speech is generated from."""
    nats = values.get("nats_per_sample")
    if "nats_per_sample" not in values:
        return dict(values)
    constant = 0.5 * math.log(2 * math.pi * sigma**2)
    return {**values, NO_CONSTANT: None if nats is None else nats - constant}
