"""DataConfig: which audio a run trains on, filled from ``conf/data/*.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, get_args

from wg.audio.mel import MelConfig
from wg.errors import UserError, nearest

Kind = Literal["demo", "ljspeech", "folder"]
ShortClips = Literal["error", "skip", "pad"]


@dataclass(frozen=True)
class DataConfig:
    """A corpus to load. ``sampling_rate`` in Hz.

    ``held_out`` is a number of utterances (int >= 1) or a share of them (float in (0, 1)).
    The demo's split is fixed by its manifest; there a smaller number scores fewer clips.
    ``short_clips`` says what becomes of training clips shorter than a segment.

    Errors: UserError when a value is impossible.
    """

    name: str
    kind: Kind
    path: str | None
    sampling_rate: int
    held_out: int | float
    resample: bool = False
    short_clips: ShortClips = "error"
    mel: MelConfig = field(default_factory=MelConfig)

    def __post_init__(self) -> None:
        _choice("data.kind", self.kind, get_args(Kind))
        _choice("data.short_clips", self.short_clips, get_args(ShortClips))
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
        if self.kind == "demo" and self.path is not None:
            raise UserError(
                f"data.path={self.path} has no effect on the packaged demo corpus: "
                "use data=folder or data=ljspeech for your own audio"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataConfig:
        """From plain keys, as in ``conf/data``; ``mel.sampling_rate`` defaults to the data's.

        Errors: UserError on an unknown or missing key, or a value of the wrong type.
        """
        plain = _typed(cls, values, "data")
        mel = dict(plain.get("mel") or {})
        mel.setdefault("sampling_rate", plain["sampling_rate"])
        plain["mel"] = MelConfig(**_typed(MelConfig, mel, "data.mel"))
        return cls(**plain)


# Annotations are strings here; this is what each of them accepts, and in words.
_ACCEPTS: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "str | None": ((str, type(None)), "text or null"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "int | float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "Kind": ((str,), "text"),
    "ShortClips": ((str,), "text"),
    "MelConfig": ((Mapping,), "a group of keys"),
}


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name}={value} is unknown: {nearest(str(value), known)}")


def _typed(cls: type, values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The values checked against the dataclass's fields; numbers become floats where due."""
    known = {f.name: f for f in fields(cls)}
    for key in values:
        if key not in known:
            raise UserError(f"{prefix}.{key} is unknown: {nearest(str(key), known)}")
    out: dict[str, Any] = {}
    for name, spec in known.items():
        if name not in values:
            if spec.default is MISSING and spec.default_factory is MISSING:
                raise UserError(f"{prefix}.{name} is missing: set it in the config")
            continue
        value = values[name]
        types, words = _ACCEPTS[str(spec.type)]
        # True is an int to Python, but never a number that a user meant.
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise UserError(f"{prefix}.{name}={value!r} must be {words}")
        out[name] = float(values[name]) if spec.type == "float" else value
    return out
