"""The store: a corpus's audio and mels, decoded once, memory-mapped ever after.

One folder per (corpus digest, sampling rate, MelConfig, device of the mels) in the cache:

    audio.i16    int16 samples of all utterances, back to back
    mel.f32      float32 frames (F, n_mels) of all utterances, back to back
    index.json   ids, splits, lengths, file sizes, and a SHA-256 of itself

The folder appears by one rename, so it is whole or absent, also with several processes.
``wg.audio.fill`` writes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wg.audio.cache import default_cache_dir
from wg.audio.config import MelDevice
from wg.audio.corpus import Corpus
from wg.audio.fill import FORMAT, body_hash, fill, offsets
from wg.audio.io import FULL_SCALE
from wg.audio.mel import MelConfig
from wg.errors import UserError
from wg.files import fsync_dir

__all__ = ["Store", "default_cache_dir"]

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
        self._samples = offsets(lengths)
        self._frames = offsets(1 + lengths // self.mel_config.hop_length)
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
        device: MelDevice = "cpu",
    ) -> Store:
        """Open the corpus's store, building it when absent or damaged.

        Several processes may ask at once: one builds, aside, and the others wait for it; where
        files cannot be locked each builds, and one rename wins.
        ``progress`` allows a bar on a terminal's stderr once the work takes a while.
        ``device`` computes the mels; a store that is there already needs no GPU.

        Errors: UserError when audio cannot be read, a held-out clip is trained on as well
        (``wg.audio.split``), there is no such device, or the cache cannot be written.
        """
        if mel.sampling_rate != corpus.sampling_rate:
            raise UserError(
                f"mel.sampling_rate={mel.sampling_rate} differs from the corpus's "
                f"{corpus.sampling_rate} Hz: leave mel.sampling_rate out of the config"
            )
        cache = (default_cache_dir() if cache_dir is None else Path(cache_dir)) / "store"
        final = cache / _key(corpus, mel, device)
        with contextlib.suppress(ValueError):
            return cls(final)
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "data.mel_device=cuda, but this PyTorch sees no GPU: set data.mel_device=cpu or "
                "see `wg doctor`"
            )
        try:
            _remove_litter(cache)
            cache.mkdir(parents=True, exist_ok=True)
            with _alone(cache / f".lock-{final.name}"):
                with contextlib.suppress(ValueError):
                    return cls(final)  # of whom we waited for
                temporary = cache / f".build-{uuid.uuid4().hex}"
                temporary.mkdir()
                try:
                    fill(temporary, corpus, mel, progress, device)
                    _publish(temporary, final)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
                return cls(final)
        except OSError as error:
            raise UserError(
                f"the data cache {cache} cannot be written ({error.strerror}): "
                "set WG_CACHE_DIR to a folder with room"
            ) from error


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock file, which goes away with who made it."""
    with path.open("w") as lock:
        with contextlib.suppress(OSError):  # of file systems that have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _key(corpus: Corpus, mel: MelConfig, device: MelDevice) -> str:
    # Whether resampling was allowed need not be in the key: bytes and rate determine the audio.
    # Another device rounds differently, so its mels are others.
    parts: list[Any] = [FORMAT, corpus.digest, dataclasses.asdict(mel)]
    parts += [device] if device != "cpu" else []
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{corpus.name}-{digest[:16]}".replace(os.sep, "_")


def _read_index(path: Path) -> dict[str, Any]:
    """The index of a whole store. Errors: ValueError when anything about it is wrong."""
    try:
        index: dict[str, Any] = json.loads((path / "index.json").read_text())
        stated = index.pop("sha256", None)
        whole = stated == body_hash(index) and all(
            (path / name).stat().st_size == size for name, size in index["bytes"].items()
        )
    except (OSError, AttributeError) as error:
        raise ValueError(f"no store at {path}") from error
    if not whole:
        raise ValueError(f"store {path} is truncated or corrupt")
    return index


def _publish(temporary: Path, final: Path) -> None:
    """Rename a finished build into place; a whole store that is there already stays."""
    for _ in range(ATTEMPTS):
        try:
            os.rename(temporary, final)
            fsync_dir(final.parent)
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
