"""A corpus looked over: every file decoded once, and what training would make of it."""

from __future__ import annotations

import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

from wg.audio.check.probe import Probe, probe
from wg.audio.config import ShortClips
from wg.audio.io import resampled_length
from wg.audio.layout import SUFFIXES, Layout, folder_layout, ljspeech_layout, missing_part
from wg.audio.names import kind_of
from wg.audio.split import hold_out, is_too_short, leaks
from wg.errors import UserError

FoundKind = Literal["ljspeech", "folder", "file"]


@dataclass(frozen=True)
class Expected:
    """Settings of the training to come, as in ``conf/data`` and ``conf/train.yaml``.

    ``sampling_rate`` in Hz, None for the commonest; ``segment_length`` in samples; ``f_max``,
    the mel's upper end, in Hz.
    """

    sampling_rate: int | None = None
    segment_length: int = 16000
    held_out: int | float = 0.05
    held_out_min_seconds: float = 0.0
    resample: bool = False
    short_clips: ShortClips = "error"
    f_max: float = 8000.0


@dataclass(frozen=True)
class Findings:
    """All there is to tell about a corpus; the judgement is :mod:`wg.audio.check.verdict`'s.

    ``files`` in the order of their ids. ``held_out``: ids, by the split rule over the files that
    can be read; ``no_split`` says why there is none. ``leaks``: pairs (held-out id, other id) of
    the same decoded audio.
    """

    path: str
    kind: FoundKind
    expected: Expected
    sampling_rate: int
    layout: Layout
    files: tuple[Probe, ...]
    held_out: tuple[str, ...] = ()
    no_split: str | None = None
    leaks: tuple[tuple[str, str], ...] = ()

    @property
    def readable(self) -> list[Probe]:
        return [f for f in self.files if f.error is None]

    @property
    def unreadable(self) -> list[Probe]:
        return [f for f in self.files if f.error is not None]

    @property
    def train(self) -> list[Probe]:
        held = set(self.held_out)
        return [f for f in self.readable if f.id not in held]

    def count(self, name: str) -> Counter:
        """How many readable files have each value of an attribute of :class:`Probe`."""
        return Counter(getattr(f, name) for f in self.readable)

    def length(self, file: Probe) -> int:
        """Samples of a file at the training rate."""
        return resampled_length(file.n_samples, file.rate, self.sampling_rate)

    def short(self) -> list[Probe]:
        """Training files shorter than a segment."""
        return [f for f in self.train if self.length(f) < self.expected.segment_length]

    def share(self, name: str) -> float:
        """A count of samples as a share of all readable audio, each file by its duration."""
        total = sum(f.seconds for f in self.readable)
        return sum(getattr(f, name) / f.rate for f in self.readable) / total if total else 0.0

    def clipped_share(self) -> float:
        """Share of all channels' samples that are at full scale."""
        total = sum(f.n_samples * f.channels for f in self.readable)
        return sum(f.clipped for f in self.readable) / total if total else 0.0

    def seconds(self) -> tuple[float, float, float, float]:
        """(total, shortest, median, longest) of the readable files, in seconds."""
        lengths = [f.seconds for f in self.readable] or [0.0]
        return sum(lengths), min(lengths), median(lengths), max(lengths)

    def duplicates(self, name: Literal["sha256", "content"]) -> list[list[str]]:
        """Groups of ids with the same bytes, or with the same decoded audio."""
        groups: dict[str, list[str]] = defaultdict(list)
        for f in self.readable:
            groups[getattr(f, name)].append(f.id)
        return sorted(group for group in groups.values() if len(group) > 1)


def recognise(path: Path) -> FoundKind:
    """What a path is: a file, LJSpeech's layout, or any folder.

    Errors: UserError when there is nothing, or it cannot be looked at.
    """
    kind = kind_of(path)
    if kind == "file":
        return "file"
    if kind != "folder":
        wrong = "is neither a file nor a folder" if kind else "does not exist"
        raise UserError(f"{path} {wrong}: name a folder of recordings, or one file")
    return "folder" if missing_part(path) else "ljspeech"


def inspect(
    path: Path,
    expected: Expected,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Findings:
    """Decode every file of a corpus once, a block of 10 s at a time, and say what is there.

    ``jobs`` threads [as many as there are cores, at most 4]; ``progress(done, total)`` counts
    files. Nothing is written. Ctrl-C ends it between two blocks.

    Errors: UserError when the path does not exist or holds no audio files.
    """
    kind = recognise(path)
    layout = _layout(path, kind)
    if not layout.files:
        others = f", only {len(layout.foreign)} of other kinds" if layout.foreign else ""
        if layout.closed:
            others += f", and {len(layout.closed)} folders in it are links or may not be read"
        raise UserError(
            f"{path} holds no {', '.join(sorted(SUFFIXES))} files{others}: name a folder of "
            "recordings, or convert them"
        )
    found = {}
    with closing(_probe_all(layout, jobs or min(4, os.cpu_count() or 1))) as probes:
        for done, one in enumerate(probes, start=1):
            found[one.id] = one
            if progress is not None:
                progress(done, len(layout.files))
    files = tuple(found[ident] for ident in layout.files)
    rates = Counter(f.rate for f in files if f.error is None)
    commonest = max(rates, key=lambda r: (rates[r], r), default=22050)
    rate = expected.sampling_rate or commonest
    findings = Findings(str(path), kind, expected, rate, layout, files)
    return findings if kind == "file" else _with_split(findings)


def _layout(path: Path, kind: FoundKind) -> Layout:
    if kind == "file":
        return Layout(path.parent, {path.name: path})
    return ljspeech_layout(path) if kind == "ljspeech" else folder_layout(path)


def _probe_all(layout: Layout, jobs: int) -> Generator[Probe, None, None]:
    """Probes as they are done. Decoding, hashing and numpy all let other threads run."""
    stop = threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(probe, i, path, stop) for i, path in layout.files.items()]
        try:
            for task in as_completed(tasks):
                yield task.result()
        finally:  # also after Ctrl-C, which must not wait for the rest
            stop.set()
            pool.shutdown(cancel_futures=True)


def _with_split(findings: Findings) -> Findings:
    readable, expected = findings.readable, findings.expected
    short = {
        f.id
        for f in readable
        if is_too_short(findings.length(f), findings.sampling_rate, expected.held_out_min_seconds)
    }
    files = {f.id: f.sha256 for f in readable}
    try:
        held_out = hold_out(files, expected.held_out, findings.path, short)
    except UserError as error:
        return replace(findings, no_split=str(error))
    pairs = leaks(((f.id, f.content) for f in readable), set(held_out))
    return replace(findings, held_out=tuple(held_out), leaks=tuple(pairs))
