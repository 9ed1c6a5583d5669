"""Streams of a model with a signal front end: the flow gives an excitation, the front end turns it
into audio, with what it remembers between pieces."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wg.flow.front import FrontEnd
from wg.flow.stream import AudioStream, HeldEnds, InverseStream
from wg.flow.waveglow import WaveGlow


class FrontedStream:
    """``stream`` with the inverse of ``front`` behind it. Equal to the whole to the bit: a
    filter sees the same numbers wherever pieces begin.

    hop     samples in a mel frame
    frames  of each item, when items end at different places
    """

    def __init__(
        self, stream: AudioStream, front: FrontEnd, hop: int, frames: Sequence[int] | None = None
    ) -> None:
        self.stream, self.front, self.hop = stream, front, hop
        self._held = HeldEnds(frames)
        self._mel: Tensor | None = None  # from the frame whose audio is due on
        self._excitation: Tensor | None = None
        self._past: Tensor | None = None

    @torch.no_grad()
    def push(self, mel: Tensor, z: Tensor, last: bool = False) -> Tensor:
        """See :class:`wg.flow.stream.AudioStream`."""
        held = self._held(mel)
        self._mel = held if self._mel is None else torch.cat([self._mel, held], dim=2)
        new = self.stream.push(mel, z, last)
        e = new if self._excitation is None else torch.cat([self._excitation, new], dim=1)
        # Filters are interpolated towards the next frame, which must be known.
        n = e.shape[1] // self.hop if last else min(e.shape[1] // self.hop, self._mel.shape[2] - 1)
        if n <= 0:
            self._excitation = e
            return e[:, :0]
        piece = self._mel[:, :, : n + 1]
        audio, self._past = self.front.synthesis(piece, e[:, : n * self.hop], self._past)
        self._mel, self._excitation = self._mel[:, :, n:], e[:, n * self.hop :]
        return audio


def inverse_stream(
    model: WaveGlow, sigma: float = 1.0, block: int = 128, frames: Sequence[int] | None = None
) -> AudioStream:
    """The stream of ``model.infer``, whatever the model's front end; see
    :class:`wg.flow.stream.InverseStream`."""
    stream = InverseStream(model, sigma, block, frames)
    if model.front is None:
        return stream
    return FrontedStream(stream, model.front, model.config.upsample_stride, frames)
