"""``wg verify``: whether a record can be believed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click
from rich.markup import escape

from wg.console import console


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--rescore", is_flag=True, help="Score final/ again, too, and compare with the record."
)
@click.option(
    "--on",
    type=click.Choice(["grid", "held_out"]),
    default="grid",
    show_default=True,
    help="Which utterances --rescore hears.",
)
@click.option(
    "--data-path",
    type=click.Path(path_type=Path),
    help="Where the corpus lies, if not where the run was trained (for --rescore).",
)
def verify(
    path: Path, rescore: bool, on: Literal["grid", "held_out"], data_path: Path | None
) -> None:
    """Check a run, or a sweep's runs and whether they may be compared.

    One line a run: PASS, or each fault. Exit code 1 when there is one. Checked: that every line
    is an event; one start an attempt; steps, audio and model FLOPs that are the configuration's;
    every line of the log and every snapshot that is due; time and clocks that only grow and agree
    with the calendar, the threads and each other; scores that are means of the utterances of the
    split; the target against conf/target; strategies; the donor's cost; SHA-256 of all weights on
    disk (a record without any weights is checked alone); the configuration against the
    directory's name; in a sweep that an arm is one recipe and none of its runs is missing, seeds,
    grid, split, utterances, threads, device, code, CPU seconds a step and against wg bench arms,
    copies, and runs at the same time on one device.

    Scores that were changed together with all of their utterances are only found by --rescore.
    """
    from wg.sweep.verify import run_folders
    from wg.sweep.verify import verify as run

    out, faults = console(), 0
    found = run(path)
    if rescore:
        from wg.sweep.verify_rescore import rescore as again

        for folder in run_folders(path):
            if found[folder.name].faults:
                found[folder.name].notes.append("not scored again: it has faults already")
                continue
            more = again(folder, on, data_path, lambda text: out.print(escape(text)))
            found[folder.name].faults += more.faults
            found[folder.name].notes += more.notes
    for name, verdict in found.items():
        faults += len(verdict.faults)
        out.print(f"{'[red]FAULTS[/]' if verdict.faults else '[green]PASS[/]  '} {escape(name)}")
        for fault in verdict.faults:
            out.print(f"       {escape(fault)}", soft_wrap=True)
        for note in verdict.notes:
            out.print(f"       [dim]note: {escape(note)}[/]", soft_wrap=True)
    if faults:
        sys.exit(1)
