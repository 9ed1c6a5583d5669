"""The inverse flow in pieces: any length in bounded memory, equal to the whole.

Every flow keeps the little that its WN can still see: its receptive field on either side. A flow
that has received groups up to q can be sure of its output up to q - reach, so each lags behind
the one before it; together they lag by the receptive field of the model, and no piece is
computed for more than one field's width twice. (Cutting the audio itself into chunks that
overlap by the model's whole field gives the same, at more than twice the work for chunks of one
second; that is what a backend without state has to do, see :class:`OverlapStream`.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from wg.flow.conditioning import mel_path
from wg.flow.config import FlowConfig
from wg.flow.waveglow import WaveGlow

_SHORTEST = 1024  # groups


class AudioStream(Protocol):
    """Pieces in, pieces out."""

    def push(self, mel: Tensor, z: Tensor, last: bool = False) -> Tensor:
        """mel (B, n_mels, f), z (B, n_group, f * hop / n_group) unit noise of the same frames ->
        the audio (B, n) that is certain by now, in order and without gaps. After ``last`` it
        adds up to all frames * hop samples."""
        ...


def wn_reach(config: FlowConfig) -> int:
    """Groups that one WN sees on either side of the group it computes."""
    return (config.kernel_size - 1) // 2 * sum(2**i for i in range(config.n_layers))


def reach_frames(config: FlowConfig) -> tuple[int, int]:
    """(before, after): mel frames around a frame that its audio depends on."""
    groups = config.n_flows * wn_reach(config)
    frames = -(-groups * config.n_group // config.upsample_stride)
    path = mel_path(config)
    return frames + path.before, frames + path.after


class HeldEnds:
    """A batch of mels in pieces, in which every item's last frame holds beyond its end.

    frames  of each item; None until the last piece tells
    """

    def __init__(self, frames: Sequence[int] | None) -> None:
        self.ends = None if frames is None else torch.tensor(frames)
        self.received = 0
        self._last: Tensor | None = None

    def __call__(self, mel: Tensor) -> Tensor:
        """The next piece (B, M, f) as it is to be used."""
        first = self.received
        self.received += mel.shape[2]
        if mel.shape[2] == 0:
            return mel
        if self.ends is not None and int(self.ends.min()) < self.received:
            known = mel if self._last is None else torch.cat([self._last, mel], dim=2)
            shift = known.shape[2] - mel.shape[2]
            at = torch.arange(first, self.received)[None].minimum(self.ends[:, None] - 1)
            index = (at - first + shift).clamp_min(0).to(mel.device)
            mel = known.gather(2, index[:, None].expand(-1, mel.shape[1], -1))
        self._last = mel[:, :, -1:]
        return mel

    def beyond(self, n: int) -> Tensor:
        """(B, M, n) frames after the last piece."""
        assert self._last is not None
        return self._last.expand(-1, -1, n)


class _Tape:
    """The end of a (B, C, T') sequence, addressed by absolute position."""

    def __init__(self) -> None:
        self.start = self.end = 0
        self._data: Tensor | None = None

    def append(self, piece: Tensor) -> None:
        self._data = piece if self._data is None else torch.cat([self._data, piece], dim=2)
        self.end += piece.shape[2]

    def __getitem__(self, at: tuple[int, int]) -> Tensor:
        first, last = at
        assert self._data is not None
        assert self.start <= first <= last <= self.end, (self.start, first, last, self.end)
        return self._data[:, :, first - self.start : last - self.start]

    def forget(self, before: int) -> None:
        if before > self.start and self._data is not None:
            # A copy, or the view would keep everything.
            self._data = self._data[:, :, before - self.start :].clone()
            self.start = before


class InverseStream:
    """``WaveGlow.infer`` piece by piece, for a batch of utterances that start together.

    block   frames computed at a time. Windows lie on a grid that depends on it alone, neither on
            the pieces that arrive nor on the lengths of items: the same numbers go through the
            same kernels in any company, so results are equal to the bit where a backend's
            arithmetic does not depend on the batch size.
    frames  of each item, when items end at different places: each is then what it would be
            alone. Pieces go on to the longest item's end; what is beyond an item's own end is
            to be thrown away. None: all end with the last piece.

    Inference only: no gradient is kept.
    """

    def __init__(
        self,
        model: WaveGlow,
        sigma: float = 1.0,
        block: int = 128,
        frames: Sequence[int] | None = None,
    ) -> None:
        c = model.config
        self.model, self.sigma, self.reach = model, sigma, wn_reach(c)
        self.groups_per_frame = c.upsample_stride // c.n_group
        self.block = block * self.groups_per_frame
        self._ends = None if frames is None else torch.tensor(frames) * self.groups_per_frame
        self._path, self._held = model.upsample, HeldEnds(frames)
        self._mel, self._grouped, self._z = _Tape(), _Tape(), _Tape()
        self._flows = [k for k in reversed(range(c.n_flows)) if model.active[k]]
        self._inputs = {k: _Tape() for k in self._flows}
        self._done = dict.fromkeys(self._flows, 0)
        self._received = self._given = 0

    @torch.no_grad()
    def push(self, mel: Tensor, z: Tensor, last: bool = False) -> Tensor:
        """See :class:`AudioStream`."""
        c = self.model.config
        assert z.shape[1:] == (c.n_group, mel.shape[2] * self.groups_per_frame), z.shape
        if last and self._ends is None:
            self._ends = torch.full((z.shape[0],), self._z.end + z.shape[2])
        self._append(mel, z)
        self._received = self._z.end
        if last:
            # Empty frames push out what the flows still hold.
            lag = len(self._flows) * self.reach
            spare = -(-(self._received + lag) // self.block) * self.block - self._received
            n_frames = spare // self.groups_per_frame
            beyond = self._held.beyond(n_frames + self._path.after)
            self._append(beyond, z.new_zeros(*z.shape[:2], spare))
        known = (self._mel.end - self._path.before - self._path.after) * self.groups_per_frame
        pieces = [self._block() for _ in range((known - self._grouped.end) // self.block)]
        audio = torch.cat([z.new_zeros(*z.shape[:2], 0), *pieces], dim=2)
        audio = audio[:, :, : self._received - self._given]
        self._given += audio.shape[2]
        return audio.transpose(1, 2).reshape(audio.shape[0], -1)

    def _append(self, mel: Tensor, z: Tensor) -> None:
        mel = self._held(mel)
        if self._mel.end == 0:  # what is found before the first frame
            self._mel.append(self._path.continued(mel[:, :, :1])[:, :, : self._path.before])
        self._mel.append(mel)
        self._z.append(self.sigma * z)

    def _block(self) -> Tensor:
        """Feed one more block of noise; what the last flow gives, (B, n_group, n)."""
        c = self.model.config
        begin = self._grouped.end
        self._grouped.append(self._group(begin // self.groups_per_frame))
        used = c.channels(c.n_flows - 1)
        x = self._z[begin, begin + self.block][:, -used:]
        for k in reversed(range(c.n_flows)):
            if self.model.active[k]:
                begin, x = self._flow(k, x)
            if c.has_early_output(k):
                used += c.n_early_size
                early = self._z[begin, begin + x.shape[2]][:, -used:][:, : c.n_early_size]
                x = torch.cat([early, x], dim=1)
        slowest = min(self._done.values(), default=begin + x.shape[2])
        self._grouped.forget(max(0, slowest - self.reach))
        self._z.forget(slowest)
        return x

    def _group(self, first: int) -> Tensor:
        """The mel's context of the block at frame ``first``, (B, channels, T')."""
        n = self.block // self.groups_per_frame
        frames = self._mel[first, first + self._path.before + n + self._path.after]
        self._mel.forget(first + n)
        return self._path.windowed(frames)

    def _flow(self, k: int, x: Tensor) -> tuple[int, Tensor]:
        """(position, piece) that flow k can give once it has also received ``x``."""
        tape, lo = self._inputs[k], self._done[k]
        tape.append(x)
        hi = max(lo, tape.end - self.reach)
        first = max(0, lo - self.reach)
        # What lies beyond every end need not be computed, except that very short inputs would
        # go through other kernels of the backend, which round otherwise.
        longest = tape.end if self._ends is None else int(self._ends.max())
        stop = min(tape.end, max(longest, first + _SHORTEST))
        out = x.new_zeros(*x.shape[:2], hi - lo)
        if lo < min(hi, longest):
            n = min(hi, stop) - lo
            out[:, :, :n] = self.model.inverse_flow(
                k,
                tape[first, stop],
                self._grouped[first, stop],
                self._beyond(first, stop, x),
                keep=slice(lo - first, lo - first + n),
            )
        self._done[k] = hi
        tape.forget(max(0, hi - self.reach))
        return lo, out

    def _beyond(self, first: int, last: int, like: Tensor) -> Tensor | None:
        if self._ends is None or last <= int(self._ends.min()):
            return None
        positions = torch.arange(first, last, device=like.device)
        return positions[None, None] >= self._ends.to(like.device)[:, None, None]


class SideBySide:
    """A batch as streams of one item each: equal to each item alone to the bit, because nothing
    in it knows of the batch. On a CPU that costs nothing."""

    def __init__(self, streams: Sequence[AudioStream]) -> None:
        self.streams = streams

    def push(self, mel: Tensor, z: Tensor, last: bool = False) -> Tensor:
        """See :class:`AudioStream`."""
        rows = zip(self.streams, mel.split(1), z.split(1), strict=True)
        return torch.cat([stream.push(m, n, last) for stream, m, n in rows])


class OverlapStream:
    """The same for a backend without state: windows that overlap by the model's receptive field,
    of which only the sure middle is kept.

    run     (mel (1, n_mels, f), z (1, n_group, T') scaled by sigma) -> audio (1, f * hop)
    window  frames given to ``run`` at a time, at most; more than twice the receptive field
    shortest  frames that ``run`` needs; a shorter utterance is continued by its last frame
    """

    def __init__(
        self,
        run: Callable[[Tensor, Tensor], Tensor],
        config: FlowConfig,
        sigma: float,
        window: int,
        shortest: int = 1,
    ) -> None:
        self.before, self.after = reach_frames(config)
        assert window > self.before + self.after, (window, self.before, self.after)
        self.run, self.config, self.sigma, self.window = run, config, sigma, window
        self.shortest = shortest
        self.groups_per_frame = config.upsample_stride // config.n_group
        self._mel, self._z = _Tape(), _Tape()
        self._done = 0  # frames whose audio has been given

    @torch.no_grad()
    def push(self, mel: Tensor, z: Tensor, last: bool = False) -> Tensor:
        """See :class:`AudioStream`."""
        self._mel.append(mel)
        self._z.append(self.sigma * z)
        hop, G = self.config.upsample_stride, self.groups_per_frame
        pieces = [mel.new_zeros(mel.shape[0], 0)]
        while True:
            first = max(0, self._done - self.before)
            stop = min(self._mel.end, first + self.window)
            at_end = last and stop == self._mel.end
            sure = stop if at_end else stop - self.after
            # Whole windows only, until the end: the work in the overlaps is the price.
            full = stop == first + self.window
            if sure <= self._done or not (full or at_end):
                break
            audio = self._run(self._mel[first, stop], self._z[first * G, stop * G])
            pieces.append(audio[:, (self._done - first) * hop : (sure - first) * hop])
            self._done = sure
            self._mel.forget(max(0, sure - self.before))
            self._z.forget(max(0, sure - self.before) * G)
        return torch.cat(pieces, dim=1)

    def _run(self, mel: Tensor, z: Tensor) -> Tensor:
        missing = self.shortest - mel.shape[2]
        if missing > 0:
            mel = torch.cat([mel, mel[:, :, -1:].expand(-1, -1, missing)], dim=2)
            z = torch.cat([z, z.new_zeros(*z.shape[:2], missing * self.groups_per_frame)], dim=2)
        return self.run(mel, z)
