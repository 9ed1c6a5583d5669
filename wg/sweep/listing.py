"""Tables in the terminal: strategies and runs."""

from __future__ import annotations

import re
from pathlib import Path

from rich.table import Table
from rich.text import Text

from wg.audio.names import shown
from wg.console import console
from wg.errors import UserError, nearest
from wg.measure.clock import headline
from wg.measure.record import Event, last_clock, read_events, snapshots, status, train_curve
from wg.strategies import all_strategies
from wg.sweep.rundir import runs_in


def show_strategies() -> None:
    """Every strategy: kind, the slots it sets with its defaults, what it refuses."""
    table = Table(box=None, pad_edge=False)
    for column in ("strategy", "kind", "sets", "refuses", "what"):
        table.add_column(column, overflow="fold")
    for s in all_strategies().values():
        # The head of the summary: its first clause says what, the card says the rest.
        what = re.split(r"[;:.]( |$)", s.summary, maxsplit=1)[0]
        cells = (s.name, s.kind, ", ".join(s.sets()), ", ".join(s.refuses) or "-", what)
        table.add_row(*map(Text, cells))  # Text: a plug-in's words are not markup
    console().print(table)
    print(
        "\nTwo strategies that set the same slot conflict. Why others do: wg strategies --pairs"
        "\nA card: wg strategies NAME\n"
    )


def show_card(name: str) -> None:
    """The method card and the defaults of one strategy."""
    known = all_strategies()
    if name not in known:
        raise UserError(f"there is no strategy '{name}'; {nearest(name, known)}")
    s = known[name]
    print(f"{s.name} [{s.kind}]  sets: {', '.join(s.sets())}\n\n{s.card}\n")
    for key, value in s.defaults().items():
        print(f"  strategy.{name}.{key} = {value}")


def show_runs(sweep: Path) -> None:
    """How far every run of a sweep is."""
    found = runs_in(sweep)
    if not found:
        raise UserError(f"{shown(sweep)} holds no runs; make some with wg train out={shown(sweep)}")
    table = Table(box=None, pad_edge=False)
    for column in ("run", "status", "step", "audio s", "loss", "charged s", "scored"):
        table.add_column(column, justify="left" if column in ("run", "status") else "right")
    for run_dir, _ in found:
        events = read_events(run_dir)
        curve = train_curve(events)
        last = curve[-1] if curve else {}
        # The newest event that says how far it came; a run interrupted between two log lines
        # is further than its curve.
        reached = next(
            (e for e in reversed(events) if e.get("step") and "audio_seconds" in e),
            {"step": 0, "audio_seconds": 0.0},
        )
        start = next((e for e in events if e["event"] == "start"), {})
        clock = last_clock(events)
        spent = headline(clock, start.get("clock_kind", "cpu")) if clock else 0.0
        scored = {e["index"] for e in events if e["event"] == "score"}
        table.add_row(
            Text(shown(run_dir.name)),  # not markup, whatever the user called it
            status(events) + _good_to(events),
            str(reached["step"]),
            f"{reached['audio_seconds']:.0f}",
            f"{last['loss']:.3f}" if last.get("loss") is not None else "-",
            f"{spent:.0f}",
            f"{len(scored)}/{len(snapshots(events))}",
        )
    console().print(table)


def _good_to(events: list[Event]) -> str:
    """Of a run that diverged: where its last good weights are from."""
    back = [e for e in events if e["event"] == "rollback"]
    return f" (good to step {back[-1]['step']})" if back and status(events) == "failed" else ""
