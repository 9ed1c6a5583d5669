"""What is to be vocoded: recordings, mels, folders of them, or a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import soundfile
import torch
from torch import Tensor

from wg.audio import layout
from wg.audio.io import FULL_SCALE, audio_info, check_samples, is_cut, resampled_length
from wg.audio.mel import MelConfig
from wg.audio.mel_stream import MelStream
from wg.audio.names import check_name, shown
from wg.errors import UserError
from wg.vocode import mels

Say = Callable[[str], None]
STDIN = Path("-")
_AUDIO = layout.SUFFIXES


@dataclass(frozen=True)
class Reading:
    """How inputs are read. ``piece``: mel frames read at a time; ``rate_assumed``: the model's
    checkpoint did not tell its sampling rate."""

    mel: MelConfig
    device: torch.device
    piece: int
    resample: bool = False
    scale: mels.Scale = "auto"
    rate_assumed: bool = False


@dataclass
class Input:
    """One utterance to be. ``name`` of its output, relative to the output folder.

    samples, frames  of the output; a pipe's are None until its end has been read
    pieces           mels (n_mels, f) in order
    """

    name: str
    source: Path
    samples: int | None
    frames: int | None
    pieces: Callable[[Input], Iterator[Tensor]]


def collect(given: Sequence[Path], out: Path | None, how: Reading, say: Say) -> list[Input]:
    """Every input, checked as far as headers tell, before the first one is vocoded.

    out  the output folder, or None when the audio goes to a pipe

    Raises :class:`UserError` for inputs that are missing, neither audio nor mel, or of another
    sampling rate (without ``resample``), for folders that hold neither, and for outputs that
    would collide or overwrite an input.
    """
    if not given:
        raise UserError("nothing to vocode: name recordings, mels, or folders of them, or - .")
    found: dict[str, Input] = {}
    for path in given:
        for source, below in _files(path, out, say):
            name = str(below.with_suffix(".wav"))
            if name in found:
                raise UserError(
                    f"{found[name].source} and {source} would both be written to {name}; vocode "
                    "them into separate folders."
                )
            check_name(source)
            found[name] = _input(name, source, how)
            if source.suffix.lower() in _AUDIO and is_cut(source):
                say(f"{source} is shorter than its header says, as if copying had been cut off")
    if out is not None:
        sources = {i.source.resolve() for i in found.values()}
        for name in found:
            if (out / name).resolve() in sources:
                raise UserError(
                    f"{out / name} is an input and would be overwritten; name another output "
                    "folder."
                )
    return list(found.values())


def _files(given: Path, out: Path | None, say: Say) -> list[tuple[Path, Path]]:
    """(file, its path below what was given) for one input."""
    if given == STDIN:
        return [(given, Path("stdin"))]
    if given.is_file():
        if given.suffix.lower() not in _AUDIO | mels.SUFFIXES:
            raise UserError(
                f"{given} is neither a recording ({_listed(_AUDIO)}) nor a mel "
                f"({_listed(mels.SUFFIXES)}); convert it first."
            )
        return [(given, Path(given.name))]
    if given.exists() and not given.is_dir():
        raise UserError(f"{given} is no regular file; - reads raw PCM from standard input.")
    if not given.is_dir():
        raise UserError(f"{given} does not exist; name recordings, mels, or folders of them.")
    if out is not None and out.resolve().is_relative_to(given.resolve()):
        raise UserError(
            f"the output folder {out} lies inside the input folder {given}, so a second run "
            "would vocode its own output; name one outside."
        )
    listing = layout.audio_files(given, _AUDIO | mels.SUFFIXES)
    if not listing.found:
        raise UserError(
            f"{given} holds nothing to vocode: no {_listed(_AUDIO | mels.SUFFIXES)} file in it or "
            "below it."
        )
    for left, why in (
        (listing.hidden, "hidden"),
        (listing.foreign, "neither recordings nor mels"),
        (listing.closed, "folders that are links or may not be read"),
    ):
        if left:
            say(f"{given}: left out {len(left)}: {why}, such as {shown(left[0])}")
    return [(p, p.relative_to(given)) for p in listing.found]


def _listed(suffixes: set[str]) -> str:
    return ", ".join(sorted(suffixes))


def _input(name: str, source: Path, how: Reading) -> Input:
    hop = how.mel.hop_length
    if source == STDIN:
        return Input(name, source, None, None, lambda i: _of_audio(_stdin(i), how))
    if source.suffix.lower() in mels.SUFFIXES:
        # Read once now, to know that it can be; a mel is small beside its audio.
        frames = mels.read_mel(source, how.mel.n_mels, how.scale).shape[1]
        return Input(name, source, frames * hop, frames, lambda _: _of_mel(source, how))
    n_samples, rate = audio_info(source)
    if rate != how.mel.sampling_rate and not how.resample:
        raise UserError(
            f"{source} is sampled at {rate} Hz and the model was trained at "
            f"{how.mel.sampling_rate} Hz{_if_assumed(how)}; convert the file, or add --resample."
        )
    T = resampled_length(n_samples, rate, how.mel.sampling_rate)
    return Input(
        name, source, T, how.mel.n_frames(T), lambda _: _of_audio(_blocks(source, T, how), how)
    )


def _if_assumed(how: Reading) -> str:
    if not how.rate_assumed:
        return ""
    return " (assumed: its checkpoint does not say, and wg convert --sampling-rate sets it)"


# -- pieces of mel --------------------------------------------------------------------------


def _of_mel(source: Path, how: Reading) -> Iterator[Tensor]:
    mel = mels.read_mel(source, how.mel.n_mels, how.scale).to(how.device)
    yield from mel.split(how.piece, dim=1)


def _of_audio(audio: Iterator[np.ndarray], how: Reading) -> Iterator[Tensor]:
    """Audio in whatever pieces -> mels of it, computed on pieces of one size: the same
    numbers whoever brings the audio."""
    stream = MelStream(how.mel, how.device)
    size = how.piece * how.mel.hop_length
    waiting = np.zeros(0, np.float32)
    for block in audio:
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= size:
            yield stream.push(torch.from_numpy(waiting[:size]).to(how.device))
            waiting = waiting[size:]
    yield stream.push(torch.from_numpy(waiting).to(how.device), last=True)


def _blocks(source: Path, n_samples: int, how: Reading) -> Iterator[np.ndarray]:
    """A recording as mono float32 blocks at the model's rate, ``n_samples`` in all."""
    left = n_samples
    try:
        with soundfile.SoundFile(str(source)) as file:
            convert = _converter(file.samplerate, how.mel.sampling_rate)
            while left > 0:
                block = file.read(1 << 18, dtype="float32", always_2d=True)
                ended = len(block) == 0
                mono = block.mean(axis=1)
                check_samples(source, mono)
                mono = convert(mono, ended)[:left]
                if ended and len(mono) < left:  # the converter may fall short by rounding
                    mono = np.pad(mono, (0, left - len(mono)))
                left -= len(mono)
                yield mono
    except soundfile.LibsndfileError as e:
        raise UserError(
            f"{source} cannot be decoded ({e.error_string.rstrip('.')}): remove it or copy it again"
        ) from None


