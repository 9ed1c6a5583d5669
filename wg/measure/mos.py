"""Networks that guess a listener's opinion: dnsmos, distillmos. They hear no reference.

Extras, and never among the default metrics: they were made for recordings, so what they say of a
vocoder's errors is a second opinion. Both hear 16 kHz; other rates are resampled.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from wg.audio.io import resample_audio
from wg.audio.mel import MelConfig
from wg.errors import UserError
from wg.measure.metrics import missing

NAN = float("nan")
RATE = 16000  # Hz, of both
MIN_SECONDS = 0.05


def dnsmos(reference: np.ndarray, generated: np.ndarray, mel: MelConfig) -> float:
    """DNSMOS P.835 of the generated (T,) signal, the overall opinion: MOS, about 1 (bad) to 5.

    Reddy, Gopal and Cutler 2022, arXiv:2110.01763. A signal under 9 s is repeated; the score of a
    longer one is the mean over windows of 9 s, a second apart. nan under 0.05 s.

    Errors: UserError when speechmos is not installed.
    """
    audio = _at_16k(generated, mel)
    if audio is None:
        return NAN
    try:
        from speechmos import dnsmos as network
    except ImportError:
        raise missing("dnsmos") from None
    return float(network.run(audio, sr=RATE)["ovrl_mos"])


def distillmos(reference: np.ndarray, generated: np.ndarray, mel: MelConfig) -> float:
    """DistillMOS of the generated (T,) signal: MOS, 1 (bad) to 5. nan under 0.05 s.

    Stahl and Gamper 2025, arXiv:2502.05356.

    Errors: UserError when distillmos is not installed, or its torchaudio does not load.
    """
    audio = _at_16k(generated, mel)
    if audio is None:
        return NAN
    with torch.no_grad():
        return float(_distillmos()(torch.from_numpy(audio)[None]))


@functools.lru_cache(maxsize=1)
def _distillmos() -> Any:
    """The network with its weights, which the package brings."""
    import contextlib
    import io

    try:
        import distillmos as package
    except ImportError:
        raise missing("distillmos") from None
    except (OSError, RuntimeError) as e:
        raise UserError(
            "metric 'distillmos' needs torchaudio, and the one that is installed does not load "
            f"beside this torch ({e}): install the one that was built for torch {torch.__version__}"
        ) from None
    with contextlib.redirect_stdout(io.StringIO()):  # it says where its weights are from
        return package.ConvTransformerSQAModel().eval()


def _at_16k(audio: np.ndarray, mel: MelConfig) -> np.ndarray | None:
    """(T,) float32 in [-1, 1] at 16 kHz; resampling may overshoot. None when it is too short."""
    if len(audio) < MIN_SECONDS * mel.sampling_rate:
        return None
    heard = np.clip(resample_audio(audio, mel.sampling_rate, RATE), -1.0, 1.0)
    return np.ascontiguousarray(heard, dtype=np.float32)
