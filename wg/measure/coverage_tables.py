"""The tables of simulated studies, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wg.measure.coverage import Row

WANTED = (0.93, 0.97)  # what a nominal 95% may cover here


def origin(found: dict[str, Any]) -> str:
    """The command that makes it, with the versions that it was made by."""
    versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
    return f"`{found['command']}` ({versions})."


def joined(*parts: str) -> str:
    """Paragraphs of a Markdown file."""
    return "\n\n".join(parts) + "\n"


def pivot(rows: Sequence[Row], keys: Sequence[str], cell: Callable[[Row], str]) -> str:
    """One line for each combination of ``keys``, one column for each n, and for each spread where
    the rows have one. A combination that a column lacks has '-' there."""
    columns = sorted({_column(r) for r in rows})
    lines: dict[tuple[str, ...], dict[tuple[float, int], str]] = {}
    for row in rows:
        lines.setdefault(tuple(_text(row[k]) for k in keys), {})[_column(row)] = cell(row)
    heads = [f"n = {n}" if sd == 0 else f"sd {sd:g}, n = {n}" for sd, n in columns]
    table = [[*keys, *heads], ["---"] * (len(keys) + len(heads))]
    table += [[*names, *(found.get(c, "-") for c in columns)] for names, found in lines.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def _column(row: Row) -> tuple[float, int]:
    return row.get("sd", 0), row["n"]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def percent(value: float | None) -> str:
    """A share as a cell."""
    return "-" if value is None else f"{value:.1%}"


def share(value: float | None, *notes: str, wanted: tuple[float, float] = WANTED) -> str:
    """A coverage, its notes in brackets, and * where it is not as wanted."""
    inside = value is None or wanted[0] <= value <= wanted[1]
    told = [n for n in notes if n]
    return percent(value) + (f" ({', '.join(told)})" if told else "") + ("" if inside else " *")
