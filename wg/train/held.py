"""The training corpus in the memory of a device (strategy `cached_mel`)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from wg.audio.fill import offsets
from wg.audio.io import FULL_SCALE
from wg.audio.store import Store
from wg.errors import UserError
from wg.train.memory import available_memory

MOST = 0.5  # share of the free memory that a corpus may take: the rest is the model's


class Held:
    """Audio (16-bit samples) and mels (fp32) of a store's training utterances on ``device``, with
    the same :meth:`audio` and :meth:`mel`, bit for bit."""

    def __init__(self, store: Store, device: torch.device) -> None:
        """Errors: UserError when it would take more than half of the memory that is free."""
        check_room(_bytes(store), _free(device), device)
        samples = offsets(np.array([store.n_samples(i) for i in store.train])).tolist()
        frames = offsets(np.array([store.n_frames(i) for i in store.train])).tolist()
        self._audio = torch.empty(samples[-1], dtype=torch.int16, device=device)
        self._mel = torch.empty(frames[-1], store.mel_config.n_mels, device=device)
        # Utterance -> where it begins and ends.
        self._samples = dict(zip(store.train, pairwise(samples), strict=True))
        self._frames = dict(zip(store.train, pairwise(frames), strict=True))
        for i in store.train:
            # Whole numbers again: the scale is a power of two.
            self._audio[slice(*self._samples[i])] = (store.audio(i) * FULL_SCALE).to(torch.int16)
            self._mel[slice(*self._frames[i])] = store.mel(i).T.to(device)

    def audio(self, i: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Samples [start, stop) of training utterance i -> float32 (T,) in [-1, 1)."""
        first, last = self._samples[i]
        stop = last if stop is None else min(first + stop, last)
        return self._audio[first + start : stop].float() / FULL_SCALE

    def mel(self, i: int, first_frame: int = 0, n_frames: int | None = None) -> Tensor:
        """Frames of training utterance i's mel -> float32 (n_mels, F), as :meth:`Store.mel`."""
        first, last = self._frames[i]
        stop = last if n_frames is None else min(first + first_frame + n_frames, last)
        return self._mel[first + first_frame : stop].T.contiguous()


def check_room(needed: int, free: int, device: torch.device) -> None:
    """Errors: UserError when ``needed`` bytes are more than a corpus may take of ``free``."""
    if needed > MOST * free:
        what = "the GPU's memory" if device.type == "cuda" else "memory"
        raise UserError(
            f"strategy 'cached_mel' would hold {needed / 1e9:.1f} GB of audio and mels in {what}, "
            f"of which {free / 1e9:.1f} GB are free: take it out of the recipe (they are then "
            "read from the disk's cache)."
        )


def _bytes(store: Store) -> int:
    bands = store.mel_config.n_mels
    return sum(2 * store.n_samples(i) + 4 * bands * store.n_frames(i) for i in store.train)


def _free(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
