"""What a model's meta says of its sound: checked once, where a checkpoint is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from wg.audio.mel import MelConfig
from wg.errors import UserError
from wg.fields import fill, fit
from wg.flow.config import FlowConfig

_LARGEST = 2**31  # of a whole number: beyond it no array has the size


def checked_facts(meta: Mapping[str, Any], config: FlowConfig, source: str) -> dict[str, Any]:
    """``meta`` with a valid ``sampling_rate`` (Hz), ``mel`` (every field of
    :class:`wg.audio.mel.MelConfig`) and ``sigma`` (1.0 where it is not said), that agree with
    each other and with the model's size. Raises :class:`UserError` naming the first that is not.
    """
    try:
        for name in ("sampling_rate", "mel"):
            if name not in meta:
                raise UserError(f"it does not say its {name}")
        rate = fit("sampling_rate", meta["sampling_rate"], int)
        mel = _mel(meta["mel"])
        sigma = fit("sigma", meta.get("sigma", 1.0), float)
        if not 0 < sigma < math.inf:
            raise UserError(f"sigma={sigma:g} must be a number above 0")
        for name, said, wanted in (
            ("sampling_rate", mel.sampling_rate, rate),
            ("n_mels", mel.n_mels, config.n_mels),
            ("hop_length", mel.hop_length, config.upsample_stride),
        ):
            if said != wanted:
                raise UserError(f"mel.{name}={said} must be the model's {wanted}")
    except UserError as e:
        raise UserError(
            f"{source} is damaged ({str(e).rstrip('.')}); take it from a copy, or convert or train "
            "the model again."
        ) from None
    return {**meta, "mel": vars(mel), "sigma": sigma}


def _mel(said: Any) -> MelConfig:
    if not isinstance(said, dict):
        raise UserError(f"mel={said!r} must be a group of settings")
    values = fill(MelConfig, said, "mel")
    for name, value in values.items():
        if abs(value) >= _LARGEST:
            raise UserError(f"mel.{name}={value:.4g} is too large")
    return MelConfig(**values)
