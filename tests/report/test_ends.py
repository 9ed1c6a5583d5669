"""The ends of the scales on the page, nats without the Gaussian constant, budgets that differ."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.report.known_sweeps import TARGET, WriteRun, falling, reaching
from wg.audio.mel import MelConfig
from wg.flow.waveglow import gaussian_constant
from wg.measure.ends import _generators
from wg.measure.metrics import NO_CONSTANT
from wg.measure.record import Record
from wg.report.build import write_report
from wg.report.ends import LABELS
from wg.report.words import MISSING

MINUS = "\N{MINUS SIGN}"
ENDS: dict[str, dict[str, float | None]] = {
    "griffin_lim": {"log_mel_l1": 0.16, "pesq_wb": 2.4, "mcd": 5.5},
    "ground_truth": {"log_mel_l1": 0.0, "pesq_wb": 4.644, "mcd": None},
}


def report(sweep: Path, **how: Any) -> tuple[dict[str, Any], str, str]:
    """results.json, the page, table.md."""
    page = write_report(sweep, sweep.parent / "out", say=lambda _: None, **how)
    found: dict[str, Any] = json.loads((page.parent / "results.json").read_text())
    return found, page.read_text(), (page.parent / "table.md").read_text()


def cells(page: str, table: str, row: str) -> list[str]:
    """The texts of the cells of a table's row that begins with ``row``."""
    _, _, rest = page.partition(f'<table id="{table}">')
    inside, _, _ = rest.partition("</table>")
    for tr in re.findall(r"<tr.*?</tr>", inside, re.DOTALL):
        texts = [
            re.sub(r"<[^>]*>", " ", cell.replace("<wbr>", "").replace("&nbsp;", " ")).strip()
            for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", tr, re.DOTALL)
        ]
        if re.sub(r"^<[^>]*>", "", texts[0]).strip().startswith(row):
            return [" ".join(t.split()) for t in texts]
    raise AssertionError(f"no row {row}")


def first_run(sweep: Path) -> Path:
    return sorted(p.parent for p in sweep.glob("*/run.json"))[0]


# -- ends --------------------------------------------------------------------------------------


def test_ends_of_one_run_are_the_sweeps(sweep: Path) -> None:
    """Two events add up; the recordings come first and unknown names last."""
    record = Record(first_run(sweep))
    record.write("ends", set="held_out", ends={**ENDS, "later_kind": {"pesq_wb": 3.0}})
    record.write("ends", set="held_out", ends={"griffin_lim": {"stoi": 0.95}})
    r, page, table = report(sweep)
    assert list(r["ends"]) == ["ground_truth", "griffin_lim", "later_kind"]
    assert r["ends"]["griffin_lim"] == {**ENDS["griffin_lim"], "stoi": 0.95}
    assert r["ends"]["ground_truth"] == ENDS["ground_truth"]
    assert not [w for w in r["warnings"] if "ends of the scale" in w]
    header = [h.split()[0] for h in cells(page, "quality", "arm")]
    # mcd and stoi are of the ends alone, which have no likelihood
    assert {"mcd", "stoi"} < set(header)
    row = dict(zip(header, cells(page, "quality", "Griffin-Lim"), strict=True))
    assert row == {**dict.fromkeys(header, MISSING), "arm": "Griffin-Lim", "log_mel_l1": "0.160",
                   "pesq_wb": "2.400", "mcd": "5.500", "stoi": "0.950"}  # fmt: skip
    assert cells(page, "quality", "recordings")[header.index("mcd")] == MISSING
    assert cells(page, "quality", "later_kind")[header.index("pesq_wb")] == "3.000"
    assert "wg score RUN --ends" not in page
    lines = table.splitlines()
    (mine,) = [line for line in lines if "end of the scale: Griffin-Lim" in line]
    assert mine.split(" | ")[-3:] == [MISSING, "0.160", "2.400 |"]
    columns = {line.count("|") for line in lines if line.startswith("|")}
    assert len(columns) == 1


def test_without_ends_there_is_a_hint(sweep: Path) -> None:
    r, page, table = report(sweep)
    assert r["ends"] == {}
    assert page.count("wg score RUN --ends") == 1
    assert "ends of the scale</th>" not in page
    assert "end of the scale" not in table


@pytest.mark.parametrize(("by", "told"), [(1e-5, False), (0.05, True)])
def test_runs_that_disagree_are_told(sweep: Path, by: float, told: bool) -> None:
    runs = sorted(p.parent for p in sweep.glob("*/run.json"))
    Record(runs[0]).write("ends", set="held_out", ends=ENDS)
    other = {"griffin_lim": {"log_mel_l1": 0.16 + by}, "ground_truth": {"mcd": 0.0}}
    Record(runs[1]).write("ends", set="held_out", ends=other)
    r, *_ = report(sweep)
    assert r["ends"]["griffin_lim"]["log_mel_l1"] == 0.16
    assert r["ends"]["ground_truth"]["mcd"] == 0.0  # which the first had no answer to
    found = [w for w in r["warnings"] if "ends of the scale" in w]
    assert len(found) == told
    if told:
        assert f"log_mel_l1 of Griffin-Lim is 0.16 by {runs[0].name}, 0.21 by" in found[0]


def test_every_end_has_its_words() -> None:
    assert set(LABELS) == set(_generators(MelConfig()))


