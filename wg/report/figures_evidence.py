"""Figures of runs as events: the share that reached the target by when, and profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from wg.report.figures import Style

_WIDE = 15.0  # times that are further apart than this factor get a logarithmic axis


def survival_figure(survival: Mapping[str, Any], style: Mapping[str, Style]) -> go.Figure | None:
    """Kaplan-Meier curves from the results, one line an arm and, hidden until it is asked for, its
    band; crosses where a run that missed was last watched. None when no run took any time."""
    arms = survival["arms"]
    times = [s["time"] for a in arms.values() for s in a["steps"][1:]]
    ends = [v for a in arms.values() for v in (*a["censored"], *times) if v]
    if not ends:
        return None
    log = bool(times) and min(times) > 0 and max(ends) / min(times) > _WIDE
    first = min(times) / 2 if log else 0.0
    last = max(ends) * (1.3 if log else 1.04)
    figure = go.Figure()
    for name, a in arms.items():
        end = last if a["horizon"] is None else a["horizon"]
        steps = [{**s, "time": max(s["time"], first)} for s in a["steps"]]
        colour = style[name].colour
        low, high = (_stairs(steps, k, end) for k in ("low", "high"))
        figure.add_trace(
            go.Scatter(
                x=[*low[0], *reversed(high[0])],
                y=[*low[1], *reversed(high[1])],
                fill="toself",
                fillcolor=_faint(colour),
                mode="lines",
                line={"width": 0, "color": colour},
                hoverinfo="skip",
                name=f"{name}, band",
                meta={"arm": name, "band": True},
                visible=False,
            )
        )
        stairs = _stairs(steps, "reached", end)
        figure.add_trace(_line(name, stairs, style[name], "%{x:.4g} s: %{y:.0%} of runs"))
        crosses = [c for c in a["censored"] if c is not None]
        if crosses:
            figure.add_trace(
                go.Scatter(
                    x=crosses,
                    y=[_at(steps, c) for c in crosses],
                    mode="markers",
                    marker={"symbol": "x-thin-open", "size": 10, "color": colour},
                    name=f"{name}, missed",
                    meta={"arm": name, "band": False},
                    hovertemplate="watched to %{x:.4g} s<extra>%{fullData.name}</extra>",
                )
            )
    axis: dict[str, Any] = {"title": {"text": "headline seconds"}, "range": [first, last]}
    if log:
        low10, high10 = math.log10(first), math.log10(last)
        parts = (1, 3) if high10 - low10 > 2 else (1, 2, 5)
        powers = range(math.floor(low10), math.ceil(high10) + 1)
        ticks = [m * 10.0**k for k in powers for m in parts]
        axis |= {"type": "log", "range": [low10, high10], "tickvals": ticks}
        axis["ticktext"] = [f"{t:g}" for t in ticks]
        axis["title"] = {"text": "headline seconds, logarithmic"}
    figure.update_layout(
        showlegend=False,
        height=300,
        margin={"l": 52, "r": 22, "t": 12, "b": 44},
        xaxis=axis,
        yaxis={
            "title": {"text": "runs with the target"},
            "range": [-0.03, 1.04],
            "tickformat": ".0%",
        },
        hovermode="closest",
    )
    return figure


def profile_figure(profile: Mapping[str, Any], style: Mapping[str, Style]) -> go.Figure | None:
    """Share of problems solved within a ratio of the best arm's time, on a logarithmic axis."""
    last = profile["largest_ratio"]
    figure = go.Figure()
    for name, a in profile["arms"].items():
        steps = [{"time": 1.0, "share": a["best"]}]
        steps += [{"time": r, "share": share} for r, share in a["steps"] if 1 < r <= last]
        stairs = _stairs(steps, "share", last)
        hover = "within %{x:.3g} times the best: %{y:.0%}"
        figure.add_trace(_line(name, stairs, style[name], hover))
    ticks = [t for t in (1, 1.25, 1.5, 2, 3, 4, 6, 8, 16, 32, 64, 128, 256) if t <= last]
    figure.update_layout(
        showlegend=False,
        height=280,
        margin={"l": 52, "r": 22, "t": 12, "b": 44},
        xaxis={
            "type": "log",
            "range": [-0.01, math.log10(last)],
            "title": {"text": "time / the best arm's time"},
            "tickvals": ticks if last <= 16 else [t for t in ticks if t in (1, 2, 4, 8, 16, 64)],
        },
        yaxis={"title": {"text": "problems"}, "range": [-0.03, 1.04], "tickformat": ".0%"},
        hovermode="closest",
    )
    return figure


def _line(
    name: str, points: tuple[list[float], list[float]], style: Style, hover: str
) -> go.Scatter:
    return go.Scatter(
        x=points[0],
        y=points[1],
        mode="lines",
        line={"color": style.colour, "dash": style.dash, "width": 2.5},
        name=name,
        meta={"arm": name, "band": False},
        hovertemplate=f"{hover}<extra>%{{fullData.name}}</extra>",
    )


def _stairs(
    steps: Sequence[Mapping[str, Any]], key: str, end: float
) -> tuple[list[float], list[float]]:
    """Corners of a step function of time, drawn on to ``end``."""
    x, y = [steps[0]["time"]], [steps[0][key]]
    for step in steps[1:]:
        x += [step["time"], step["time"]]
        y += [y[-1], step[key]]
    if end > x[-1]:
        x.append(end)
        y.append(y[-1])
    return x, y


def _at(steps: Sequence[Mapping[str, Any]], time: float) -> float:
    return float([s for s in steps if s["time"] <= time or s is steps[0]][-1]["reached"])


def _faint(colour: str) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},0.16)"
