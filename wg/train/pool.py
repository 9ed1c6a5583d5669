"""What training segments are drawn from: all their starts, or the loudest of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from wg.audio.io import FULL_SCALE
from wg.audio.store import Store

_CHUNK = 4096  # frames at a time


class Pool:
    """Starts of segments, numbered through all utterances; ``starts[j]`` is how many utterance j
    has. With ``order`` only the first ``share`` of it are drawn."""

    def __init__(
        self, starts: np.ndarray, order: np.ndarray | None = None, share: float = 1.0
    ) -> None:
        self.starts, self.ends, self.order = starts, np.cumsum(starts), order
        self.size = max(math.ceil(share * int(self.ends[-1])), 1)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """``n`` numbers of starts, each equally likely, with replacement."""
        picks = rng.integers(self.size, size=n)
        return picks if self.order is None else self.order[picks]

    def place(self, pick: int) -> tuple[int, int]:
        """(utterance, mel frame) of start number ``pick``."""
        j = int(np.searchsorted(self.ends, pick, side="right"))
        return j, int(pick - (self.ends[j] - self.starts[j]))


def loudest_first(
    store: Store, utterances: Sequence[int], starts: np.ndarray, T: int, hop: int
) -> np.ndarray:
    """Numbers of all starts, from the segment of ``T`` samples with the most energy to the one
    with the least; of equal ones, the first first. One pass over the audio, in whole numbers: the
    same on every machine."""
    parts = [_energies(store, i, int(n), T, hop) for i, n in zip(utterances, starts, strict=True)]
    return np.argsort(-np.concatenate(parts), kind="stable")


def _energies(store: Store, i: int, n: int, T: int, hop: int) -> np.ndarray:
    """(n,) sums of squares of the 16-bit samples of utterance i's first ``n`` segments."""
    whole, rest = divmod(T, hop)  # a segment is so many frames and the beginning of one more
    F = n + whole
    frames, beginnings = np.zeros((2, F), dtype=np.int64)
    for first in range(0, F, _CHUNK):
        last = min(first + _CHUNK, F)
        audio = store.audio(i, first * hop, last * hop).numpy()
        # Whole numbers still, and their sums: a double holds them below 2^53.
        x = np.zeros((last - first, hop))
        x.reshape(-1)[: len(audio)] = audio * np.float32(FULL_SCALE)
        frames[first:last] = np.einsum("fh,fh->f", x, x)
        beginnings[first:last] = np.einsum("fh,fh->f", x[:, :rest], x[:, :rest])
    until = np.concatenate([[0], np.cumsum(frames)])
    return until[whole : whole + n] - until[:n] + beginnings[whole : whole + n]
