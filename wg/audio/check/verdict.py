"""The judgement: what would stop training, what deserves a look, and what mends it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from wg.audio.check.findings import Findings
from wg.audio.check.probe import Probe
from wg.audio.names import shown

Level = Literal["stop", "look"]

BITS_16 = {"PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW"}
LOSSLESS = {"PCM", "FLOAT", "DOUBLE", "ALAC"}  # how their subtypes begin
MUCH_SILENCE = 0.25  # of the audio; pauses of read speech are less
SOME_ZEROS = 0.01  # of the samples
DC = 0.005  # of full scale: 164 steps of 16 bits
SPREAD_DB = 20.0  # between the quietest and the loudest file that is not silent
LONG = 60.0  # seconds; a whole file is held out and scored at once
SCORED = 0.5  # seconds; PESQ and ESTOI have no answer for less
SHOWN = 3  # files that are named


@dataclass(frozen=True)
class Remark:
    """One sentence of the verdict. ``mend``: the setting or the act that settles it. ``files``:
    all that it is about."""

    level: Level
    name: str
    sentence: str
    mend: str
    files: tuple[str, ...] = ()

    def first_files(self) -> str:
        """The first few, and how many there are beside them."""
        more = len(self.files) - SHOWN
        return ", ".join(self.files[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def verdict(findings: Findings) -> list[Remark]:
    """Remarks on a corpus, those that would stop training first."""
    remarks = [*_files(findings), *_rates(findings), *_lengths(findings), *_split(findings),
               *_sound(findings), *_format(findings), *_ignored(findings)]  # fmt: skip
    return sorted(remarks, key=lambda remark: remark.level == "look")


def dbfs(amplitude: float) -> float:
    """A share of full scale in dB; -inf for 0."""
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


def _ids(files: Iterable[Probe]) -> tuple[str, ...]:
    return tuple(f.id for f in files)


def _n(files: Sequence[object], what: str = "file") -> str:
    return f"{len(files)} {what}{'' if len(files) == 1 else 's'}"


def _files(f: Findings) -> Iterator[Remark]:
    if f.unreadable:
        reasons = tuple(f"{one.id} ({one.error})" for one in f.unreadable)
        sentence = f"{_n(reasons)} cannot be read"
        yield Remark("stop", "unreadable", sentence, "remove them or convert them again", reasons)
    if f.layout.absent:
        absent = tuple(f"{ident}.wav" for ident in f.layout.absent)
        sentence = f"{_n(absent, 'line')} of metadata.csv {_have(absent)} no file in wavs/"
        mend = "extract the archive again, or data=folder to do without metadata.csv"
        yield Remark("stop", "metadata", sentence, mend, absent)
    cut = [one for one in f.readable if one.cut]
    if cut:
        sentence = f"{_n(cut)} shorter than the header says, as if copying had been cut off"
        yield Remark("look", "cut", sentence, "copy or extract them again", _ids(cut))


def _have(things: Sequence[object]) -> str:
    return "has" if len(things) == 1 else "have"


def _rates(f: Findings) -> Iterator[Remark]:
    other = [one for one in f.readable if one.rate != f.sampling_rate]
    found = ", ".join(str(r) for r in sorted(f.count("rate")))
    if other and not f.expected.resample:
        sentence = (
            f"{_n(other)} of {len(f.readable)} {'is' if len(other) == 1 else 'are'} not at "
            f"data.sampling_rate={f.sampling_rate} (found: {found} Hz)"
        )
        mend = "data.resample=true"
        if len(f.count("rate")) == 1:
            mend = f"data.sampling_rate={found}, or {mend}"
        yield Remark("stop", "rates", sentence, mend, _ids(other))
    lower = [one for one in other if one.rate < f.sampling_rate]
    if lower and f.expected.resample:
        lowest = min(one.rate for one in lower)
        sentence = (
            f"{_n(lower)} of a lower rate than {f.sampling_rate} Hz, so with nothing above "
            f"{lowest / 2:g} Hz"
        )
        mend = f"data.sampling_rate={lowest}, or leave them out"
        yield Remark("look", "upsampled", sentence, mend, _ids(lower))
    if f.expected.f_max > f.sampling_rate / 2:
        sentence = f"data.mel.f_max={f.expected.f_max:g} is above half of the {f.sampling_rate} Hz"
        yield Remark("stop", "mel", sentence, f"data.mel.f_max={f.sampling_rate / 2:g}")


def _lengths(f: Findings) -> Iterator[Remark]:
    short = f.short()
    T = f.expected.segment_length
    if f.kind != "file" and short:
        all_short = len(short) == len(f.train)
        longest = max(f.length(one) for one in short)
        how = {"error": "", "skip": ", skipped", "pad": ", padded with zeros"}
        sentence = (
            f"{len(short)} of {_n(f.train, 'training file')} {_is(short)} shorter than "
            f"segment_length={T}{how[f.expected.short_clips]}"
        )
        if f.expected.short_clips == "error" and not all_short:
            mend = f"data.short_clips=skip or pad, or segment_length={_smallest(f, short)}"
            yield Remark("stop", "short", sentence, mend, _ids(short))
        elif all_short and f.expected.short_clips != "pad":
            mend = f"segment_length={longest - longest % 8} or less, or data.short_clips=pad"
            yield Remark("stop", "short", sentence, mend, _ids(short))
        else:
            yield Remark("look", "short", sentence, "a lower segment_length", _ids(short))
    long = [one for one in f.readable if one.seconds > LONG]
    if long and f.kind != "file":
        sentence = (
            f"{_n(long)} {_is(long)} longer than {LONG:g} s; whole files are held out and scored"
        )
        yield Remark("look", "long", sentence, "cut recordings into utterances", _ids(long))


def _is(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"


def _smallest(f: Findings, short: list[Probe]) -> str:
    """The longest segment that every file holds, as a whole number of groups of 8."""
    length = min(f.length(one) for one in short)
    return f"{length - length % 8}" if length >= 8 else "(less than any useful one)"


def _split(f: Findings) -> Iterator[Remark]:
    if f.no_split is not None:
        sentence, _, mend = f.no_split.partition(": ")
        yield Remark("stop", "split", sentence, mend)
    if f.leaks:
        pairs = tuple(f"{held} = {other}" for held, other in f.leaks)
        sentence = (
            f"{_n(pairs, 'held-out file')} {_have(pairs)} the same decoded audio as another file, "
            "a leak"
        )
        yield Remark("stop", "leak", sentence, "remove one of each pair", pairs)
    for name, what in (("sha256", "the same bytes"), ("content", "the same decoded audio")):
        groups = f.duplicates(name)  # type: ignore[arg-type]
        if name == "content":
            groups = [g for g in groups if g not in f.duplicates("sha256")]
        if groups:
            copies = tuple(" = ".join(group) for group in groups)
            sentence = f"{_n(copies, 'group')} of files with {what}, trained on more than once"
            yield Remark("look", "duplicates", sentence, "remove the copies", copies)
    by_id = {one.id: one for one in f.readable}
    bad = [by_id[i] for i in f.held_out if by_id[i].silent or by_id[i].seconds < SCORED]
    if bad:
        sentence = (
            f"{_n(bad, 'held-out file')} {_is(bad)} silent or under {SCORED:g} s, where PESQ and "
            "ESTOI have no answer, and then no mean either"
        )
        short = not any(one.silent for one in bad)
        mend = f"data.held_out_min_seconds={SCORED:g}" if short else "remove them"
        yield Remark("look", "held_out", sentence, mend, _ids(bad))


def _sound(f: Findings) -> Iterator[Remark]:
    clipped = sorted((o for o in f.readable if o.clipped_runs), key=lambda o: -o.clipped_runs)
    if clipped:
        runs = sum(one.clipped_runs for one in clipped)
        sentence = f"{_n(clipped)} {_is(clipped)} clipped, {runs} runs of 3 or more at full scale"
        mend = "remove the worst, or record them lower; no setting undoes it"
        yield Remark("look", "clipping", sentence, mend, _ids(clipped))
    silent = [one for one in f.readable if one.silent]
    if silent:
        sentence = f"{_n(silent)} {_is(silent)} silent from start to end (below -60 dBFS)"
        if len(silent) == len(f.readable):
            yield Remark("stop", "silent", sentence, "there is nothing to learn", _ids(silent))
            return
        yield Remark(
            "look", "silent", sentence, "remove them, or data.silence_db=-60", _ids(silent)
        )
    if f.share("quiet") > MUCH_SILENCE:
        sentence = f"{100 * f.share('quiet'):.0f}% of the audio is below -60 dBFS"
        quiet = sorted(f.readable, key=lambda one: -one.quiet / max(one.n_samples, 1))
        yield Remark("look", "silence", sentence, "data.silence_db=-60", _ids(quiet[:SHOWN]))
    if f.share("zeros") > SOME_ZEROS:
        sentence = (
            f"{100 * f.share('zeros'):.1f}% of the samples are exact zeros, on which a likelihood "
            "grows without bound"
        )
        zeros = sorted(f.readable, key=lambda one: -one.zeros / max(one.n_samples, 1))
        mend = "strategy=[dequantize], or data.silence_db=-60"
        yield Remark("look", "zeros", sentence, mend, _ids(zeros[:SHOWN]))
    offset = [one for one in f.readable if abs(one.dc) > DC]
    if offset:
        worst = max(offset, key=lambda one: abs(one.dc))
        sentence = (
            f"{_n(offset)} with a DC offset over {100 * DC:g}% of full scale, the largest "
            f"{100 * worst.dc:+.1f}%"
        )
        yield Remark("look", "dc", sentence, "high-pass filter the recordings", _ids(offset))
    heard = sorted((one for one in f.readable if not one.silent), key=lambda one: one.rms)
    if heard and dbfs(heard[-1].rms) - dbfs(heard[0].rms) > SPREAD_DB:
        sentence = (
            f"levels of files differ by {dbfs(heard[-1].rms) - dbfs(heard[0].rms):.0f} dB, the "
            f"quietest has {dbfs(heard[0].rms):.0f} dBFS"
        )
        yield Remark("look", "levels", sentence, "bring them to one level", _ids(heard[:SHOWN]))


def _format(f: Findings) -> Iterator[Remark]:
    several = [one for one in f.readable if one.channels > 1]
    if several:
        sentence = f"{_n(several)} of more than one channel, of which the mean is used"
        mend = "extract one channel if they differ"
        yield Remark("look", "channels", sentence, mend, _ids(several))
    over = [one for one in f.readable if one.peak > 1.0]
    if over:
        sentence = f"{_n(over)} beyond full scale (floating point), to be clipped to 16 bits"
        yield Remark("look", "overshoot", sentence, "rescale them to [-1, 1]", _ids(over))
    lossy = [o for o in f.readable if not o.subtype.startswith((*LOSSLESS, *BITS_16))]
    if lossy:
        kinds = ", ".join(sorted({one.subtype for one in lossy}))
        sentence = f"{_n(lossy)} with lossy coding ({kinds}), whose artefacts are learnt"
        yield Remark("look", "lossy", sentence, "use the originals if there are any", _ids(lossy))


def _ignored(f: Findings) -> Iterator[Remark]:
    def names(paths: Sequence) -> tuple[str, ...]:
        return tuple(shown(path.relative_to(f.layout.root).as_posix()) for path in paths)

    if f.layout.foreign:
        kinds = ", ".join(sorted({path.suffix.lower() for path in f.layout.foreign}))
        sentence = f"{_n(f.layout.foreign)} ignored for {_their(f.layout.foreign)} suffix ({kinds})"
        mend = "convert to .wav or .flac, if they belong to it"
        yield Remark("look", "ignored", sentence, mend, names(f.layout.foreign))
    if f.layout.hidden:
        sentence = f"{_n(f.layout.hidden)} ignored because hidden (a name that starts with a dot)"
        mend = "rename them, if they belong to it"
        yield Remark("look", "hidden", sentence, mend, names(f.layout.hidden))
    if f.layout.closed:
        sentence = f"{_n(f.layout.closed, 'folder')} not entered (a link, or no permission to read)"
        mend = "copy their files, if they belong to it"
        yield Remark("look", "closed", sentence, mend, names(f.layout.closed))
    if f.layout.unlisted:
        sentence = f"{_n(f.layout.unlisted)} not in metadata.csv, used all the same"
        mend = "remove them, if they do not belong to it"
        yield Remark("look", "metadata", sentence, mend, f.layout.unlisted)


def _their(things: Sequence[object]) -> str:
    return "its" if len(things) == 1 else "their"
