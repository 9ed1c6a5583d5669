"""WaveGlow for other programs: a model, its mels, its denoiser. No Hydra, no W&B, no Lightning.

model = wg.load("waveglow_256channels.pt")        # or a run, a model folder, safetensors
mel = wg.mel(audio, **model.meta["mel"])          # (n_mels, F)
speech = model.infer(mel[None], sigma=0.7)        # (1, F * hop)
speech = wg.denoise(model, speech, strength=0.05)
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wg.audio.mel import MelConfig, MelSpectrogram
from wg.checkpoint.weights import load_model
from wg.errors import UserError
from wg.fields import fill
from wg.flow.check import check_scale
from wg.flow.denoiser import Denoiser, silence_of
from wg.flow.waveglow import WaveGlow


def load(path: str | PathLike[str], device: str | torch.device = "cpu") -> WaveGlow:
    """The model of a checkpoint, in evaluation mode; ``model.meta`` tells what is known of it.

    path: a run or model folder of wg's, a ``.safetensors`` file, or a ``.pt`` file of
    NVIDIA/waveglow or DeepLearningExamples of any age (see ``wg convert``). No code in it is run.

    ``model.meta["mel"]`` are the settings of the mels it was trained on. Raises
    :class:`wg.UserError` (also named ``wg.errors.UserError``) for what is no WaveGlow, and for a
    device that is not there.
    """
    model, meta = load_model(Path(path), _device(device))
    model.meta = meta
    return model


def mel(audio: Tensor | np.ndarray, sampling_rate: int = 22050, **settings: Any) -> Tensor:
    """Audio (T,) or (B, T) in [-1, 1] -> log-mel (n_mels, F) or (B, n_mels, F) in nats with
    F = 1 + T // hop_length, as NVIDIA's ``mel2samp.py`` computes it.

    settings: fields of :class:`wg.audio.mel.MelConfig`. Raises :class:`wg.UserError` for unknown
    or impossible ones, and for audio that is no array of real numbers, of whole numbers, of another
    shape or far beyond [-1, 1].
    """
    from wg.audio.io import LOUDEST  # with libsndfile, which a model in memory does not need

    config = MelConfig(**fill(MelConfig, {"sampling_rate": sampling_rate, **settings}, "mel"))
    samples = _samples(audio)
    _check_audio(samples)
    low, high = (float(v) for v in samples.detach().aminmax())  # NaN where there is one
    if not max(-low, high) <= LOUDEST:
        raise UserError(
            f"audio reaches {max(-low, high):g} where full scale is 1: it must be finite and in "
            "[-1, 1], so divide samples of 16-bit scale by 32768 first."
        )
    batch = samples if samples.ndim == 2 else samples[None]
    result = MelSpectrogram(config).to(samples.device)(batch)
    return result if samples.ndim == 2 else result[0]


def denoise(model: WaveGlow, audio: Tensor, strength: float = 0.1) -> Tensor:
    """Audio (B, T) or (T,) of ``model`` less ``strength`` times the model's own sound: NVIDIA's
    denoiser. For many utterances make one :class:`wg.flow.denoiser.Denoiser`. Raises
    :class:`wg.UserError` for arguments that are something else."""
    if not isinstance(model, WaveGlow):
        raise UserError(f"model is a {type(model).__name__} and must be one that wg.load gives.")
    if not isinstance(audio, Tensor):
        raise UserError(
            f"audio is a {type(audio).__name__} and must be a torch tensor: make it one with "
            "torch.as_tensor."
        )
    _check_audio(audio)
    check_scale("strength", strength)
    batch = audio if audio.ndim == 2 else audio[None]
    result = Denoiser(silence_of(model), strength)(batch)
    return result if audio.ndim == 2 else result[0]


def _device(device: str | torch.device) -> torch.device:
    """One that is there: asked for before a checkpoint is read."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError):
        cuda = torch.cuda.device_count()
        there = ["cpu", *(f"cuda:{i}" for i in range(cuda))]
        raise UserError(
            f"device={device} is unknown or not there: torch has {', '.join(there)} here."
        ) from None
    return found


def _samples(audio: Any) -> Tensor:
    """What torch makes of an array, also of one that runs backwards or in another byte order."""
    if isinstance(audio, Tensor):
        return audio
    try:
        array = np.asarray(audio)
        own = np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
        return torch.from_numpy(np.array(array, own, order="C"))
    except (ValueError, TypeError, RuntimeError):  # ragged, text, objects
        raise UserError(
            f"audio is a {type(audio).__name__} that is no array of numbers: give samples (T,) or "
            "(B, T) in [-1, 1]."
        ) from None


def _check_audio(samples: Tensor) -> None:
    if samples.is_complex() or samples.dtype == torch.bool:
        raise UserError(f"audio of {samples.dtype} must be real numbers in [-1, 1].")
    if not samples.is_floating_point():
        raise UserError(
            f"audio of {samples.dtype} has no scale: divide 16-bit samples by 32768 first."
        )
    if samples.ndim not in (1, 2) or samples.numel() < 1:
        raise UserError(f"audio of shape {tuple(samples.shape)} must be (T,) or (B, T).")
