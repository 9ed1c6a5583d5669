"""Quality against time: one figure a metric, every arm with its seeds and their mean.

Each trace carries its positions on all axes in ``meta["x"]``; the page's buttons swap them in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from wg.measure.metrics import metric_info
from wg.measure.target import Target
from wg.report.data import Arm, Sweep

KEY_METRICS = ("nats_per_sample", "log_mel_l1", "pesq_wb", "estoi", "mr_stft")
FIGURE_AXES = ("train_seconds", "audio_seconds", "steps")

# Okabe and Ito's colours, told apart with every common kind of colour blindness; their black
# and yellow are left out because one of them vanishes on a dark or a light page.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_BASELINE = "#7A828C"
TARGET_COLOUR = "#D9483B"
_DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Style:
    """How an arm is drawn, the same in every figure. Beyond six arms the dash tells."""

    colour: str
    dash: str


def styles(sweep: Sweep) -> dict[str, Style]:
    others = [name for name in sweep.arms if name != sweep.baseline]
    found = {sweep.baseline: Style(_BASELINE, "solid")}
    for i, name in enumerate(others):
        dash = _DASHES[i // len(_COLOURS) % len(_DASHES)]
        found[name] = Style(_COLOURS[i % len(_COLOURS)], dash)
    return found


def quality_figure(
    sweep: Sweep, metric: str, target: Target | None, style: Mapping[str, Style]
) -> go.Figure | None:
    """The metric on the grid set against headline seconds; None when no run has a value."""
    figure = go.Figure()
    for name, arm in sweep.arms.items():
        for run in arm.finished:
            x = {a: [p.at[a] for p in run.points] for a in FIGURE_AXES}
            y = [p.metrics.get(metric) for p in run.points]
            figure.add_trace(_line(name, f"seed {run.seed}", x, y, style[name], mean=False))
        mean_x, mean_y = mean_curve(arm, metric)
        label = f"mean of {len(arm.finished)}" if len(arm.finished) > 1 else "one seed"
        figure.add_trace(_line(name, label, mean_x, mean_y, style[name], mean=True))
    if all(v is None for trace in figure.data for v in trace.y):
        return None
    info = metric_info(metric)
    unit = "" if info.unit in ("", "1") else f" ({info.unit})"
    thresholds = [c.value for c in target.conditions if c.metric == metric] if target else []
    for value in thresholds:
        figure.add_hline(
            value,
            line={"dash": "dash", "width": 1.5, "color": TARGET_COLOUR},
            annotation={"text": f"target {value:g}", "font": {"color": TARGET_COLOUR, "size": 11}},
            annotation_position="top right",
        )
    figure.update_layout(
        title={"text": f"{metric}{unit} {info.arrow}", "x": 0, "xref": "paper"},
        showlegend=False,
        margin={"l": 52, "r": 22, "t": 38, "b": 44},
        height=310,
        xaxis={"title": {"text": "headline seconds"}, "rangemode": "tozero"},
        yaxis={"range": _y_range(figure, thresholds)},
        hovermode="closest",
        meta={"metric": metric},
    )
    return figure


def mean_curve(arm: Arm, metric: str) -> tuple[dict[str, list[float]], list[float]]:
    """Positions on each axis and the metric, both averaged over seeds at the same index of the
    grid; where a seed has no value there is no mean, for it would be of other seeds."""
    runs = arm.finished
    by_index = [
        {p.index: p for p in run.points if p.metrics.get(metric) is not None} for run in runs
    ]
    common = sorted(set.intersection(*(set(points) for points in by_index))) if by_index else []
    x = {a: [fmean(points[i].at[a] for points in by_index) for i in common] for a in FIGURE_AXES}
    y = [fmean(float(points[i].metrics[metric] or 0.0) for points in by_index) for i in common]
    return x, y


def _line(
    arm: str,
    what: str,
    x: dict[str, list[float]],
    y: Sequence[float | None],
    s: Style,
    *,
    mean: bool,
) -> go.Scatter:
    return go.Scatter(
        x=x["train_seconds"],
        y=list(y),
        name=f"{arm}, {what}",
        mode="lines+markers" if mean else "lines",
        line={"color": s.colour, "dash": s.dash, "width": 2.75 if mean else 1},
        marker={"size": 5},
        opacity=1.0 if mean else 0.4,
        meta={"arm": arm, "mean": mean, "x": x},
        hovertemplate="%{x:.4g}, %{y:.4g}<extra>%{fullData.name}</extra>",
    )


def _y_range(figure: go.Figure, thresholds: Sequence[float]) -> list[float] | None:
    """All of the curves, unless their first points (an untrained model) would flatten the rest:
    then from the second grid point on. None lets plotly choose."""
    curves = [[v for v in trace.y if v is not None] for trace in figure.data]
    later = [v for c in curves for v in c[1:]] + list(thresholds)
    everything = [v for c in curves for v in c] + list(thresholds)
    if len(later) <= len(thresholds):
        return None
    span, whole = max(later) - min(later), max(everything) - min(everything)
    if whole <= 2.5 * span or span == 0:
        return None
    pad = 0.08 * span
    return [min(later) - pad, max(later) + pad]


def speed_up_figure(
    arms: Sequence[Mapping[str, Any]], style: Mapping[str, Style]
) -> go.Figure | None:
    """Speed-ups with their intervals and pairs, from the ``arms`` of the results, on a
    logarithmic axis; None when there is none to draw."""
    rows = [a for a in arms if (a["speed_up"] or {}).get("estimate") is not None]
    if not rows:
        return None
    figure = go.Figure()
    for a in reversed(rows):
        s, name = a["speed_up"], a["arm"]
        open_ended = s["bound"] != "exact"
        if s["low"] is not None:
            figure.add_trace(
                go.Scatter(
                    x=[s["low"], s["high"]],
                    y=[name, name],
                    mode="lines",
                    line={"color": style[name].colour, "width": 3},
                    hovertemplate="%{x:.3g}<extra>" + s["interval"] + "</extra>",
                )
            )
        pairs = sorted(s["pairs"].items())
        figure.add_trace(
            go.Scatter(
                x=[v for _, v in pairs],
                y=[name] * len(pairs),
                mode="markers",
                text=[f"seed {k}" for k, _ in pairs],
                marker={"size": 9, "symbol": "line-ns-open", "color": style[name].colour},
                hovertemplate="%{x:.3g}, %{text}<extra></extra>",
            )
        )
        symbol = {"at least": "triangle-right", "at most": "triangle-left"}.get(
            s["bound"], "circle"
        )
        figure.add_trace(
            go.Scatter(
                x=[s["estimate"]],
                y=[name],
                mode="markers",
                marker={
                    "size": 13 if open_ended else 11,
                    "symbol": symbol,
                    "color": style[name].colour,
                },
                hovertemplate="%{x:.3g}<extra>" + s["bound"] + "</extra>",
            )
        )
    figure.add_vline(1, line={"dash": "dash", "width": 1.5, "color": _BASELINE})
    ends = [v for a in rows for v in (*a["speed_up"]["pairs"].values(), a["speed_up"]["estimate"])]
    ends += [v for a in rows for v in (a["speed_up"]["low"], a["speed_up"]["high"]) if v]
    low, high = min(*ends, 1.0) / 1.08, max(*ends, 1.0) * 1.08
    ticks = _ticks(low, high)
    figure.update_layout(
        showlegend=False,
        height=90 + 44 * len(rows),
        margin={"l": 20, "r": 20, "t": 8, "b": 44},
        xaxis={
            "type": "log",
            "range": [math.log10(low), math.log10(high)],
            "tickangle": 0,
            "title": {"text": "speed-up over the baseline"},
            "tickvals": ticks,
            "ticktext": [f"{t:g}" for t in ticks],
        },
        yaxis={
            "automargin": True,
            "tickvals": [a["arm"] for a in rows],
            "ticktext": [_short(a["arm"]) for a in rows],
        },
    )
    return figure


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _ticks(low: float, high: float) -> list[float]:
    """Round factors across the range, for a logarithmic axis that rarely spans a decade; few
    enough for the width of a telephone."""
    decade: Sequence[float] = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    if high > 20 * low:
        decade = (1.0, 3.0) if high < 500 * low else (1.0,)
    wide = [m * 10.0**k for k in range(-4, 7) for m in decade]
    near = (0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
    steps: Sequence[float] = near if low > 0.4 and high < 3 else wide
    return [s for s in steps if low <= s <= high]
