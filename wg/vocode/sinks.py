"""Where 16-bit audio goes: a WAV file that appears when it is whole, or a pipe."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import soundfile

from wg.audio.io import to_int16
from wg.errors import UserError


class Sink:
    """Takes float audio in pieces, clips it, and counts."""

    def __init__(self) -> None:
        self.samples = 0
        self._clipped = 0.0

    @property
    def clipped(self) -> float:
        """Share of samples beyond full scale, in [0, 1]."""
        return self._clipped / max(self.samples, 1)

    def write(self, audio: np.ndarray) -> None:
        """The next samples (n,) in [-1, 1]; clipped where they are not, never wrapped."""
        pcm, share = to_int16(audio)
        self.samples += len(pcm)
        self._clipped += share * len(pcm)
        if len(pcm):
            self._put(pcm)

    def _put(self, pcm: np.ndarray) -> None:
        raise NotImplementedError

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class WavSink(Sink):
    """A 16-bit PCM WAV file: written aside, renamed when all went well, else removed."""

    def __init__(
        self, path: Path, sampling_rate: int, opened: Callable[[], None] = lambda: None
    ) -> None:
        """``opened`` is called before the first byte is written."""
        super().__init__()
        self.path, self.rate, self.opened = path, sampling_rate, opened
        self._aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        self._file: soundfile.SoundFile | None = None

    def _open(self) -> soundfile.SoundFile:
        # When there is something to write: what is refused before leaves no trace.
        if self._file is None:
            self.opened()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = soundfile.SoundFile(
                str(self._aside), "w", self.rate, channels=1, format="WAV", subtype="PCM_16"
            )
        return self._file

    def _put(self, pcm: np.ndarray) -> None:
        try:
            self._open().write(pcm)
        except soundfile.LibsndfileError as e:
            raise UserError(
                f"{self.path} cannot be written ({e.error_string.rstrip('.')}): is there room?"
            ) from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        file = self._open() if kind is None else self._file
        if file is not None:
            file.close()
        if kind is None:
            os.replace(self._aside, self.path)
        else:
            self._aside.unlink(missing_ok=True)


class PipeSink(Sink):
    """Raw 16-bit little-endian mono samples, each piece at once."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__()
        self.pipe = pipe

    def _put(self, pcm: np.ndarray) -> None:
        self.pipe.write(pcm.astype("<i2").tobytes())
        self.pipe.flush()
