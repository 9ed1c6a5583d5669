"""The noise behind an utterance, readable from any place.

A generator that draws the whole z in one go needs to know its length, and to hold it. Here z
comes in blocks, each from its own seed, so a piece of it is the same whether the utterance is
read whole, streamed, or one of a batch, and on whatever device it is heard.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

_BLOCK = 1024  # groups


class Noise:
    """Unit Gaussian z of one utterance, determined by ``seed`` and the utterance's name."""

    def __init__(self, seed: int, name: str, n_group: int) -> None:
        self.key, self.n_group = f"{seed}:{name}", n_group
        self._cached: tuple[int, Tensor] = (-1, torch.empty(0))

    def __call__(self, first: int, stop: int) -> Tensor:
        """z (n_group, stop - first) of groups [first, stop), on the CPU."""
        pieces = [torch.empty(self.n_group, 0)]
        for j in range(first // _BLOCK, -(-stop // _BLOCK)):
            start = j * _BLOCK
            pieces.append(self._block(j)[:, max(first - start, 0) : stop - start])
        return torch.cat(pieces, dim=1)

    def _block(self, j: int) -> Tensor:
        if self._cached[0] != j:
            digest = hashlib.sha256(f"{self.key}:{j}".encode()).digest()
            # On the CPU: a GPU's generator gives other numbers for the same seed.
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
            self._cached = (j, torch.randn(self.n_group, _BLOCK, generator=generator))
        return self._cached[1]