# -- nats without the constant -------------------------------------------------------------------


def test_nats_without_the_constant_are_of_the_runs_own_sigma(
    tmp_path: Path, write_run: WriteRun
) -> None:
    """Of the likelihood's sigma, which is not that of the noise; the record lacks them."""
    folder = tmp_path / "s"
    noise = {"sigma": 0.6, "grid_seconds": 12, "samples": 0}
    write_run(folder, "nvidia", 0, falling(10), config={"evaluation": noise})
    write_run(folder, "fast", 0, falling(5), config={"sigma": 0.7, "evaluation": noise})
    assert NO_CONSTANT not in (first_run(folder) / "events.jsonl").read_text()
    r, page, _ = report(folder)
    nats = 0.25 - 4

    def expected_of(sigma: float) -> float:
        return nats - gaussian_constant(sigma)

    for arm in r["arms"]:
        sigma = {"nvidia": 1.0, "fast": 0.7}[arm["arm"]]
        assert arm["final"]["nats_per_sample"]["mean"] == pytest.approx(nats)
        expected = expected_of(sigma)
        assert arm["final"][NO_CONSTANT]["mean"] == pytest.approx(expected, abs=1e-12)
        shown = [c.replace(MINUS, "-") for c in cells(page, "quality", arm["arm"])]
        assert shown[1:3] == [f"{v:.3f}" for v in (nats, expected)]
    assert [h.split()[0] for h in cells(page, "quality", "arm")[1:3]] == [
        "nats_per_sample", NO_CONSTANT,
    ]  # fmt: skip
    assert r["metrics"][NO_CONSTANT]["unit"] == "nats/sample"
    assert r["sigmas"] == [0.7, 1.0]
    assert f'<td class="nowrap best">{MINUS}{-expected_of(1.0):.3f}' not in page
    assert f'<td class="nowrap best">{MINUS}{-nats:.3f}' in page
    (warning,) = [w for w in r["warnings"] if "sigma of the likelihood" in w]
    assert "(0.7, 1.0)" in warning
    (unscored,) = [w for w in r["warnings"] if "constant" in w]
    assert unscored == warning  # nobody is asked to score what nothing scores


def test_where_there_are_no_nats_there_are_none_without_the_constant(sweep: Path) -> None:
    """An utterance without a likelihood leaves both unknown."""
    run = first_run(sweep)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    for e in events:
        if e["event"] == "score" and e["set"] == "held_out":
            e["metrics"]["nats_per_sample"] = None
    (run / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    r, *_ = report(sweep)
    (fast,) = [a for a in r["arms"] if a["arm"] == "fast"]
    assert fast["final"][NO_CONSTANT]["mean"] is None
    assert fast["final"][NO_CONSTANT]["per_seed"]["0"] is None
    assert fast["final"][NO_CONSTANT]["per_seed"]["1"] == pytest.approx(
        -3.75 - 0.5 * math.log(2 * math.pi)
    )
    assert sum(NO_CONSTANT in w for w in r["warnings"]) == 0


def test_of_one_sigma_they_have_a_best_arm(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "s", "nvidia", 0, falling(10))
    write_run(tmp_path / "s", "fast", 0, [*falling(5)[:-1], (20.0, 0.125)])
    r, page, _ = report(tmp_path / "s")
    assert r["sigmas"] == [1.0]
    assert f'<td class="nowrap best">{MINUS}4.794</td>' in page
    assert not [w for w in r["warnings"] if "sigma of the likelihood" in w]


# -- budgets -----------------------------------------------------------------------------------


def test_budgets_that_differ_stand_in_the_table(tmp_path: Path, write_run: WriteRun) -> None:
    folder = tmp_path / "s"
    for seed in range(3):
        write_run(folder, "nvidia", seed, reaching(10))
        limit = {"budget": {"audio_seconds": 60.0, "train_seconds": 90.0}}
        write_run(folder, "fast", seed, reaching(5 + seed), config=limit)
    r, page, _ = report(folder, target=TARGET)
    by_name = {a["arm"]: a["budgets"] for a in r["arms"]}
    assert by_name == {
        "nvidia": [{"audio_seconds": 30.0, "train_seconds": None}],
        "fast": [{"audio_seconds": 60.0, "train_seconds": 90.0}],
    }
    assert cells(page, "good", "arm")[1] == "own budget"
    assert cells(page, "good", "fast")[1] == "60 audio s, at most 90.0 s of headline time"
    assert cells(page, "good", "nvidia")[1] == "30 audio s"
    assert "each arm's own budget" in page
    (limits,) = [w for w in r["warnings"] if "limits in train seconds" in w]
    assert "none: nvidia s0" in limits


def test_an_arms_own_runs_may_differ_in_budget(sweep: Path, write_run: WriteRun) -> None:
    write_run(sweep, "fast", 3, reaching(5))
    _, page, _ = report(sweep)
    assert cells(page, "good", "fast")[1] == "40 audio s or 30 audio s"
    assert cells(page, "good", "nvidia")[1] == "40 audio s"


def test_equal_budgets_are_not_repeated(sweep: Path) -> None:
    _, page, _ = report(sweep)
    assert "own budget" not in page
    assert cells(page, "good", "arm")[1] == "shown?"
