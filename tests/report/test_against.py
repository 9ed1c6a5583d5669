"""A repetition of a study, held against its committed results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.known_sweeps import MISSING_IT, WriteRun, falling
from wg.errors import UserError
from wg.report.against import against_of, lines_of, read_earlier
from wg.report.build import write_report


def results(sweep: Path, out: Path) -> dict[str, Any]:
    write_report(sweep, out, say=lambda text: None)
    return read_earlier(out / "results.json")


@pytest.fixture
def earlier(sweep: Path, tmp_path: Path) -> dict[str, Any]:
    """nvidia 25, 50, 25 s to the target; fast half of it or less."""
    return results(sweep, tmp_path / "earlier")


def test_one_arm_again(earlier: dict[str, Any], tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "again", "nvidia", 7, falling(13.0))
    found = against_of(results(tmp_path / "again", tmp_path / "r"), earlier)
    assert found["agrees"]
    assert found["only_there"] == ["fast"]
    assert found["only_here"] == []
    assert found["machines"] is found["target"] is None
    seconds = found["arms"]["nvidia"]["measures"]["seconds to target"]
    assert seconds["ratio"] == pytest.approx(32.5 / (25 * 50 * 25) ** (1 / 3))
    assert seconds["low"] < seconds["ratio"] < seconds["high"]
    audio = found["arms"]["nvidia"]["measures"]["audio seconds to target"]
    assert (audio["ratio"], audio["agrees"]) == (pytest.approx(1.0), True)
    text = "\n".join(lines_of(found))
    assert "nvidia: seconds to target: 1.032 times the earlier, by chance" in text
    assert text.count("agrees") == 4


def test_an_arm_that_has_become_slow_differs(
    earlier: dict[str, Any], tmp_path: Path, write_run: WriteRun
) -> None:
    for seed in range(3):
        write_run(tmp_path / "again", "nvidia", seed, falling(200.0 + 10 * seed))
    found = against_of(results(tmp_path / "again", tmp_path / "r"), earlier)
    assert not found["agrees"]
    measures = found["arms"]["nvidia"]["measures"]
    assert not measures["seconds to target"]["agrees"]
    assert measures["log_mel_l1 at the end"]["agrees"]
    # 500, 525 and 550 s against 25, 50 and 25.
    assert "seconds to target: 16.655 times the earlier" in "\n".join(lines_of(found))
    assert "DIFFERS" in "\n".join(lines_of(found))


def test_a_miss_now_and_none_then_differs(
    earlier: dict[str, Any], tmp_path: Path, write_run: WriteRun
) -> None:
    write_run(tmp_path / "again", "nvidia", 0, MISSING_IT)
    found = against_of(results(tmp_path / "again", tmp_path / "r"), earlier)
    seconds = found["arms"]["nvidia"]["measures"]["seconds to target"]
    assert seconds["agrees"] is False
    assert seconds["note"] == "missed by 0 of 3 then, by 1 of 1 now"


def test_what_cannot_be_compared_is_said(
    earlier: dict[str, Any], tmp_path: Path, write_run: WriteRun
) -> None:
    """Another target, another machine: quality at the end is left."""
    other = {"name": "t2", "conditions": {"log_mel_l1": 0.9}}
    machine = {"cpu": "another CPU", "cores": 8}
    write_run(tmp_path / "a", "nvidia", 0, falling(10.0), target=other, start={"machine": machine})
    found = against_of(results(tmp_path / "a", tmp_path / "r"), earlier)
    assert found["target"] == "the earlier target is t1 and this one's is t2: name it with --target"
    assert found["machines"] == "a CPU, 2 cores then, another CPU, 8 cores now"
    assert [m for m in found["arms"]["nvidia"]["measures"] if "target" in m] == []


def test_an_arm_with_other_settings_is_another_arm(
    earlier: dict[str, Any], tmp_path: Path, write_run: WriteRun
) -> None:
    write_run(tmp_path / "a", "nvidia", 0, falling(10.0), strategies={"clip": {"max_norm": 1}})
    write_report(tmp_path / "a", tmp_path / "r", baseline="nvidia", say=lambda text: None)
    with pytest.raises(UserError, match="no arm is in both"):
        against_of(read_earlier(tmp_path / "r" / "results.json"), earlier)


def test_files_that_are_no_results(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_earlier(tmp_path / "results.json")
    (tmp_path / "results.json").write_text(json.dumps({"arms": 1}))
    with pytest.raises(UserError, match=r"is no results\.json"):
        read_earlier(tmp_path / "results.json")
