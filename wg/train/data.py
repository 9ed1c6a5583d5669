"""Random training segments as a pure function of (seed, step)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from wg.audio.io import FULL_SCALE
from wg.audio.store import Store
from wg.errors import UserError
from wg.plan import Plan
from wg.train.held import Held
from wg.train.pool import Pool, loudest_first
from wg.train.settings import step_shape

# What log(max(x, 1e-5)) gives for silence: the mel of zero padding.
MEL_FLOOR = math.log(1e-5)
TRIES = 20  # crops drawn in place of a silent one; then the loudest of them is taken
# Streams of random numbers beside that of the crops, so that neither changes another. Never 0:
# numpy takes [seed, step] and [seed, step, 0, 0] for the same seed.
REDRAW, NOISE = 1, 2


def level_dbfs(audio: Tensor) -> float:
    """RMS level of audio (T,) in dBFS: 0 is a full-scale square wave, -inf digital silence."""
    power = float(audio.square().mean())
    return 10 * math.log10(power) if power > 0 else -math.inf


class SegmentStream(IterableDataset):
    """Batches (mel (B, n_mels, F), audio (B, T)) until the planned audio is used up.

    Batch k of a seed is always the same, whatever came before it, on however many ranks: that
    makes resuming exact and arms with the same seed paired. Segments start on a mel frame, all
    starts of all utterances being equally likely; a rank takes its share of each batch.

    With ``silence_db`` (dBFS) a segment whose RMS level, as it is trained on, is lower is drawn
    again. With ``plan.loudness``, only the loudest share of all starts is drawn from. With
    ``plan.dequantize`` = d, uniform noise of d steps of 16 bits in all, from -d/2 to d/2, is
    added to the audio; the mel stays that of the recording.

    With ``held``, batches lie on its device.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        hop_length: int,
        rank: int = 0,
        step: int = 0,
        samples_seen: int = 0,
        silence_db: float | None = None,
        held: Held | None = None,
    ) -> None:
        self.store, self.plan, self.hop = store, plan, hop_length
        self.source: Store | Held = store if held is None else held
        self.silence_db = silence_db
        self.rank, self.step, self.samples_seen = rank, step, samples_seen
        self.total = round(plan.base.audio_seconds * plan.base.sampling_rate)
        self.lengths = np.array([store.n_samples(i) for i in store.train])
        self._order: tuple[int, np.ndarray] | None = None  # (T, starts from the loudest on)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        # Loader workers take turns, in the order in which the loader asks them.
        turn, turns = (worker.id, worker.num_workers) if worker else (0, 1)
        step, samples, first = self.step, self.samples_seen, self.step
        while samples < self.total:
            T, B = step_shape(self.plan, samples / self.total)
            if (step - first) % turns == turn:
                yield self.batch(step, T, B, samples / self.total)
            step, samples = step + 1, samples + T * B

    def batch(self, step: int, T: int, B: int, progress: float = 1.0) -> tuple[Tensor, Tensor]:
        """This rank's share of the ``B`` segments of ``T`` samples of ``step``, which begins at
        ``progress``."""
        rng = np.random.default_rng([self.plan.base.seed, step])
        pool = self._pool(T, progress)
        picks = pool.draw(rng, B)
        share = B // self.plan.ranks.n
        mine = range(self.rank * share, (self.rank + 1) * share)
        pairs = [self._crop(int(picks[p]), step, p, pool, T) for p in mine]
        mels, audios = zip(*pairs, strict=True)
        audio = torch.stack(audios)
        d = self.plan.dequantize
        if d:
            audio = audio + torch.stack([self._noise(d, step, p, T) for p in mine]).to(audio.device)
        return torch.stack(mels), audio

    def _pool(self, T: int, progress: float) -> Pool:
        """What segments of ``T`` samples are drawn from at ``progress``."""
        starts = np.maximum((self.lengths - T) // self.hop, 0) + 1
        share = 1.0 if self.plan.loudness is None else self.plan.loudness(progress)
        if share >= 1:
            return Pool(starts)
        if self._order is None or self._order[0] != T:
            order = loudest_first(self.store, self.store.train, starts, T, self.hop)
            self._order = T, order
        return Pool(starts, self._order[1], share)

    def _crop(
        self, pick: int, step: int, position: int, pool: Pool, T: int
    ) -> tuple[Tensor, Tensor]:
        """Start number ``pick`` of the pool, or another when that one is silent."""

        def place(pick: int) -> tuple[int, int, int]:
            j, frame = pool.place(pick)
            return self.store.train[j], frame, T

        if self.silence_db is None:
            return self._segment(*place(pick))
        levels = {pick: self._level(*place(pick))}
        if levels[pick] < self.silence_db:
            # Of this position in this batch, whichever rank or worker makes it.
            rng = np.random.default_rng([self.plan.base.seed, step, REDRAW, position])
            for other in map(int, pool.draw(rng, TRIES)):
                levels[other] = self._level(*place(other))
                if levels[other] >= self.silence_db:
                    break
        return self._segment(*place(max(levels, key=levels.__getitem__)))

    def _noise(self, d: float, step: int, position: int, T: int) -> Tensor:
        rng = np.random.default_rng([self.plan.base.seed, step, NOISE, position])
        uniform = rng.random(T, dtype=np.float32) - np.float32(0.5)
        return torch.from_numpy(uniform) * (d / FULL_SCALE)

    def check_not_silent(self) -> None:
        """Errors: UserError when no training utterance holds a segment above ``silence_db``."""
        if self.silence_db is None:
            return
        loudest = -math.inf
        T, _ = step_shape(self.plan, 0.0)
        for i in self.store.train:
            n = self.store.n_samples(i)
            # Half overlapping segments: enough to know silence, and over after a few of speech.
            for frame in range(0, max((n - T) // self.hop, 0) + 1, max(T // self.hop // 2, 1)):
                loudest = max(loudest, self._level(i, frame, T))
                if loudest >= self.silence_db:
                    return
        raise UserError(
            f"all training audio is below data.silence_db={self.silence_db:g} dBFS, the loudest "
            f"segment has {loudest:.1f}: lower data.silence_db or set it to null"
        )

    def _level(self, i: int, frame: int, T: int) -> float:
        """Of a segment as it is trained on; from where it is stored, wherever it is held: the same
        on every device, and no wait for one."""
        return level_dbfs(self._audio(self.store, i, frame, T))

    def _segment(self, i: int, frame: int, T: int) -> tuple[Tensor, Tensor]:
        F = T // self.hop + 1
        mel = self.source.mel(i, frame, F)
        if mel.shape[1] < F:
            mel = torch.nn.functional.pad(mel, (0, F - mel.shape[1]), value=MEL_FLOOR)
        return mel, self._audio(self.source, i, frame, T)

    def _audio(self, source: Store | Held, i: int, frame: int, T: int) -> Tensor:
        """(T,), silence beyond the end of the utterance."""
        start = frame * self.hop
        audio = source.audio(i, start, min(start + T, self.store.n_samples(i)))
        return torch.nn.functional.pad(audio, (0, T - len(audio))) if len(audio) < T else audio


class SegmentData(L.LightningDataModule):
    """The training stream with its position, which checkpoints carry."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        hop_length: int,
        workers: int = 0,
        pin_memory: bool = False,
        silence_db: float | None = None,
    ) -> None:
        """Errors: UserError when all training audio is below ``silence_db``."""
        super().__init__()
        self.store, self.plan, self.hop, self.workers = store, plan, hop_length, workers
        self.silence_db = silence_db
        self.pin_memory = pin_memory
        self.held: Held | None = None
        self.step = 0
        self.samples_seen = 0
        SegmentStream(store, plan, hop_length, silence_db=silence_db).check_not_silent()

    def hold(self, device: torch.device) -> None:
        """Where the plan says so, keep the training corpus in the memory of ``device`` from now
        on. Errors: UserError when it does not fit."""
        if self.plan.corpus == "held":
            self.held = Held(self.store, device)

    def stream(self, rank: int = 0, held: Held | None = None) -> SegmentStream:
        """The training segments of ``rank``, from where training stands."""
        return SegmentStream(
            self.store,
            self.plan,
            self.hop,
            rank,
            self.step,
            self.samples_seen,
            self.silence_db,
            held,
        )

    def train_dataloader(self) -> DataLoader:
        rank = self.trainer.global_rank if self.trainer is not None else 0
        workers = self.workers if self.held is None else 0
        return DataLoader(
            self.stream(rank, self.held),
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            # Only for a run on the GPU: pinning would open a context on it for any other. What is
            # held there already is nothing to pin.
            pin_memory=self.pin_memory and self.held is None,
        )

    def advance(self, samples: int) -> None:
        self.step += 1
        self.samples_seen += samples

    @property
    def audio_seconds(self) -> float:
        return self.samples_seen / self.plan.base.sampling_rate

    @property
    def progress(self) -> float:
        """Share of the planned audio seen, in [0, 1]."""
        return min(self.audio_seconds / self.plan.base.audio_seconds, 1.0)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "samples_seen": self.samples_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.step = state_dict["step"]
        self.samples_seen = state_dict["samples_seen"]
