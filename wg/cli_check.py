"""``wg verify``: whether a record can be believed."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.markup import escape

from wg.console import console


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
def verify(path: Path) -> None:
    """Check a run, or a sweep's runs and whether they may be compared.

    One line a run: PASS, or each fault. Exit code 1 when there is one. Checked: one start an
    attempt, time and clocks that only grow and agree with the calendar and the threads, audio
    seconds, the grid, scores that are means of their utterances, SHA-256 of all weights on disk,
    the configuration against the directory's name; in a sweep seeds, grid, split, threads, device,
    code, copies, and runs at the same time on one device.
    """
    from wg.sweep.verify import verify as run

    out, faults = console(), 0
    for name, verdict in run(path).items():
        faults += len(verdict.faults)
        out.print(f"{'[red]FAULTS[/]' if verdict.faults else '[green]PASS[/]  '} {escape(name)}")
        for fault in verdict.faults:
            out.print(f"       {escape(fault)}", soft_wrap=True)
        for note in verdict.notes:
            out.print(f"       [dim]note: {escape(note)}[/]", soft_wrap=True)
    if faults:
        sys.exit(1)
