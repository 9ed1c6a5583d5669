"""``wg report``: reads a sweep, writes the page, its numbers and its table."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wg.console import console
from wg.files import write_atomic, write_json
from wg.measure.metrics import SHOWN
from wg.measure.record import finite
from wg.report.against import against_of, lines_of, read_earlier
from wg.report.ends import LABELS
from wg.report.listen import listening
from wg.report.page import render, target_of
from wg.report.read import read_sweep
from wg.report.results import results_of
from wg.report.still import curves_png
from wg.report.throughput import read_throughput
from wg.report.words import (
    MISSING,
    at_start,
    factor,
    factor_with_interval,
    metric_value,
    probability,
    seconds,
    untrained,
)

_TABLE_METRICS = ("nats_per_sample", "log_mel_l1", "pesq_wb")


def write_report(
    sweep_dir: Path,
    out_dir: Path,
    baseline: str | None = None,
    say: Callable[[str], None] = print,
    target: Mapping[str, Any] | None = None,
    more_targets: Sequence[Mapping[str, Any]] = (),
    price: float | None = None,
    against: Path | None = None,
) -> Path:
    """Write index.html, results.json, table.md and curves.png into ``out_dir``; returns the page's
    path.

    ``baseline`` names the arm that speed-ups are relative to (default: plain `nvidia`);
    ``target`` comes before the targets that the runs were made with, and ``more_targets`` after
    it; ``price`` is money of an hour of a rank's device; ``against`` names earlier results.json,
    which this is a repetition of.

    ``say`` gets the warnings, the table and the answer, as text for the terminal.

    Errors: UserError without finished runs, without a baseline, for a wrong target.
    """
    earlier = None if against is None else read_earlier(against)
    sweep = read_sweep(sweep_dir, baseline)
    given = [t for t in (target, *more_targets) if t is not None]
    throughput = read_throughput(sweep_dir)
    results: dict[str, Any] = finite(results_of(sweep, given, price, throughput))
    results["against"] = None if earlier is None else against_of(results, earlier)
    winner = results["winner"]
    utterances, missing = listening(sweep, winner["arm"], winner["seed"])
    page = out_dir / "index.html"
    write_atomic(page, render(sweep, results, utterances, missing).encode())
    write_json(out_dir / "results.json", results)
    write_atomic(out_dir / "table.md", table_markdown(results).encode())
    picture = curves_png(sweep, target_of(results), results["clock"]["words"])
    if picture is not None:
        write_atomic(out_dir / "curves.png", picture)
    for warning in results["warnings"]:
        say(f"note: {warning}")
    text = io.StringIO()
    print_table(results, Console(file=text, width=console().width))
    say(text.getvalue().rstrip())
    say(results["headline"]["sentence"].replace("`", ""))
    for line in lines_of(results["against"]) if results["against"] else ():
        say(line)
    say(f"report: {page}")
    return page


def table_rows(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(headers, rows), the arms in the order of the ranking."""
    by_name = {a["arm"]: a for a in results["arms"]}
    shown = [m for m in _TABLE_METRICS if any(m in a["final"] for a in results["arms"])]
    headers = ["arm", "seeds", "time to target", "speed-up", "audio s/s", *shown]
    rows = []
    for name in results["ranking"]:
        a = by_name[name]
        rate = a["throughput"]["mean"]
        baseline = a["is_baseline"]
        rows.append(
            [
                f"{name} ({a['division']}{', baseline' if baseline else ''})",
                str(len(a["seeds"])),
                time_cell(a["time_to_target"]),
                "1" if baseline else factor_with_interval(a["speed_up"]),
                MISSING if rate is None else f"{rate:.3g}",
                *(metric_value(m, a["final"].get(m, {}).get("mean")) for m in shown),
            ]
        )
    return headers, rows


def time_cell(t: Mapping[str, Any] | None) -> str:
    """Mean time to target; with misses, what was spent at least and how many missed."""
    if t is None:
        return MISSING
    mean = seconds(t["restricted_mean_seconds"])
    if not t["missed"]:
        return f"{mean} (untrained)" if untrained(t) else mean
    return f"> {mean} ({t['missed']}/{t['missed'] + t['reached']} missed)"


