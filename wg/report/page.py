"""The page: results, figures and clips put into ``template.html``, one file without a request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from wg.measure.metrics import NO_CONSTANT, metric_info
from wg.measure.target import Condition, Target
from wg.report import words
from wg.report.data import Sweep
from wg.report.ends import LABELS
from wg.report.figures import KEY_METRICS, Style, quality_figure, speed_up_figure, styles
from wg.report.figures_evidence import profile_figure, survival_figure
from wg.report.listen import Utterance


def render(
    sweep: Sweep,
    results: Mapping[str, Any],
    utterances: Sequence[Utterance],
    missing: Sequence[str],
) -> str:
    """The whole page as HTML. Everything it shows is in ``results``, but for the clips."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("wg.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.tests["untrained"] = words.untrained
    env.tests["at_start"] = words.at_start
    env.filters.update(
        number=words.number,
        plain=lambda value: words.MISSING if value is None else f"{value:g}",
        seconds=words.seconds,
        scaled=words.scaled,
        factor=words.factor,
        interval=words.interval,
        budgets=words.budgets,
        breakable=lambda name: Markup("_<wbr>").join(name.split("_")),
        contribution=words.contribution,
        limits=words.limits,
        p=words.probability,
        mv=lambda value, metric: words.metric_value(metric, value),
        code=_code,
    )
    env.globals.update(metric_info=metric_info)
    style = styles(sweep)
    return env.get_template("template.html").render(
        r=results,
        arms=_ranked(results),
        by_name={a["arm"]: a for a in results["arms"]},
        mv=lambda value, metric: words.metric_value(metric, value),
        winner_id=next(
            run["id"]
            for a in results["arms"]
            for run in a["runs"]
            if a["arm"] == results["winner"]["arm"] and run["seed"] == results["winner"]["seed"]
        ),
        swatch=lambda arm: _swatch(style[arm]),
        final_metrics=_final_metrics(results),
        best=_best(results),
        ends_labels=LABELS,
        budgets_differ=_budgets_differ(results),
        has_donor=any(v for a in results["arms"] for v in a["donor_seconds"].values()),
        utterances=utterances,
        missing=missing,
        figures=Markup(_figures_json(sweep, results, style)),
        plotly_js=Markup(get_plotlyjs()),
    )


def _ranked(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    by_name = {a["arm"]: a for a in results["arms"]}
    return [by_name[n] for n in results["ranking"]]


def _figures_json(sweep: Sweep, results: Mapping[str, Any], style: Mapping[str, Style]) -> str:
    """``[{"id", "figure"}]`` as JSON that is safe inside a script element."""
    target = target_of(results)
    found: list[tuple[str, go.Figure | None]] = [
        ("speed-up", speed_up_figure(_ranked(results), style))
    ]
    found += [(f"curve-{m}", quality_figure(sweep, m, target, style)) for m in KEY_METRICS]
    evidence = results["evidence"] or {}
    if evidence.get("survival"):
        found.append(("survival", survival_figure(evidence["survival"], style)))
    if evidence.get("profile"):
        found.append(("profile", profile_figure(evidence["profile"], style)))
    shown = [
        {"id": name, "data": f["data"], "layout": _without_template(f["layout"])}
        for name, figure in found
        if figure is not None
        for f in [figure.to_plotly_json()]
    ]
    return json.dumps(shown, allow_nan=False).replace("<", "\\u003c")


def _without_template(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Plotly's default theme is not the page's."""
    return {k: v for k, v in layout.items() if k != "template"}


def target_of(results: Mapping[str, Any]) -> Target | None:
    """The headline's target, if there is one."""
    given = results["target"]
    if given is None:
        return None
    conditions = tuple(Condition(c["metric"], c["value"]) for c in given["conditions"])
    return Target(given["name"], conditions)


def _final_metrics(results: Mapping[str, Any]) -> list[str]:
    """Those of any arm or end, in the order of ``metrics``; those that it lacks come last."""
    found = dict.fromkeys(m for a in results["arms"] for m in a["final"])
    found |= dict.fromkeys(m for values in results["ends"].values() for m in values)
    known = [m for m in results["metrics"] if m in found]
    return known + [m for m in found if m not in known]


def _budgets_differ(results: Mapping[str, Any]) -> bool:
    budgets = [b for a in results["arms"] for b in a["budgets"]]
    return any(b != budgets[0] for b in budgets)


def _best(results: Mapping[str, Any]) -> dict[str, str]:
    """Metric -> the arm with the best mean, where there are arms to choose from."""
    best = {}
    for m in _final_metrics(results):
        if m == NO_CONSTANT and len(results["sigmas"]) > 1:
            continue  # it compares arms of one sigma alone
        means = {a["arm"]: a["final"][m]["mean"] for a in results["arms"] if m in a["final"]}
        known = {a: v for a, v in means.items() if v is not None}
        if len(known) > 1:
            best[m] = min(known, key=lambda a: (metric_info(m).best(known[a]), a))
    return best


def _swatch(s: Style) -> Markup:
    """A short line as the arm is drawn."""
    dashes = {"solid": "", "dash": "6 3", "dot": "2 3", "dashdot": "6 3 2 3"}[s.dash]
    return Markup(
        '<svg class="swatch" width="26" height="10" aria-hidden="true"><line x1="1" y1="5" '
        'x2="25" y2="5" stroke="{}" stroke-width="3" stroke-dasharray="{}"/></svg>'
    ).format(s.colour, dashes)


def _code(text: str) -> Markup:
    """Backticks as code elements."""
    parts = str(escape(text)).split("`")
    return Markup("".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts)))
