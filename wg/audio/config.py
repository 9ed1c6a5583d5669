"""DataConfig: which audio a run trains on, filled from ``conf/data/*.yaml``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from wg.audio.mel import MelConfig
from wg.errors import UserError, nearest
from wg.fields import fill, fit

Kind = Literal["demo", "ljspeech", "folder"]
ShortClips = Literal["error", "skip", "pad"]
MelDevice = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class DataConfig:
    """A corpus to load. ``sampling_rate`` in Hz.

    ``held_out`` is a number of utterances (int >= 1) or a share of them (float in (0, 1)).
    The demo's split is fixed by its manifest; there a smaller number scores fewer clips.
    ``held_out_min_seconds``: clips shorter than this are trained on and never held out; a metric
    that listens says little about a single word, or nothing at all.
    ``short_clips`` says what becomes of training clips shorter than a segment.
    ``silence_db``: training segments whose RMS level is below it (dBFS; 0 is a full-scale square
    wave) are drawn again; None draws all alike.
    ``mel_device`` computes the mels, once; the GPU's differ from the CPU's by rounding, so they
    are cached apart.

    Errors: UserError when a value is impossible.
    """

    name: str
    kind: Kind
    path: str | None
    sampling_rate: int
    held_out: int | float
    held_out_min_seconds: float = 0.0
    resample: bool = False
    short_clips: ShortClips = "error"
    silence_db: float | None = None
    mel_device: MelDevice = "cpu"
    mel: MelConfig = field(default_factory=MelConfig)

    def __post_init__(self) -> None:
        _choice("data.kind", self.kind, get_args(Kind))
        _choice("data.short_clips", self.short_clips, get_args(ShortClips))
        _choice("data.mel_device", self.mel_device, get_args(MelDevice))
        if self.mel.sampling_rate != self.sampling_rate:
            raise UserError(
                f"data.mel.sampling_rate={self.mel.sampling_rate} differs from "
                f"data.sampling_rate={self.sampling_rate}: leave the one in mel out"
            )
        whole = isinstance(self.held_out, int) and self.held_out >= 1
        share = isinstance(self.held_out, float) and 0 < self.held_out < 1
        if not (whole or share):
            raise UserError(
                f"data.held_out={self.held_out} must be a number of utterances (1 or more) "
                "or a share of them between 0 and 1"
            )
        if not 0 <= self.held_out_min_seconds < math.inf:
            raise UserError(
                f"data.held_out_min_seconds={self.held_out_min_seconds:g} must be a length in "
                "seconds, or 0 to hold out clips of any length"
            )
        if self.silence_db is not None and not -200 <= self.silence_db < 0:
            raise UserError(
                f"data.silence_db={self.silence_db:g} must be a level below full scale, from -200 "
                "to below 0 dBFS, such as -60, or null to draw silence as well"
            )
        if self.kind == "demo" and self.path is not None:
            raise UserError(
                f"data.path={self.path} has no effect on the packaged demo corpus: "
                "use data=folder or data=ljspeech for your own audio"
            )
        if self.kind == "demo" and self.held_out_min_seconds:
            raise UserError(
                f"data.held_out_min_seconds={self.held_out_min_seconds:g} has no effect on the "
                "packaged demo corpus, whose split is fixed: leave it out"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataConfig:
        """From plain keys, as in ``conf/data``; ``mel.sampling_rate`` defaults to the data's.

        Errors: UserError on an unknown or missing key, or a value of the wrong type.
        """
        given = fit("data.mel", values.get("mel") or {}, Mapping)
        mel = {"sampling_rate": values.get("sampling_rate"), **given}
        return cls(**fill(cls, {**values, "mel": mel}, "data"))


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name}={value} is unknown: {nearest(str(value), known)}")
