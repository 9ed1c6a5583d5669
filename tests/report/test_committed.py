"""The committed studies: their records pass `wg verify`, and give the committed figures again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from wg.report.build import write_report
from wg.report.propose import read_target
from wg.sweep.paths import conf_dir
from wg.sweep.verify import verify

REPORTS = Path(__file__).resolve().parents[2] / "reports"
ON_ANOTHER_GRID = "runs differ in snapshot grids"
# Records: (the results made from them, the target, the baseline, how a fault of the sweep begins).
STUDIES: dict[str, tuple[str, str, str | None, str | None]] = {
    "reference/runs": ("reference/results.json", "asterisk-840s", None, None),
    "reference/mended/runs": ("reference/mended/results.json", "asterisk-840s", None, None),
    "reference/parts/runs": (
        "reference/parts/asterisk-60s-nats.json", "asterisk-60s-nats", "cheap-parts", None,
    ),
    "catalogue/runs": ("catalogue/600cpu/results.json", "nvidia-600cpu", None, ON_ANOTHER_GRID),
    "recipes/runs": ("recipes/results.json", "nvidia-450s", None, ON_ANOTHER_GRID),
    "ear/runs": ("ear/results.json", "hear-1.6", "nvidia +[mel_consistency]", None),
    "lasting/it/runs": ("lasting/it/results.json", "nvidia-600cpu", None, None),
    "lasting/lj/runs": ("lasting/lj/results.json", "nvidia-600cpu", None, None),
    "members/runs": ("members/results.json", "asterisk-60s-nats", None, None),
    "prediction_order/runs": (
        "prediction_order/results.json", "small-hard", "predict lpc_whiten.order=32", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("study", STUDIES)
def test_its_records_pass(study: str) -> None:
    known = STUDIES[study][3]
    found = verify(REPORTS / study)
    faults = [fault for verdict in found.values() for fault in verdict.faults]
    assert len(found) > 4
    if known is None:
        assert faults == []
    else:
        assert len(faults) == 1
        assert faults[0].startswith(known)


@pytest.mark.parametrize("study", STUDIES)
def test_its_records_give_its_figures(study: str, tmp_path: Path) -> None:
    results, target, baseline, _ = STUDIES[study]
    mapping = read_target(target, conf_dir() / "target")
    page = write_report(REPORTS / study, tmp_path, baseline, lambda _: None, mapping)
    now = json.loads((page.parent / "results.json").read_text())
    then = json.loads((REPORTS / results).read_text())
    assert now["target"]["conditions"] == then["target"]["conditions"]
    assert now["ranking"] == then["ranking"]
    assert len(now["arms"]) == len(then["arms"])
    for arm, was in figures(then).items():
        found = figures(now)[arm]
        # Metrics may have come since.
        found["final"] = {m: v for m, v in found["final"].items() if m in was["final"]}
        assert found == near(was)
    if then.get("lasting"):  # studies whose question it is
        assert now["lasting"] == near(then["lasting"])


def test_the_long_baseline_gives_its_figures(tmp_path: Path) -> None:
    """One long run of the baseline beside the other arms' records, which are committed once."""
    study = REPORTS / "lasting" / "it"
    [long] = (study / "long").glob("nvidia-*")
    others = [run for run in (study / "runs").glob("*-s0-*") if not run.name.startswith("nvidia")]
    assert len(others) == 3
    for run in (long, *others):
        shutil.copytree(run, tmp_path / "runs" / run.name)
    assert verify(tmp_path / "runs")[long.name].faults == []
    target = read_target("nvidia-600cpu", conf_dir() / "target")
    page = write_report(tmp_path / "runs", tmp_path / "page", None, lambda _: None, target)
    now = json.loads((page.parent / "results.json").read_text())
    then = json.loads((study / "long" / "results.json").read_text())
    assert now["lasting"] == near(then["lasting"])
    assert then["lasting"]["arms"]["cheap"]["at_least"]["estimate"] > 70
    assert figures(now) == near(figures(then))


def near(figures: Any) -> Any:
    """What the same figures equal wherever they are computed: the last digits of a mean, a
    logarithm and a quantile are the libraries' and the machine's own."""
    if isinstance(figures, dict):
        return {key: near(value) for key, value in figures.items()}
    if isinstance(figures, list):
        return [near(value) for value in figures]
    return pytest.approx(figures, rel=1e-9) if isinstance(figures, float) else figures


def figures(results: dict[str, Any]) -> dict[str, Any]:
    """What a study is quoted for."""
    found = {}
    for arm in results["arms"]:
        times, speed = arm["time_to_target"], arm["speed_up"]
        found[arm["arm"]] = {
            "seconds": times["seconds"],
            "missed": times["missed"],
            "speed_up": speed and [speed[k] for k in ("estimate", "low", "high", "bound")],
            "final": {m: v["mean"] for m, v in arm["final"].items()},
        }
    return found
