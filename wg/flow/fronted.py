"""Streams of what stands behind the flow: a front end turns the excitation into audio, with what
it remembers between pieces, and the audio is fitted to its mel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wg.flow.consistency import MelConsistency
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


class ConsistentStream:
    """``stream`` with ``consistency`` behind it, in blocks on a grid of its own: what comes out
    does not depend on how pieces arrive.

    frames  of each item, when items end at different places
    """

    def __init__(
        self,
        stream: AudioStream,
        consistency: MelConsistency,
        frames: Sequence[int] | None = None,
    ) -> None:
        self.stream, self.consistency = stream, consistency
        # As much again is computed around a block as it has.
        self.block = 2 * consistency.reach
        self._held = HeldEnds(frames)
        self._ends = None if frames is None else torch.tensor(frames)
        self._mel: Tensor | None = None
        self._audio: Tensor | None = None
        self._first = self._done = 0  # frames: of what is kept, and given

    @torch.no_grad()
    def push(self, mel: Tensor, z: Tensor, last: bool = False) -> Tensor:
        """See :class:`wg.flow.stream.AudioStream`."""
        held, new = self._held(mel), self.stream.push(mel, z, last)
        self._mel = held if self._mel is None else torch.cat([self._mel, held], dim=2)
        self._audio = new if self._audio is None else torch.cat([self._audio, new], dim=1)
        hop, reach = self.consistency.hop, self.consistency.reach
        if last and self._ends is None:
            self._ends = torch.full((len(mel),), self._held.received)
        known = self._first + min(self._audio.shape[1] // hop, self._mel.shape[2])
        pieces = [new[:, :0]]
        while self._done < known and (last or self._done + self.block + reach <= known):
            stop = min(self._done + self.block, known)
            start = max(0, self._done - reach)
            end = min(stop + reach, known)
            pieces.append(self._block(start, end)[:, (self._done - start) * hop :])
            pieces[-1] = pieces[-1][:, : (stop - self._done) * hop]
            self._done = stop
        keep = max(0, self._done - reach) - self._first
        self._mel, self._audio = self._mel[:, :, keep:], self._audio[:, keep * hop :]
        self._first += keep
        return torch.cat(pieces, dim=1)

    def _block(self, start: int, end: int) -> Tensor:
        assert self._mel is not None
        assert self._audio is not None
        mel = self._mel[:, :, start - self._first : end - self._first]
        audio = self._audio[:, (start - self._first) * self.consistency.hop :]
        audio = audio[:, : mel.shape[2] * self.consistency.hop]
        # Until the last piece no end is in sight.
        ends = torch.full((len(mel),), 1 << 40) if self._ends is None else self._ends
        return self.consistency.window_of(mel, audio, start, ends.to(audio.device))


def behind(
    stream: AudioStream,
    front: FrontEnd | None,
    consistency: MelConsistency | None,
    sigma: float,
    hop: int,
    frames: Sequence[int] | None = None,
) -> AudioStream:
    """A flow's ``stream`` with all that its model has behind it, as in ``WaveGlow.infer``."""
    if front is not None:
        stream = FrontedStream(stream, front, hop, frames)
    if consistency is not None and sigma > 0:
        stream = ConsistentStream(stream, consistency, frames)
    return stream


def inverse_stream(
    model: WaveGlow, sigma: float = 1.0, block: int = 128, frames: Sequence[int] | None = None
) -> AudioStream:
    """The stream of ``model.infer``, with what the model has behind its flow; see
    :class:`wg.flow.stream.InverseStream`."""
    stream = InverseStream(model, sigma, block, frames)
    hop = model.config.upsample_stride
    return behind(stream, model.front, model.consistency, sigma, hop, frames)
