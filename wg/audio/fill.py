"""Filling a store: audio decoded, checked and written once, with its mels (``wg.audio.store``)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wg.audio.bar import LateBar
from wg.audio.config import MelDevice
from wg.audio.corpus import Corpus, Utterance
from wg.audio.io import FULL_SCALE, read_audio, to_int16
from wg.audio.mel import MelConfig, MelSpectrogram
from wg.audio.split import refuse_leaks
from wg.errors import UserError

FORMAT = 1  # raise it when the meaning of the files changes
BATCH_SAMPLES = 2_000_000  # padded samples per batch of mels: some 100 MB of spectra


def fill(
    folder: Path, corpus: Corpus, mel: MelConfig, progress: bool, device: MelDevice = "cpu"
) -> None:
    """Write a store's files into an empty folder, and through to the disk.

    Errors: UserError when audio cannot be read or leaks into the held-out split; OSError when
    the disk is full.
    """
    utterances = [*corpus.train, *corpus.held_out]
    lengths = np.array([u.n_samples for u in utterances], dtype=np.int64)
    samples = offsets(lengths)
    frames = offsets(1 + lengths // mel.hop_length)
    audio_map = _new_map(folder / "audio.i16", "<i2", (int(samples[-1]),))
    mel_map = _new_map(folder / "mel.f32", "<f4", (int(frames[-1]), mel.n_mels))
    spectrogram = MelSpectrogram(mel).to(device)
    bar = LateBar(len(utterances), "computing mel spectrograms", progress)
    with bar, torch.inference_mode(), _full_precision():
        for batch in _batches(lengths):
            clips = []
            for i in batch:
                pcm = _read(utterances[i], corpus)
                audio_map[samples[i] : samples[i + 1]] = pcm
                clips.append((torch.from_numpy(pcm.astype(np.float32)) / FULL_SCALE).to(device))
            for i, frame_major in zip(batch, spectrogram.batch(clips), strict=True):
                mel_map[frames[i] : frames[i + 1]] = frame_major.T.cpu().numpy()
            bar.advance(len(batch))
    refuse_leaks(
        [u.id for u in utterances],
        [u.path for u in utterances],
        {u.id for u in corpus.held_out},
        lengths.tolist(),
        lambda i: audio_map[samples[i] : samples[i + 1]],
    )
    audio_map.flush()
    mel_map.flush()
    body: dict[str, Any] = {
        "format": FORMAT,
        "corpus": corpus.name,
        "corpus_digest": corpus.digest,
        "mel": dataclasses.asdict(mel),
        "ids": [u.id for u in utterances],
        "splits": [u.split for u in utterances],
        "n_samples": lengths.tolist(),
        "bytes": {name: (folder / name).stat().st_size for name in ("audio.i16", "mel.f32")},
    }
    with (folder / "index.json").open("w") as file:
        json.dump({**body, "sha256": body_hash(body)}, file)
    for path in [*folder.iterdir(), folder]:
        _fsync(path)


def offsets(lengths: np.ndarray) -> np.ndarray:
    """Where each of several things laid end to end starts, and where the last ends."""
    return np.concatenate([[0], np.cumsum(lengths)])


def body_hash(body: dict[str, Any]) -> str:
    """SHA-256 of an index without its own hash."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


@contextmanager
def _full_precision() -> Iterator[None]:
    """A recipe's TF32 must not reach the mels, which all arms share."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _new_map(path: Path, dtype: str, shape: tuple[int, ...]) -> np.memmap:
    with path.open("wb") as file:
        # Reserved now, a full disk is an OSError; found out while writing, it is a SIGBUS.
        os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype, "r+", shape=shape)


def _read(utterance: Utterance, corpus: Corpus) -> np.ndarray:
    audio = read_audio(utterance.path, corpus.sampling_rate, corpus.resample)
    if len(audio) != utterance.n_samples:
        raise UserError(
            f"{utterance.path} decodes to {len(audio)} samples where its header says "
            f"{utterance.n_samples}: convert it again or remove it"
        )
    return to_int16(audio)[0]


def _batches(lengths: np.ndarray) -> Iterator[list[int]]:
    """Utterance numbers in groups of like length, each within BATCH_SAMPLES when padded."""
    batch: list[int] = []
    for i in np.argsort(lengths, kind="stable").tolist():
        if batch and (len(batch) + 1) * int(lengths[i]) > BATCH_SAMPLES:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
