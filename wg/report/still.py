"""Quality against time as one picture, for a README or a paper, where the page cannot go."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from wg.measure.metrics import metric_info
from wg.measure.target import Target
from wg.report.data import Arm, Sweep
from wg.report.figures import KEY_METRICS, TARGET_COLOUR, Style, mean_curve, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES: Mapping[str, Literal["-", "--", ":", "-."]] = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
}
_AXIS = "train_seconds"
_INCHES = (3.3, 3.0)  # of one metric's picture


def curves_png(sweep: Sweep, target: Target | None, clock: str) -> bytes | None:
    """:func:`curves_figure` as a PNG: of the same records the same bytes."""
    figure = curves_figure(sweep, target, clock)
    if figure is None:
        return None
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100, metadata={"Software": None})  # nor its version
    return out.getvalue()


def curves_figure(sweep: Sweep, target: Target | None, clock: str) -> Figure | None:
    """Every key metric that has a value against headline seconds on a logarithmic axis: every seed
    thin, the mean over seeds thick, the target's threshold dashed. None when no metric has one.

    clock: what the seconds are, in words.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # the page does without
    from matplotlib.figure import Figure

    metrics = [m for m in KEY_METRICS if _known(sweep, m)]
    if not metrics:
        return None
    style, left = styles(sweep), left_end(sweep)
    width, height = _INCHES
    figure = Figure(figsize=(width * len(metrics), height + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels: Sequence[Axes] = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for name, arm in sweep.arms.items():
            _draw(axes, arm, metric, style[name], left)
        for condition in target.conditions if target else ():
            if condition.metric == metric:
                axes.axhline(condition.value, color=TARGET_COLOUR, linestyle="--", linewidth=1.2)
        _dress(axes, metric, left)
    figure.supxlabel(f"{clock}; {left:g} and less at the left edge", fontsize="medium")
    _legend(figure, sweep, style, target, metrics)
    return figure


def left_end(sweep: Sweep) -> float:
    """Where a logarithmic axis begins: the last power of ten before any run's second snapshot,
    for the first is taken at or near nothing."""
    seconds = [
        p.at[_AXIS] for arm in sweep.arms.values() for r in arm.finished for p in r.points[1:]
    ]
    least = min((s for s in seconds if s > 0), default=1.0)
    return 10.0 ** math.floor(math.log10(least))


def _known(sweep: Sweep, metric: str) -> bool:
    return any(
        p.metrics.get(metric) is not None
        for arm in sweep.arms.values()
        for run in arm.finished
        for p in run.points
    )


def _draw(axes: Axes, arm: Arm, metric: str, style: Style, left: float) -> None:
    look: dict[str, Any] = {"color": style.colour, "linestyle": _DASHES[style.dash]}
    for run in arm.finished:
        at = [max(left, p.at[_AXIS]) for p in run.points]
        values = [p.metrics.get(metric) for p in run.points]
        seed = [math.nan if v is None else v for v in values]
        axes.plot(at, seed, linewidth=0.8, alpha=0.45, **look)
    mean_at, mean = mean_curve(arm, metric)
    axes.plot([max(left, s) for s in mean_at[_AXIS]], mean, linewidth=2.2, **look)


def _dress(axes: Axes, metric: str, left: float) -> None:
    info = metric_info(metric)
    unit = "" if info.unit in ("", "1") else f" ({info.unit})"
    axes.set_title(f"{metric}{unit} {info.arrow}", fontsize="medium", loc="left")
    axes.set_xscale("log")
    axes.set_xlim(left=left)
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(
    figure: Figure,
    sweep: Sweep,
    style: Mapping[str, Style],
    target: Target | None,
    metrics: Sequence[str],
) -> None:
    from matplotlib.lines import Line2D

    lines = []
    for name, arm in sweep.arms.items():
        n = len(arm.finished)
        s = style[name]
        label = f"{name} (mean of {n} seeds)" if n > 1 else f"{name} (one seed)"
        lines.append(
            Line2D([], [], color=s.colour, linestyle=_DASHES[s.dash], linewidth=2.2, label=label)
        )
    if target and any(c.metric in metrics for c in target.conditions):
        lines.append(
            Line2D([], [], color=TARGET_COLOUR, linestyle="--", label=f"target {target.name}")
        )
    columns = _columns([str(line.get_label()) for line in lines], figure.get_figwidth())
    figure.legend(handles=lines, loc="outside upper left", ncols=columns, frameon=False)


def _columns(labels: Sequence[str], inches: float) -> int:
    """As many as fit: a legend is as wide as it is, whatever the figure's width."""
    handle, letter = 0.7, 0.083
    for n in range(len(labels), 1, -1):
        # Filled column by column, the first ones higher by a row where they are not even.
        columns = np.array_split([len(label) for label in labels], n)
        if sum(handle + letter * column.max() for column in columns) <= inches:
            return n
    return 1
