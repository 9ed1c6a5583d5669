"""WaveGlow for other programs: a model, its mels, its denoiser. No Hydra, no W&B, no Lightning.

model = wg.load("waveglow_256channels.pt")        # or a run, a model folder, safetensors
mel = wg.mel(audio, **model.meta["mel"])          # (n_mels, F)
speech = model.infer(mel[None], sigma=0.7)        # (1, F * hop)
speech = wg.denoise(model, speech, strength=0.05)
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wg.audio.mel import MelConfig, MelSpectrogram
from wg.checkpoint.weights import load_model
from wg.errors import UserError
from wg.fields import fill
from wg.flow.denoiser import Denoiser, silence_of
from wg.flow.waveglow import WaveGlow

if TYPE_CHECKING:
    import numpy as np


def load(path: str | PathLike[str], device: str | torch.device = "cpu") -> WaveGlow:
    """The model of a checkpoint, in evaluation mode; ``model.meta`` tells what is known of it.

    path: a run or model folder of wg's, a ``.safetensors`` file, or a ``.pt`` file of
    NVIDIA/waveglow or DeepLearningExamples of any age (see ``wg convert``). No code in it is run.

    ``model.meta["mel"]`` are the settings of the mels it was trained on. Raises
    :class:`wg.UserError` (also named ``wg.errors.UserError``) for what is no WaveGlow.
    """
    model, meta = load_model(Path(path), device)
    model.meta = meta
    return model


def mel(audio: Tensor | np.ndarray, sampling_rate: int = 22050, **settings: Any) -> Tensor:
    """Audio (T,) or (B, T) in [-1, 1] -> log-mel (n_mels, F) or (B, n_mels, F) in nats with
    F = 1 + T // hop_length, as NVIDIA's ``mel2samp.py`` computes it.

    settings: fields of :class:`wg.audio.mel.MelConfig`. Raises :class:`wg.UserError` for unknown
    or impossible ones, and for audio that is an array of whole numbers or of another shape.
    """
    config = MelConfig(**fill(MelConfig, {"sampling_rate": sampling_rate, **settings}, "mel"))
    samples = torch.as_tensor(audio)
    if not samples.is_floating_point():
        raise UserError(
            f"audio of {samples.dtype} has no scale: divide 16-bit samples by 32768 first."
        )
    if samples.ndim not in (1, 2) or samples.shape[-1] < 1:
        raise UserError(f"audio of shape {tuple(samples.shape)} must be (T,) or (B, T).")
    batch = samples if samples.ndim == 2 else samples[None]
    result = MelSpectrogram(config).to(samples.device)(batch)
    return result if samples.ndim == 2 else result[0]


def denoise(model: WaveGlow, audio: Tensor, strength: float = 0.1) -> Tensor:
    """Audio (B, T) or (T,) of ``model`` less ``strength`` times the model's own sound: NVIDIA's
    denoiser. For many utterances make one :class:`wg.flow.denoiser.Denoiser`."""
    batch = audio if audio.ndim == 2 else audio[None]
    result = Denoiser(silence_of(model), strength)(batch)
    return result if audio.ndim == 2 else result[0]
