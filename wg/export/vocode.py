"""Copy-synthesis: recorded speech -> its mel -> the model -> speech again, as 16-bit WAV."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from wg.audio.corpus import SUFFIXES
from wg.audio.io import audio_info, read_audio, write_wav
from wg.audio.mel import MelConfig, MelSpectrogram
from wg.console import console
from wg.errors import UserError, nearest
from wg.flow import WaveGlow
from wg.flow.weights import load_model

Device = Literal["auto", "cpu", "cuda"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Vocoded:
    """One file that was written. ``seconds`` of audio; ``clipped`` share of samples in [0, 1]."""

    output: Path
    seconds: float
    took: float
    clipped: float


def vocode(
    model_dir: Path,
    inputs: Sequence[Path],
    out_dir: Path,
    *,
    sigma: float = 1.0,
    seed: int = 0,
    device: Device = "auto",
    resample: bool = False,
    say: Say = print,
) -> list[Path]:
    """Vocode WAV, FLAC and Ogg files, or all of them in folders; returns the files written.

    Each output is named like its input, is as long, and keeps its place below the folder that
    was given. z is drawn for each file from ``seed`` and the name, so neither order nor company
    changes a result. Every input is checked before the first one is vocoded.

    Raises :class:`UserError` for inputs that are missing, not audio, of another sampling rate
    (without ``resample``), for folders without audio, and for outputs that would collide.
    """
    model, meta = load_model(model_dir)
    mel_config = MelConfig(**meta["mel"])
    jobs = _plan(inputs, out_dir, say)
    for source in jobs.values():
        _check_rate(source, mel_config.sampling_rate, resample)
    where = _device(device)
    model = model.remove_weight_norm().to(where).eval()
    spectrogram = MelSpectrogram(mel_config).to(where)
    done = []
    for n, (name, source) in enumerate(jobs.items(), start=1):
        audio = torch.from_numpy(read_audio(source, mel_config.sampling_rate, resample))
        began = time.monotonic()
        # Drawn on the CPU: a GPU's generator gives other numbers for the same seed.
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
        output = _synthesize(model, spectrogram, audio.to(where), sigma, generator)
        took = time.monotonic() - began
        path = out_dir / name
        clipped = write_wav(path, output.numpy(), mel_config.sampling_rate)
        done.append(Vocoded(path, len(audio) / mel_config.sampling_rate, took, clipped))
        say(f"{n}/{len(jobs)} {path}")
    say(_table(done))
    return [d.output for d in done]


@torch.inference_mode()
def _synthesize(
    model: WaveGlow,
    spectrogram: MelSpectrogram,
    audio: torch.Tensor,
    sigma: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Audio (T,) -> audio (T,) on the CPU; copying it there waits for a GPU to finish."""
    mel = spectrogram(audio[None])
    z = model.noise(1, mel.shape[2], generator).to(mel)
    return model.infer(mel, sigma, z=z)[0, : len(audio)].float().cpu()


def _plan(inputs: Sequence[Path], out_dir: Path, say: Say) -> dict[str, Path]:
    """Output name (relative to ``out_dir``) -> input file."""
    if not inputs:
        raise UserError("nothing to vocode: name WAV, FLAC or Ogg files, or folders of them.")
    jobs: dict[str, Path] = {}
    for given in inputs:
        for source, below in _files(given, out_dir, say):
            name = str(below.with_suffix(".wav"))
            if name in jobs:
                raise UserError(
                    f"{jobs[name]} and {source} would both be written to {out_dir / name}; vocode "
                    "them into separate folders."
                )
            if (out_dir / name).resolve() == source.resolve():
                raise UserError(
                    f"{source} would be overwritten by its own copy; name another output folder."
                )
            jobs[name] = source
    return jobs


def _files(given: Path, out_dir: Path, say: Say) -> list[tuple[Path, Path]]:
    """(file, its path below what was given) for one input."""
    if given.is_file():
        return [(given, Path(given.name))]
    if not given.is_dir():
        raise UserError(f"{given} does not exist; name WAV, FLAC or Ogg files, or folders of them.")
    if out_dir.resolve().is_relative_to(given.resolve()):
        raise UserError(
            f"the output folder {out_dir} lies inside the input folder {given}, so a second run "
            "would vocode its own output; name one outside."
        )
    everything = [p for p in sorted(given.rglob("*")) if p.is_file()]
    found = [p for p in everything if p.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"{given} holds no audio: no .wav, .flac or .ogg file in it or below it.")
    if len(found) < len(everything):
        say(f"{given}: left out {len(everything) - len(found)} files that are not WAV, FLAC or Ogg")
    return [(p, p.relative_to(given)) for p in found]


def _check_rate(source: Path, wanted: int, resample: bool) -> None:
    _, rate = audio_info(source)
    if rate != wanted and not resample:
        raise UserError(
            f"{source} is sampled at {rate} Hz and the model was trained at {wanted} Hz; convert "
            "the file, or add --resample."
        )


def _device(device: str) -> torch.device:
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device={device} is unknown: {nearest(device, ('auto', 'cpu', 'cuda'))}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but no CUDA GPU is visible; use device=cpu or device=auto.")
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")


def _table(rows: Sequence[Vocoded]) -> str:
    from rich.table import Table

    table: Any = Table("file", "audio s", "x real time", "clipped")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        speed = f"{row.seconds / max(row.took, 1e-9):.2f}"
        table.add_row(str(row.output), f"{row.seconds:.2f}", speed, f"{row.clipped:.4%}")
    out = console()
    with out.capture() as text:
        out.print(table)
    return text.get().rstrip("\n")