def _converter(rate: int, wanted: int) -> Callable[[np.ndarray, bool], np.ndarray]:
    if rate == wanted:
        return lambda block, _: block
    import soxr

    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
    return lambda block, ended: stream.resample_chunk(block, last=ended)


def _stdin(item: Input) -> Iterator[np.ndarray]:
    """Raw 16-bit little-endian mono samples, as they come."""
    half, samples = b"", 0
    first = True
    if sys.stdin is None:
        raise UserError("standard input is closed; pipe raw 16-bit mono PCM into it.")
    pipe = cast(io.BufferedReader, sys.stdin.buffer)  # read1: what there is, without waiting
    while data := pipe.read1(1 << 16):
        if first and data[:4] in (b"RIFF", b"fLaC", b"OggS"):
            raise UserError(
                "standard input is an audio file, not raw 16-bit mono PCM; name the file itself, "
                "or decode it (ffmpeg -i FILE -f s16le -ac 1 -ar RATE -)."
            )
        first = False
        data = half + data
        whole = len(data) // 2 * 2
        half = data[whole:]
        samples += whole // 2
        yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(FULL_SCALE)
    if half or not samples:
        raise UserError(
            "standard input must be raw 16-bit mono PCM, and it "
            + ("ended in the middle of a sample." if half else "was empty.")
        )
    item.samples = samples
