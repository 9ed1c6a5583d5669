"""Findings and verdict as tables for the terminal, and as plain values for a file."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wg.audio.check.findings import Findings
from wg.audio.check.target import FORMAT
from wg.audio.check.verdict import Remark, dbfs
from wg.audio.split import RULE, RULE_ID


def show(findings: Findings, remarks: list[Remark], console: Console) -> None:
    """The table of findings, then the verdict, then the command to train with."""
    # Text, not str, for all that may name a file: names may hold [markup] and :emoji: codes.
    table = Table(title=Text(f"{findings.path} ({_KINDS[findings.kind]})"), show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows(findings):
        table.add_row(name, Text(value))
    console.print(table)
    for level, title, style in (
        ("stop", "would stop training", "bold red"),
        ("look", "deserves a look", "bold yellow"),
    ):
        chosen = [remark for remark in remarks if remark.level == level]
        if chosen:
            console.print(f"[{style}]{title}[/]")
        for remark in chosen:
            console.print(Text(f"  {remark.sentence}: {remark.mend}"))
            if remark.files:
                console.print(Text(f"    {remark.first_files()}", style="dim"))
    if not remarks:
        console.print("[bold green]nothing to object to[/]")
    command = train_command(findings)
    if command and not any(remark.level == "stop" for remark in remarks):
        console.print(Text(f"train on it: {command}"), soft_wrap=True)


_KINDS = {"ljspeech": "LJSpeech's layout", "folder": "a folder", "file": "one file"}


def rows(f: Findings) -> Iterator[tuple[str, str]]:
    """(what, found) of the table of findings."""
    total, shortest, middle, longest = f.seconds()
    bad = f" ({len(f.unreadable)} unreadable)" if f.unreadable else ""
    yield "files", f"{len(f.files)}{bad}"
    yield "audio", f"{total / 3600:.2f} h" if total >= 3600 else f"{total / 60:.2f} min"
    yield "rates", _counts(f.count("rate"), " Hz")
    yield "channels", _counts(f.count("channels"))
    kinds = Counter(f"{one.format} {one.subtype}" for one in f.readable)
    yield "formats", _counts(kinds)
    yield "lengths", f"{shortest:.2f} s shortest, {middle:.2f} median, {longest:.2f} longest"
    if f.kind != "file":
        T = f.expected.segment_length
        seconds = f"{T / f.sampling_rate:.2f} s"
        yield "too short", f"{len(f.short())} for a segment of {T} samples ({seconds})"
    runs = sum(1 for one in f.readable if one.clipped_runs)
    yield (
        "clipping",
        f"{_percent(f.clipped_share())} of samples at full scale, {runs} files in runs",
    )
    silent = sum(one.silent for one in f.readable)
    yield (
        "silence",
        f"{_percent(f.share('quiet'))} below -60 dBFS, {_percent(f.share('zeros'))} exact zeros, "
        f"{silent} files throughout",
    )
    heard = sorted(one.rms for one in f.readable if not one.silent)
    if heard:
        yield (
            "level",
            f"{dbfs(heard[0]):.1f} to {dbfs(heard[-1]):.1f} dBFS RMS, median "
            f"{dbfs(heard[len(heard) // 2]):.1f}, highest peak "
            f"{dbfs(max(one.peak for one in f.readable)):.1f}",
        )
    dc = max((one.dc for one in f.readable), key=abs, default=0.0)
    yield "DC offset", f"{100 * dc:+.3f}% of full scale at most"
    same = sum(len(g) - 1 for g in f.duplicates("content"))
    yield "duplicates", f"{same} ({sum(len(g) - 1 for g in f.duplicates('sha256'))} by bytes)"
    if f.kind == "ljspeech":
        layout = f.layout
        yield (
            "metadata.csv",
            f"{len(layout.listed)} lines, {len(layout.absent)} without a file, "
            f"{len(layout.unlisted)} files without a line",
        )
    if f.kind != "file":
        yield "ignored", f"{len(f.layout.hidden)} hidden, {len(f.layout.foreign)} of other kinds"
    if f.held_out:
        held = set(f.held_out)
        seconds_of = {one.id: one.seconds for one in f.readable}
        out = sum(seconds_of[i] for i in held)
        yield (
            "split",
            f"{len(f.train)} to train on ({(total - out) / 60:.1f} min), {len(held)} held out "
            f"({out / 60:.1f} min)",
        )
        yield "split rule", f"{RULE_ID}: {RULE}"


def _counts(counter: Counter, unit: str = "") -> str:
    return ", ".join(
        f"{value}{unit} ({n} file{'' if n == 1 else 's'})" for value, n in counter.most_common()
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def train_command(f: Findings) -> str | None:
    """The command that trains on this corpus with the settings that were checked."""
    if f.kind == "file":
        return None
    words = ["wg", "train", f"data={f.kind}", f"data.path={f.path}"]
    words.append(f"data.sampling_rate={f.sampling_rate}")
    if f.expected.resample:
        words.append("data.resample=true")
    if f.expected.short_clips != "error":
        words.append(f"data.short_clips={f.expected.short_clips}")
    words += [f"data.held_out={f.expected.held_out}"]
    if f.expected.held_out_min_seconds:
        words.append(f"data.held_out_min_seconds={f.expected.held_out_min_seconds:g}")
    words += [f"segment_length={f.expected.segment_length}"]
    return " ".join(shlex.quote(word) for word in words)


def to_json(findings: Findings, remarks: list[Remark]) -> dict[str, Any]:
    """All of it as plain values: settings, table, split, verdict, and one row a file."""
    total, shortest, middle, longest = findings.seconds()
    return {
        "format": FORMAT,
        "path": findings.path,
        "kind": findings.kind,
        "expected": dataclasses.asdict(findings.expected),
        "sampling_rate": findings.sampling_rate,
        "summary": {
            "files": len(findings.files),
            "unreadable": len(findings.unreadable),
            "seconds": total,
            "shortest": shortest,
            "median": middle,
            "longest": longest,
            "rates": {str(rate): n for rate, n in sorted(findings.count("rate").items())},
            "channels": {str(c): n for c, n in sorted(findings.count("channels").items())},
            "too_short": len(findings.short()) if findings.kind != "file" else 0,
            "clipped_share": findings.clipped_share(),
            "quiet_share": findings.share("quiet"),
            "zeros_share": findings.share("zeros"),
            "duplicates": findings.duplicates("content"),
        },
        "split": {
            "rule_id": RULE_ID,
            "rule": RULE,
            "held_out": list(findings.held_out),
            "n_train": len(findings.train),
            "leaks": [list(pair) for pair in findings.leaks],
        },
        "verdict": [dataclasses.asdict(remark) for remark in remarks],
        "files": [dataclasses.asdict(file) for file in findings.files],
    }
