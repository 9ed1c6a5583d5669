"""Spectrograms as pictures."""

from __future__ import annotations

import io

import numpy as np

# Log-mels run from log(1e-5) (silence) to a little above 1 (loud speech).
_LOW, _HIGH = -11.5, 1.5


def picture(mel: np.ndarray) -> np.ndarray:
    """Log-mel (n_mels, F) -> uint8 RGB (H, F', 3) on a fixed scale, low bands at the bottom, so
    that pictures of one utterance compare."""
    from matplotlib import colormaps

    level = np.clip((mel[::-1] - _LOW) / (_HIGH - _LOW), 0, 1)
    return (colormaps["magma"](level)[..., :3] * 255).astype(np.uint8)


def png_bytes(mel: np.ndarray) -> bytes:
    """The picture as a PNG, each band two pixels high."""
    from matplotlib.image import imsave

    out = io.BytesIO()
    imsave(out, picture(mel).repeat(2, axis=0).repeat(2, axis=1), format="png")
    return out.getvalue()
