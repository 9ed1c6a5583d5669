"""The picture of a report: what the records hold, on axes that can be read."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from tests.report.known_sweeps import WriteRun, falling
from wg.measure.target import Condition, Target
from wg.report.build import write_report
from wg.report.data import Arm
from wg.report.figures import styles
from wg.report.read import read_sweep
from wg.report.still import curves_figure, curves_png, left_end

AT_ONE = Target("t1", (Condition("log_mel_l1", 1.0),))


def test_every_metric_has_its_panel_with_every_seed_and_the_mean(sweep: Path) -> None:
    read = read_sweep(sweep)
    figure = curves_figure(read, AT_ONE, "process CPU seconds")
    assert figure is not None
    panels = {axes.get_title(loc="left").split()[0]: axes for axes in figure.axes}
    assert list(panels) == ["nats_per_sample", "log_mel_l1", "pesq_wb", "estoi", "mr_stft"]
    assert all(axes.get_xscale() == "log" for axes in panels.values())
    colours = {name: s.colour for name, s in styles(read).items()}
    drawn = panels["log_mel_l1"].get_lines()
    left = left_end(read)
    for name, arm in read.arms.items():
        thin = [x for x in drawn if x.get_color() == colours[name] and x.get_linewidth() < 1]
        (thick,) = [x for x in drawn if x.get_color() == colours[name] and x.get_linewidth() > 2]
        assert len(thin) == len(arm.finished) == 3
        for line, run in zip(thin, arm.finished, strict=True):
            at = [max(left, p.at["train_seconds"]) for p in run.points]
            np.testing.assert_allclose(line.get_xdata(), at)
            np.testing.assert_allclose(
                line.get_ydata(), [float(p.metrics["log_mel_l1"] or 0) for p in run.points]
            )
        np.testing.assert_allclose(
            thick.get_xdata(), np.mean([line.get_xdata() for line in thin], axis=0)
        )
        np.testing.assert_allclose(
            thick.get_ydata(), np.mean([line.get_ydata() for line in thin], axis=0)
        )
    (threshold,) = [x for x in drawn if x.get_color() not in colours.values()]
    assert set(threshold.get_ydata()) == {1.0}
    assert len(panels["estoi"].get_lines()) == len(drawn) - 1  # no threshold of the target
    said = [t.get_text() for t in figure.legends[0].get_texts()]
    assert said == ["nvidia (mean of 3 seeds)", "fast (mean of 3 seeds)", "target t1"]


def test_the_axis_begins_before_the_second_snapshot(tmp_path: Path, write_run: WriteRun) -> None:
    """The first is at or near nothing, which a logarithmic axis does not have."""
    for name, seconds in (("nvidia", 40.0), ("fast", 3.0)):
        write_run(tmp_path / "s", name, 0, [(0.0, 2.0), (seconds, 1.0)])
    assert left_end(read_sweep(tmp_path / "s")) == 1.0
    write_run(tmp_path / "s", "slow", 0, [(0.0, 2.0), (0.02, 1.5), (9.0, 1.0)])
    assert left_end(read_sweep(tmp_path / "s")) == pytest.approx(0.01)


def test_a_value_that_is_missing_is_a_gap(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "s", "nvidia", 0, [(0.0, 2.0), (5.0, None), (9.0, 1.0)])
    read = read_sweep(tmp_path / "s")
    figure = curves_figure(read, None, "wall seconds")
    assert figure is not None
    thin, thick = figure.axes[1].get_lines()
    assert [math.isnan(float(v)) for v in thin.get_ydata()] == [False, True, False]
    assert list(thick.get_ydata()) == [2.0, 1.0]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["nvidia (one seed)"]


def test_nothing_to_draw_is_no_picture(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "s", "nvidia", 0, [(0.0, 1.0), (5.0, 1.0)])
    read = read_sweep(tmp_path / "s")
    (run,) = read.arms["nvidia"].finished
    bare = replace(run, points=tuple(replace(p, metrics={}) for p in run.points))
    assert curves_png(replace(read, arms={"nvidia": Arm("nvidia", {0: bare})}), None, "") is None


def test_many_long_names_stay_within_the_picture(tmp_path: Path, write_run: WriteRun) -> None:
    for i in range(9):
        name = "nvidia" if i == 0 else f"an arm with a rather long name, number {i}"
        write_run(tmp_path / "s", name, 0, falling(10.0), strategies={name: {}})
    figure = curves_figure(read_sweep(tmp_path / "s", "nvidia"), None, "process CPU seconds")
    assert figure is not None
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.get_window_extent().x1


def test_the_report_writes_it_and_the_same_twice(sweep: Path, tmp_path: Path) -> None:
    write_report(sweep, tmp_path / "report", say=lambda _: None)
    written = (tmp_path / "report" / "curves.png").read_bytes()
    height, width, _ = imread(io.BytesIO(written)).shape
    assert (width, height) == (1650, 350)
    again = curves_png(read_sweep(sweep), AT_ONE, "process CPU seconds")
    assert again == written
