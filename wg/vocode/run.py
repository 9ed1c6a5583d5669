"""Vocoding: inputs -> mels -> the model -> 16-bit audio, in bounded memory."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wg.console import console
from wg.errors import UserError
from wg.flow.denoiser import Denoiser, silence_from
from wg.vocode.backends import Device, Name, Voice, open_voice
from wg.vocode.inputs import STDIN, Input, Reading, Say, collect
from wg.vocode.ledger import Ledger
from wg.vocode.mels import Scale
from wg.vocode.sinks import PipeSink, Sink, WavSink
from wg.vocode.speak import STEP, Line, speak

_MUCH = 0.01  # share of clipped samples that deserves a word
BLOCK = 128  # mel frames: 1.5 s at 22,050 Hz


@dataclass(frozen=True)
class Vocoded:
    """One output. ``seconds`` of audio, made in ``took``; ``clipped`` share of its samples."""

    output: str
    seconds: float
    took: float
    clipped: float


def vocode(
    model: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    sigma: float | None = None,
    denoise: float = 0.0,
    seed: int = 0,
    batch: int = 1,
    block: int = BLOCK,
    device: Device = "auto",
    backend: Name = "torch",
    resample: bool = False,
    mel_scale: Scale = "auto",
    say: Say = print,
) -> list[Vocoded]:
    """Vocode recordings (copy-synthesis) and mels into ``out``; ``-`` is a pipe on either side.

    Each output is named like its input, is as long, and keeps its place below the folder that
    was given. z is drawn for each from ``seed`` and that name, so neither order nor company
    changes a result; memory does not grow with length. Every input is checked before the first
    is vocoded. Outputs that are there already, made the same way, are not made again.

    sigma    scale of the noise; None: the one that the model was trained with
    denoise  strength of :class:`wg.flow.denoiser.Denoiser`, 0 for none
    batch    utterances at a time (torch only; exported graphs take one)
    block    mel frames at a time

    Raises :class:`UserError` for what cannot work, before anything is written.
    """
    _check(sigma, denoise, batch)
    voice = open_voice(model, backend, device, block)
    sigma = voice.sigma if sigma is None else sigma
    piped = out == STDIN
    if piped and (len(inputs) != 1 or Path(inputs[0]).is_dir()):
        raise UserError("-o - writes one utterance to standard output: name exactly one input.")
    how = Reading(
        voice.mel,
        voice.device,
        STEP,
        resample,
        mel_scale,
        rate_assumed=any(a.startswith("sampling_rate") for a in voice.assumed),
    )
    found = collect(inputs, None if piped else out, how, say)
    ledger = None
    if not piped:
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file; -o names a folder to write to.")
        settings = {
            "weights": voice.weights, "model": asdict(voice.config), "mel": asdict(voice.mel),
            "sigma": sigma, "denoise": denoise, "seed": seed, "backend": backend, "block": block,
            "resample": resample, "mel_scale": mel_scale,
        }  # fmt: skip
        ledger = Ledger(out, settings)
        ledger.check(found)
    todo = [i for i in found if ledger is None or not ledger.has(i)]
    if len(todo) < len(found):
        say(f"{len(found) - len(todo)} of {len(found)} are in {out} already, made the same way")
    bias = None
    if denoise > 0:
        bias = silence_from(voice.stream(0.0, None), voice.config, voice.device).float().cpu()
    done: list[Vocoded] = []
    with _progress(todo, voice) as advance:
        for group in _groups(todo, batch if voice.batches else 1):
            sinks = [_sink(out, i, voice.mel.sampling_rate, ledger) for i in group]
            began = time.monotonic()
            with contextlib.ExitStack() as stack:
                lines = []
                for item, sink in zip(group, sinks, strict=True):
                    denoiser = Denoiser(bias, denoise) if bias is not None else None
                    lines.append(Line(item, voice, denoiser, stack.enter_context(sink)))
                for n in speak(voice, lines, sigma, seed):
                    advance(n)
            took = time.monotonic() - began
            for item, sink in zip(group, sinks, strict=True):
                seconds = sink.samples / voice.mel.sampling_rate
                done.append(Vocoded(item.name, seconds, took / len(group), sink.clipped))
                if ledger is not None:
                    ledger.finish(item, {"seconds": seconds, "clipped": sink.clipped})
                    say(f"{len(done)}/{len(todo)} {out / item.name}")
    loud = [row.output for row in done if row.clipped > _MUCH]
    if loud:
        more = f" and {len(loud) - 1} more" if len(loud) > 1 else ""
        say(
            f"{loud[0]}{more} lost over {_MUCH:.0%} of the samples to clipping: a smaller --sigma "
            "may help, better weights will."
        )
    if not piped and done:
        say(_table(done))
    return done


def _check(sigma: float | None, denoise: float, batch: int) -> None:
    if sigma is not None and not 0 <= sigma < float("inf"):
        raise UserError(f"--sigma {sigma} must be at least 0; 0.6 to 1 is usual.")
    if not 0 <= denoise < float("inf"):
        raise UserError(f"--denoise {denoise} must be at least 0; 0.01 to 0.1 is usual.")
    if batch < 1:
        raise UserError(f"--batch {batch} must be at least 1 utterance.")


def _groups(items: list[Input], size: int) -> Iterator[list[Input]]:
    """Batches of like length; what has no known length goes alone."""
    known = sorted((i for i in items if i.frames is not None), key=lambda i: i.frames or 0)
    for start in range(0, len(known), size):
        yield known[start : start + size]
    for item in items:
        if item.frames is None:
            yield [item]


def _sink(out: Path, item: Input, rate: int, ledger: Ledger | None) -> Sink:
    if ledger is None:
        if sys.stdout is None:
            raise UserError("standard output is closed; -o - writes raw PCM to it.")
        return PipeSink(sys.stdout.buffer)
    return WavSink(out / item.name, rate, lambda: ledger.begin(item))


@contextlib.contextmanager
def _progress(todo: list[Input], voice: Voice) -> Iterator[Any]:
    """A bar of seconds of audio on a terminal's stderr; what it yields counts samples."""
    from rich.console import Console
    from rich.progress import Progress

    shown = sys.stderr.isatty() and bool(todo)
    total = sum((i.samples or 0) for i in todo) / voice.mel.sampling_rate
    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as bar:
        task = bar.add_task(f"vocoding {len(todo)}", total=total or None)
        yield lambda samples: bar.advance(task, samples / voice.mel.sampling_rate)


def _table(rows: Sequence[Vocoded]) -> str:
    from rich.markup import escape
    from rich.table import Table

    table: Any = Table("file", "audio s", "x real time", "clipped")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        speed = f"{row.seconds / max(row.took, 1e-9):.2f}"
        table.add_row(escape(row.output), f"{row.seconds:.2f}", speed, f"{row.clipped:.4%}")
    out = console()
    with out.capture() as text:
        out.print(table)
    return text.get().rstrip("\n")
