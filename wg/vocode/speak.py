"""A batch of utterances through a model: side by side in, each cut to its own length out."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from wg.errors import UserError
from wg.flow.denoiser import Denoiser
from wg.vocode.backends import Voice
from wg.vocode.inputs import Input
from wg.vocode.noise import Noise
from wg.vocode.sinks import Sink

STEP = 16  # frames read and handed on at a time: how long a pipe waits beyond its block


class Line:
    """One utterance on its way out: the audio of its own frames, denoised, cut to its samples."""

    def __init__(self, item: Input, voice: Voice, denoiser: Denoiser | None, sink: Sink) -> None:
        self.item, self.denoiser, self.sink = item, denoiser, sink
        hop = voice.config.upsample_stride
        self.left = None if item.frames is None else item.frames * hop
        self.ended = False

    def take(self, audio: Tensor, last: bool) -> None:
        """Audio (n,) of the stream; what a batch adds beyond this item's end is dropped."""
        if self.ended:
            return
        if self.left is not None:
            audio = audio[: self.left]
            self.left -= len(audio)
        self.ended = last or self.left == 0
        if not bool(torch.isfinite(audio).all()):
            raise UserError(
                f"the model's audio for {self.item.source} is not finite; use a smaller --sigma, "
                "and if that does not help, other weights: these have diverged."
            )
        if self.denoiser is not None:
            audio = self.denoiser.push(audio[None], last=self.ended)[0]
        samples = self.item.samples
        if samples is not None:
            audio = audio[: samples - self.sink.samples]
        self.sink.write(audio.numpy())


def speak(voice: Voice, lines: list[Line], sigma: float, seed: int) -> Iterator[int]:
    """One batch into its sinks; yields the samples of each step forward."""
    c = voice.config
    items = [line.item for line in lines]
    ends = [i.frames for i in items if i.frames is not None]
    stream = voice.stream(sigma, ends or None)
    per_frame = c.upsample_stride // c.n_group
    noises = [Noise(seed, i.name, c.n_group) for i in items]
    at = 0
    for mels in _aligned([i.pieces(i) for i in items], c.n_mels, voice.device):
        stop = at + mels.shape[2] * per_frame
        z = torch.stack([noise(at, stop) for noise in noises]).to(mels)
        last = stop == at
        at = stop
        with torch.inference_mode():
            audio = stream.push(mels, z, last).float().cpu()
        for line, heard in zip(lines, audio, strict=True):
            line.take(heard, last)
        yield audio.shape[1]


def _aligned(pieces: list[Iterator[Tensor]], n_mels: int, device: torch.device) -> Iterator[Tensor]:
    """Mels (B, n_mels, f) of utterances side by side, zeros after an end; empty at the very end."""
    waiting = [torch.zeros(n_mels, 0, device=device) for _ in pieces]
    over = [False] * len(pieces)
    while True:
        for b, source in enumerate(pieces):
            while not over[b] and waiting[b].shape[1] < STEP:
                piece = next(source, None)
                over[b] = piece is None
                if piece is not None:
                    waiting[b] = torch.cat([waiting[b], piece], dim=1)
        f = min(STEP, max(w.shape[1] for w in waiting))
        step = torch.zeros(len(pieces), n_mels, f, device=device)
        for b, w in enumerate(waiting):
            step[b, :, : min(f, w.shape[1])] = w[:, :f]
            waiting[b] = w[:, f:]
        yield step
        if f == 0:
            return
