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

from wg.audio.store import Store
from wg.plan import Plan
from wg.train.settings import step_shape

# What log(max(x, 1e-5)) gives for silence: the mel of zero padding.
MEL_FLOOR = math.log(1e-5)


class SegmentStream(IterableDataset):
    """Batches (mel (B, n_mels, F), audio (B, T)) until the planned audio is used up.

    Batch k of a seed is always the same, whatever came before it, on however many ranks: that
    makes resuming exact and arms with the same seed paired. Segments start on a mel frame, all
    starts of all utterances being equally likely; a rank takes its share of each batch.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        hop_length: int,
        rank: int = 0,
        step: int = 0,
        samples_seen: int = 0,
    ) -> None:
        self.store, self.plan, self.hop = store, plan, hop_length
        self.rank, self.step, self.samples_seen = rank, step, samples_seen
        self.total = round(plan.base.audio_seconds * plan.base.sampling_rate)
        self.lengths = np.array([store.n_samples(i) for i in store.train])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        # Loader workers take turns, in the order in which the loader asks them.
        turn, turns = (worker.id, worker.num_workers) if worker else (0, 1)
        step, samples, first = self.step, self.samples_seen, self.step
        while samples < self.total:
            T, B = step_shape(self.plan, samples / self.total)
            if (step - first) % turns == turn:
                yield self.batch(step, T, B)
            step, samples = step + 1, samples + T * B

    def batch(self, step: int, T: int, B: int) -> tuple[Tensor, Tensor]:
        """This rank's share of the ``B`` segments of ``T`` samples of ``step``."""
        rng = np.random.default_rng([self.plan.base.seed, step])
        starts = np.maximum((self.lengths - T) // self.hop, 0) + 1
        ends = np.cumsum(starts)
        picks = rng.integers(ends[-1], size=B)
        share = B // self.plan.ranks.n
        pairs = []
        for pick in picks[self.rank * share : (self.rank + 1) * share]:
            j = int(np.searchsorted(ends, pick, side="right"))
            frame = int(pick - (ends[j] - starts[j]))
            pairs.append(self._segment(self.store.train[j], frame, T))
        mels, audios = zip(*pairs, strict=True)
        return torch.stack(mels), torch.stack(audios)

    def _segment(self, i: int, frame: int, T: int) -> tuple[Tensor, Tensor]:
        start, F = frame * self.hop, T // self.hop + 1
        audio = self.store.audio(i, start, min(start + T, self.store.n_samples(i)))
        mel = self.store.mel(i, frame, F)
        if len(audio) < T:
            audio = torch.nn.functional.pad(audio, (0, T - len(audio)))
        if mel.shape[1] < F:
            mel = torch.nn.functional.pad(mel, (0, F - mel.shape[1]), value=MEL_FLOOR)
        return mel, audio


class SegmentData(L.LightningDataModule):
    """The training stream with its position, which checkpoints carry."""

    def __init__(
        self, store: Store, plan: Plan, hop_length: int, workers: int = 0, pin_memory: bool = False
    ) -> None:
        super().__init__()
        self.store, self.plan, self.hop, self.workers = store, plan, hop_length, workers
        self.pin_memory = pin_memory
        self.step = 0
        self.samples_seen = 0

    def train_dataloader(self) -> DataLoader:
        rank = self.trainer.global_rank if self.trainer is not None else 0
        stream = SegmentStream(self.store, self.plan, self.hop, rank, self.step, self.samples_seen)
        return DataLoader(
            stream,
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            # Only for a run on the GPU: pinning would open a context on it for any other.
            pin_memory=self.pin_memory,
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
