"""The findings of ``wg bench step`` as a table: in the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

HEAD = (
    "step",
    "kind",
    "times {base}'s speed",
    "samples/s",
    "of GEMM rate",
    "peak MB",
    "same loss?",
)
ARMS_HEAD = ("arm", "audio s/s", "times the baseline's", "GFLOP/s", "of peak", "arithmetic")
ORDER = ("same", "other", "WRONG", "refused")


def show(findings: Mapping[str, Any], console: Console) -> None:
    """Table and notes on the terminal."""
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(head(findings)):
        table.add_column(name, overflow="fold", justify="right" if i in (3, 4, 5) else "left")
    for row in ordered(findings):
        style = {"WRONG": "red", "refused": "dim"}.get(row["verdict"], "")
        table.add_row(*(Text(cell, style=style) for cell in cells(row)))
    console.print(table)
    for line in notes(findings):
        console.print(Text(line, style="dim"))


def show_arms(findings: Mapping[str, Any], console: Console) -> None:
    """What ``wg bench arms`` found, on the terminal: the fastest arm first."""
    table = Table(box=None, pad_edge=False)
    for i, head in enumerate(ARMS_HEAD):
        table.add_column(head, overflow="fold", justify="left" if i in (0, 5) else "right")
    rows = findings["arms"]
    for name in sorted(rows, key=lambda n: -rows[n].get("audio_seconds_per_second", 0)):
        table.add_row(*map(Text, arm_cells(name, rows[name])))
    console.print(table)
    m = findings["machine"]
    where = m.get("gpu") or f"{m['cpu']}, {m['cores']} cores"
    console.print(
        Text(
            f"Medians of {findings['rounds']} rounds, in brackets the interval of paired ratios. "
            "Share of peak: of a large matrix product in the arm's arithmetic, measured in "
            f"between. {where}; {m['threads']} threads; wg {findings['commit'] or '?'}; "
            f"{findings['date']}",
            style="dim",
        )
    )


def arm_cells(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row in words."""
    if row["refused"]:
        return (name, "-", "-", "-", "-", row["refused"])
    return (
        name,
        f"{row['audio_seconds_per_second']:.3g}",
        _interval(row["relative"]),
        f"{row['flops_per_second'] / 1e9:,.0f}",
        f"{100 * row['share_of_peak']:.0f}%",
        row["arithmetic"] + ("" if row["finite"] else "; its loss is not finite"),
    )


def markdown(findings: Mapping[str, Any]) -> str:
    """The same as a page."""
    lines = [f"    {findings['command']}", ""]
    lines += ["| " + " | ".join(head(findings)) + " |", "|---|---|---|---:|---:|---:|---|"]
    for row in ordered(findings):
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells(row)) + " |")
    return "\n".join([*lines, "", *(f"{line}\n" for line in notes(findings))])


def head(findings: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the columns."""
    return tuple(name.format(base=findings["base"]) for name in HEAD)


def ordered(findings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows with the base first, then the fastest of what does the same, of what does not, and what
    was refused."""
    first, *rest = findings["rows"] or [None]
    rest.sort(
        key=lambda r: (ORDER.index(r["verdict"]), -(r["ratio"]["median"] if r["ratio"] else 0))
    )
    return [first, *rest] if first is not None else []


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row in words. A step that is wrong has no speed."""
    if row["verdict"] == "refused":
        return (row["name"], row["kind"], "-", "-", "-", "-", row["note"])
    peak = row["peak_bytes"]
    wrong = row["verdict"] == "WRONG"
    return (
        row["name"],
        row["kind"],
        "-" if wrong else _interval(row["ratio"]),
        f"{row['samples_per_second']:,.0f}",
        f"{100 * row['gemm_share']:.0f}%",
        "-" if peak is None else f"{peak / 1e6:,.0f}",
        _same(row) + (f"; {row['note']}" if row["note"] else ""),
    )


def _interval(ratio: Mapping[str, Any]) -> str:
    return f"{ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"


def _same(row: Mapping[str, Any]) -> str:
    a = row["agreement"]
    gradients = "others" if a["gradients"] is None else f"{a['gradients']:.1g}"
    found = f"loss {a['loss']:.1g}, gradients {gradients}, fall {a['fall']:.1g}"
    if row["verdict"] == "other":
        return f"other mathematics ({found})"
    if row["verdict"] == "WRONG":
        t = row["tolerance"]
        limits = f"{t['loss']:g}, {t['gradients']:g}, {t['fall']:g}"
        return f"NO: {found}; may be {limits}"
    return f"yes: {found}"


def notes(findings: Mapping[str, Any]) -> list[str]:
    """What the numbers are and where they are from."""
    m, base = findings["machine"], findings["base"]
    measured = [row for row in findings["rows"] if row["raw"]]
    lines = []
    if measured:
        raw, ratio = measured[0]["raw"], measured[0]["ratio"]
        B, T = raw["batch"]["variant"]
        clock = "wall seconds, synchronised" if raw["clock"] == "wall" else "process CPU seconds"
        lines.append(
            f"{B} x {T} samples a step; {clock}; {ratio['n']} repetitions of "
            f"{raw['steps_per_repetition']} steps, {base} and variant in turns in one process: "
            f"median and {100 * ratio['coverage']:.1f}% interval (order statistics) of the paired "
            f"ratios. The row {base} is {base} against itself: what the method sees where there is "
            "nothing to see."
        )
        n, seconds = raw["gemm"]["n"], [t[raw["clock"]] for t in raw["times"]["gemm"]]
        rate = raw["gemm"]["flops"] / sorted(seconds)[len(seconds) // 2] / 1e9
        lines.append(
            f"GEMM: {n} x {n} in fp32, interleaved with the steps, {rate:,.0f} GFLOP/s. Shares are "
            "of model FLOPs (recomputation is none). Peak: "
            f"{measured[0]['peak_of']}, in a process of its own."
        )
        lines.append(
            f"Same loss: differences to {base} from equal weights, of the loss, of all gradients, "
            "and of how far the next steps lower the loss; a step beyond its arithmetic's "
            "tolerance has no speed."
        )
    where = m.get("gpu") or f"{m['cpu']}, {m['cores']} cores"
    lines.append(
        f"{where}; {m['threads']} threads; torch {m['torch']}; wg {findings['commit'] or '?'}; "
        f"{findings['date']}" + ("" if findings["complete"] else "; INTERRUPTED, not complete")
    )
    return lines