def table_markdown(results: Mapping[str, Any]) -> str:
    """The table with what its numbers mean, for a README or a pull request."""
    headers, rows = table_rows(results)
    lines = [
        results["headline"]["sentence"],
        "",
        "| " + " | ".join(headers) + " |",
        "| " + " | ".join("---" for _ in headers) + " |",
        *(
            "| " + " | ".join(c.replace("|", "\\|") for c in row) + " |"
            for row in [*rows, *_end_rows(results, headers)]
        ),
        "",
        _caption(results),
    ]
    return "\n".join(lines) + "\n"


def _end_rows(results: Mapping[str, Any], headers: Sequence[str]) -> list[list[str]]:
    """The ends of the metrics' scales under ``headers``, which are of no arm."""
    return [
        [
            f"end of the scale: {LABELS.get(name, name)}",
            *(metric_value(h, values.get(h)) if h in SHOWN else MISSING for h in headers[1:]),
        ]
        for name, values in results["ends"].items()
    ]


def _caption(results: Mapping[str, Any]) -> str:
    target = results["target"]
    what = f"Target {target['name']}: {target['words']}. " if target else ""
    return (
        f"{what}Times are headline seconds ({results['clock']['words']}: train + compile + "
        "data_prep, a donor's included), means over seeds; speed-ups are geometric means over "
        "shared seeds, in brackets a 95% t-interval (of two seeds only their range); quality is "
        "on all held-out speech at the end of the budget. Beside an arm its division: "
        + "; ".join(f"{d['division']}, {d['words']}" for d in results["divisions"])
        + f".{_evidence(results)}{_lasting(results)}"
    )


def _lasting(results: Mapping[str, Any]) -> str:
    """Factors to the baseline's own end, and what of them needs no line between snapshots."""
    if (lasting := results["lasting"]) is None:
        return ""
    told = [
        f"{n} before its first step"
        if at_start(a)
        else f"{n} {factor_with_interval(a['speed_up'])}, "
        f"to the snapshot after it {factor(a['at_least'])}"
        for n in results["ranking"]
        if (a := lasting["arms"].get(n)) and (at_start(a) or a["speed_up"]["estimate"] is not None)
    ]
    if not told:
        return ""
    return (
        " To what each seed of the baseline has at its own end (nats_per_sample and log_mel_l1; on "
        f"a line between snapshots): {'; '.join(told)}."
    )


def _evidence(results: Mapping[str, Any]) -> str:
    """Which arms are shown to be sooner, and what so few seeds can show."""
    sooner = (results["evidence"] or {}).get("sooner")
    if not sooner:
        return ""
    arms = [n for n in results["ranking"] if n in sooner["arms"]]
    p = ", ".join(f"{n} {probability(sooner['arms'][n]['t_holm'])}" for n in arms)
    return f" One-sided p of sooner than the baseline (t, Holm): {p}. {sooner['words']}"


def print_table(results: Mapping[str, Any], out: Console | None = None) -> None:
    """The table in the terminal; a narrow one gets fewer columns."""
    out = out or console()
    headers, rows = table_rows(results)
    left_out = ("audio s/s", "pesq_wb") if out.width < 104 else ()
    table = Table(box=None, pad_edge=False)
    keep = [i for i, header in enumerate(headers) if header not in left_out]
    for i in keep:
        right = i == 1 or i > 3
        table.add_column(
            headers[i],
            overflow="fold",
            justify="right" if right else "left",
            no_wrap=i > 1,
            min_width=12 if i == 0 else None,
        )
    for row in rows:
        # What is in brackets goes below, which keeps the columns narrow.
        cells = [row[i].replace(" (", "\n(") if i < 4 else row[i] for i in keep]
        table.add_row(*map(escape, cells), style="bold" if row is rows[0] else None)
    out.print(table)
    out.print(escape(_caption(results)), style="dim", highlight=False)
