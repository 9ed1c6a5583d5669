"""The store: a corpus's audio and mels, decoded once, memory-mapped ever after.

One folder per (corpus digest, sampling rate, MelConfig) in the cache:

    audio.i16    int16 samples of all utterances, back to back
    mel.f32      float32 frames (F, n_mels) of all utterances, back to back
    index.json   ids, splits, lengths, file sizes, and a SHA-256 of itself

The folder appears by one rename, so it is whole or absent, also with several processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from wg.audio.cache import default_cache_dir
from wg.audio.corpus import Corpus, Utterance
from wg.audio.io import FULL_SCALE, read_audio, to_int16
from wg.audio.mel import MelConfig, MelSpectrogram
from wg.errors import UserError

__all__ = ["Store", "default_cache_dir"]

FORMAT = 1  # raise it when the meaning of the files changes
BATCH_SAMPLES = 2_000_000  # padded samples per batch of mels: some 100 MB of spectra
PROGRESS_AFTER = 2.0  # seconds of work before a bar is worth showing
ABANDONED_AFTER = 24 * 3600.0  # seconds after which an unfinished build is litter
ATTEMPTS = 3


class Store:
    """Audio and mels of one corpus, by utterance number. Open it with :meth:`prepare`.

    ``ids[i]`` names utterance i; ``train`` and ``held_out`` list numbers, in the corpus's
    order. Safe to fork and to pickle: a copy maps the same files.
    """

    def __init__(self, path: Path) -> None:
        """Map a finished store. Errors: ValueError when it is absent, truncated or corrupt."""
        index = _read_index(path)
        self.path = path
        self.mel_config = MelConfig(**index["mel"])
        self.sampling_rate = self.mel_config.sampling_rate
        self.ids: list[str] = index["ids"]
        splits: list[str] = index["splits"]
        self.train = [i for i, split in enumerate(splits) if split == "train"]
        self.held_out = [i for i, split in enumerate(splits) if split == "held_out"]
        lengths = np.array(index["n_samples"], dtype=np.int64)
        self._samples = _offsets(lengths)
        self._frames = _offsets(1 + lengths // self.mel_config.hop_length)
        shape = (int(self._frames[-1]), self.mel_config.n_mels)
        self._audio = np.memmap(path / "audio.i16", dtype="<i2", mode="r")
        self._mel = np.memmap(path / "mel.f32", dtype="<f4", mode="r", shape=shape)

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        # A pickled memmap would carry its whole content to every data worker.
        return Store, (self.path,)

    def __len__(self) -> int:
        return len(self.ids)

    def n_samples(self, i: int) -> int:
        """Samples of utterance i."""
        return int(self._samples[i + 1] - self._samples[i])

    def n_frames(self, i: int) -> int:
        """Mel frames of utterance i: 1 + n_samples // hop_length."""
        return int(self._frames[i + 1] - self._frames[i])

    def audio(self, i: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Samples [start, stop) of utterance i -> float32 (T,) in [-1, 1)."""
        first, last = int(self._samples[i]), int(self._samples[i + 1])
        stop = last - first if stop is None else min(stop, last - first)
        samples = self._audio[first + start : first + stop]
        return torch.from_numpy(samples.astype(np.float32)) / FULL_SCALE

    def mel(self, i: int, first_frame: int = 0, n_frames: int | None = None) -> Tensor:
        """Frames of the whole utterance's mel -> float32 (n_mels, F), in nats.

        Frame f is centred on sample f * hop_length. Fewer frames than asked for come back
        only at the end of the utterance.
        """
        first, last = int(self._frames[i]), int(self._frames[i + 1])
        stop = last if n_frames is None else min(first + first_frame + n_frames, last)
        frames = np.array(self._mel[first + first_frame : stop])
        return torch.from_numpy(frames).T.contiguous()

    @classmethod
    def prepare(
        cls,
        corpus: Corpus,
        mel: MelConfig,
        cache_dir: Path | None = None,
        progress: bool = True,
    ) -> Store:
        """Open the corpus's store, building it when absent or damaged.

        Several processes may do so at once: each builds aside, one rename wins.
        ``progress`` allows a bar on a terminal's stderr once the work takes a while.

        Errors: UserError when audio cannot be read or the cache cannot be written.
        """
        if mel.sampling_rate != corpus.sampling_rate:
            raise UserError(
                f"mel.sampling_rate={mel.sampling_rate} differs from the corpus's "
                f"{corpus.sampling_rate} Hz: leave mel.sampling_rate out of the config"
            )
        cache = (default_cache_dir() if cache_dir is None else Path(cache_dir)) / "store"
        final = cache / _key(corpus, mel)
        with contextlib.suppress(ValueError):
            return cls(final)
        try:
            _remove_litter(cache)
            temporary = cache / f".build-{uuid.uuid4().hex}"
            temporary.mkdir(parents=True)
            try:
                _build(temporary, corpus, mel, progress)
                _publish(temporary, final)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return cls(final)
        except OSError as error:
            raise UserError(
                f"the data cache {cache} cannot be written ({error.strerror}): "
                "set WG_CACHE_DIR to a folder with room"
            ) from error


def _key(corpus: Corpus, mel: MelConfig) -> str:
    # Whether resampling was allowed need not be in the key: bytes and rate determine the audio.
    parts = [FORMAT, corpus.digest, dataclasses.asdict(mel)]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{corpus.name}-{digest[:16]}".replace(os.sep, "_")


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _read_index(path: Path) -> dict[str, Any]:
    """The index of a whole store. Errors: ValueError when anything about it is wrong."""
    try:
        index: dict[str, Any] = json.loads((path / "index.json").read_text())
        stated = index.pop("sha256", None)
        whole = stated == _hash(index) and all(
            (path / name).stat().st_size == size for name, size in index["bytes"].items()
        )
    except (OSError, AttributeError) as error:
        raise ValueError(f"no store at {path}") from error
    if not whole:
        raise ValueError(f"store {path} is truncated or corrupt")
    return index


def _build(folder: Path, corpus: Corpus, mel: MelConfig, progress: bool) -> None:
    utterances = [*corpus.train, *corpus.held_out]
    lengths = np.array([u.n_samples for u in utterances], dtype=np.int64)
    samples = _offsets(lengths)
    frames = _offsets(1 + lengths // mel.hop_length)
    audio_map = _new_map(folder / "audio.i16", "<i2", (int(samples[-1]),))
    mel_map = _new_map(folder / "mel.f32", "<f4", (int(frames[-1]), mel.n_mels))
    spectrogram = MelSpectrogram(mel)
    with _Bar(len(utterances), progress) as bar, torch.inference_mode():
        for batch in _batches(lengths):
            clips = []
            for i in batch:
                pcm = _read(utterances[i], corpus)
                audio_map[samples[i] : samples[i + 1]] = pcm
                clips.append(torch.from_numpy(pcm.astype(np.float32)) / FULL_SCALE)
            for i, frame_major in zip(batch, spectrogram.batch(clips), strict=True):
                mel_map[frames[i] : frames[i + 1]] = frame_major.T.numpy()
            bar.advance(len(batch))
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
        json.dump({**body, "sha256": _hash(body)}, file)
    for path in [*folder.iterdir(), folder]:
        _fsync(path)


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


def _publish(temporary: Path, final: Path) -> None:
    """Rename a finished build into place; a whole store that is there already stays."""
    for _ in range(ATTEMPTS):
        try:
            os.rename(temporary, final)
            _fsync(final.parent)
            return
        except OSError:
            if not final.is_dir():
                raise
        with contextlib.suppress(ValueError):
            _read_index(final)
            return  # another process was first
        # What is there is damaged. Move it aside in one step: it may be someone's mapping.
        aside = final.with_name(f".build-{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(final, aside)
        shutil.rmtree(aside, ignore_errors=True)


def _remove_litter(cache: Path) -> None:
    """Remove builds that a killed process left behind long ago."""
    for path in cache.glob(".build-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                shutil.rmtree(path, ignore_errors=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Bar:
    """A progress bar on stderr that appears only when the work takes a while."""

    def __init__(self, total: int, wanted: bool) -> None:
        self.total, self.done = total, 0
        self.wanted = wanted and sys.stderr.isatty()
        self.started = time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> _Bar:
        return self

    def advance(self, n: int) -> None:
        self.done += n
        late = time.monotonic() - self.started > PROGRESS_AFTER
        if self.bar is None and self.wanted and late:
            self.bar = Progress(console=Console(stderr=True), transient=True)
            self.bar.start()
            self.bar.add_task("computing mel spectrograms", total=self.total)
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=self.done)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
