"""Mel spectrograms from files: whose layout, which scale."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from wg.audio.mel import LOG_FLOOR
from wg.checkpoint.torchfile import read_torch
from wg.errors import UserError, nearest

SUFFIXES = {".npy", ".pt", ".pth", ".safetensors"}
_LOUDEST = 6.0  # nats: ln of the 400 or so that a full-scale tone can add up to in a mel band
Scale = Literal["auto", "log", "magnitude", "power", "db"]


def read_mel(path: Path, n_mels: int, scale: Scale = "auto") -> Tensor:
    """A file -> log-mel (n_mels, F) in nats, as the model was trained on.

    .npy          an array
    .pt, .pth     a tensor, as NVIDIA's ``mel2samp.py`` writes; never run as code
    .safetensors  one tensor, or the one called "mel"

    Layout: (n_mels, F) as NVIDIA's and librosa's, (1, n_mels, F), or (F, n_mels). Scale: "log" is
    NVIDIA's, ln of the magnitude mel; "magnitude" is librosa's ``melspectrogram(power=1)``, "power"
    its default ``power=2``, and "db" ``power_to_db`` of that. The magnitude mel is exact; the
    root of a power mel is not the mel of the magnitudes, only near it. "auto" takes log and
    refuses what cannot be one.

    Raises :class:`UserError` for files that are unreadable or hold something else.
    """
    if scale not in get_args(Scale):
        raise UserError(f"--mel-scale {scale} is unknown: {nearest(scale, get_args(Scale))}")
    mel = _oriented(path, _array(path), n_mels)
    if not bool(torch.isfinite(mel).all()):
        raise UserError(f"{path} holds values that are not finite; make the mel again.")
    return _to_log(path, mel, scale)


def _array(path: Path) -> Tensor:
    kind = path.suffix.lower()
    try:
        if kind == ".npy":
            # Never pickles: an .npy file of objects would run code. Mapped: a header that claims
            # more than the file holds is found out, not believed.
            mel = torch.from_numpy(np.array(np.load(path, allow_pickle=False, mmap_mode="r")))
        elif kind == ".safetensors":
            mel = _pick(path, _safetensors(path))
        else:
            mel = _pick(path, read_torch(path))
    except (OSError, ValueError, TypeError, EOFError, MemoryError, AttributeError) as e:
        told = str(e) or type(e).__name__
        raise UserError(f"{path} cannot be read as a mel ({told}); make it again.") from None
    if mel.is_complex():
        raise UserError(f"{path} is complex, a spectrum and not a mel; make the mel of it.")
    return mel.float()


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as e:
        raise ValueError(str(e)) from None


def _pick(path: Path, found: Any) -> Tensor:
    if isinstance(found, Tensor):
        return found
    if isinstance(found, dict):
        tensors = {k: v for k, v in found.items() if isinstance(v, Tensor)}
        if len(tensors) == 1:
            return next(iter(tensors.values()))
        if "mel" in tensors:
            return tensors["mel"]
    raise UserError(
        f"{path} holds {type(found).__name__} and not one mel; save the mel tensor alone, or under "
        "the name 'mel'."
    )


def _oriented(path: Path, mel: Tensor, n_mels: int) -> Tensor:
    """(n_mels, F). A square one is read as (n_mels, F)."""
    shape = tuple(mel.shape)
    if mel.ndim == 3 and shape[0] == 1:
        mel = mel[0]
    if mel.ndim == 2 and mel.shape[0] != n_mels and mel.shape[1] == n_mels:
        mel = mel.T
    if mel.ndim != 2 or mel.shape[0] != n_mels or mel.shape[1] < 1:
        raise UserError(
            f"{path} has the shape {shape}; the model takes mels of ({n_mels}, frames), "
            f"(1, {n_mels}, frames) or (frames, {n_mels})."
        )
    return mel.contiguous()


def _to_log(path: Path, mel: Tensor, scale: Scale) -> Tensor:
    low, high = float(mel.min()), float(mel.max())
    if scale == "auto":
        if low >= 0:
            raise UserError(
                f"{path} has no value below 0, so it is no log-mel: add --mel-scale magnitude "
                "(librosa's melspectrogram with power=1) or --mel-scale power (power=2)."
            )
        # Half a nat of room for mels that another program predicted.
        if low < math.log(LOG_FLOOR) - 0.5:
            raise UserError(
                f"{path} reaches down to {low:.1f}, below ln({LOG_FLOOR:g}) = "
                f"{math.log(LOG_FLOOR):.1f} where log-mels end: if it is in decibels (librosa's "
                "power_to_db), add --mel-scale db; if it is what it should be, --mel-scale log."
            )
        if high > _LOUDEST:
            raise UserError(
                f"{path} reaches {high:.1f} where the log-mel of full scale ends below "
                f"{_LOUDEST:g}; if it is in decibels, add --mel-scale db; if it is of audio that "
                "was not scaled to [-1, 1], make it again."
            )
        return mel
    if scale == "log":
        return mel
    if scale == "db":
        mel, scale = 10.0 ** (mel / 10.0), "power"
        if high > 200.0:
            raise UserError(f"{path} reaches {high:.0f} dB; it is not in decibels.")
    elif low < 0:
        raise UserError(
            f"{path} holds negative values, which no {scale} mel has; leave out --mel-scale."
        )
    return torch.log(torch.clamp(mel.sqrt() if scale == "power" else mel, min=LOG_FLOOR))
