"""The record: append-only, readable after a kill, the later attempt counting."""

from __future__ import annotations

import threading
from pathlib import Path

from wg.measure.clock import SECTIONS
from wg.measure.record import (
    Record,
    last_clock,
    read_events,
    scale_ends,
    scores,
    snapshots,
    status,
    train_curve,
)


def test_events_are_numbered_by_attempt(tmp_path: Path) -> None:
    assert status(read_events(tmp_path)) == "new"
    Record(tmp_path).write("start", run="r")
    assert status(read_events(tmp_path)) == "running"
    second = Record(tmp_path)
    second.write("start", run="r")
    second.write("end", status="finished", reason="")
    assert [e["attempt"] for e in read_events(tmp_path)] == [1, 2, 2]
    assert status(read_events(tmp_path)) == "finished"


def test_half_a_line_is_left_out_and_left_behind(tmp_path: Path) -> None:
    Record(tmp_path).write("start", run="r")
    with open(tmp_path / "events.jsonl", "a") as f:
        f.write('{"event": "train", "st')  # killed here
    assert len(read_events(tmp_path)) == 1
    Record(tmp_path).write("start", run="r")
    assert [e["event"] for e in read_events(tmp_path)] == ["start", "start"]


def test_numbers_that_are_none_become_null(tmp_path: Path) -> None:
    Record(tmp_path).write("score", index=0, set="grid", metrics={"a": float("nan"), "b": 1.5})
    assert read_events(tmp_path)[0]["metrics"] == {"a": None, "b": 1.5}


def test_the_later_attempt_counts(tmp_path: Path) -> None:
    first = Record(tmp_path)
    for step in (1, 2, 3):
        first.write(
            "train", step=step, loss=float(step), clock={"train": {"wall": step, "cpu": step}}
        )
    first.write("snapshot", index=0, sha256="a")
    second = Record(tmp_path)
    second.write("train", step=3, loss=30.0, clock={"train": {"wall": 8, "cpu": 9}})
    second.write("snapshot", index=0, sha256="b")
    second.write("score", index=0, set="grid", metrics={})
    events = read_events(tmp_path)
    assert [e["loss"] for e in train_curve(events)] == [1, 2, 30]
    assert [e["sha256"] for e in snapshots(events)] == ["b"]
    assert len(scores(events, "grid")) == 1
    assert not scores(events, "held_out")
    # What a crash threw away stays charged, and a rank's own smaller clock takes nothing back.
    first.write("end", status="interrupted", reason="", clock={"train": {"wall": 9, "cpu": 2}})
    assert last_clock(read_events(tmp_path)) == {"train": {"wall": 9, "cpu": 9}}


def scored(sha: str, metrics: dict, sigma: float = 1.0, **utterances: dict) -> dict:
    return {
        "index": 3, "set": "grid", "sha256": sha, "sigma": sigma, "metrics": metrics,
        "utterances": utterances,
    }  # fmt: skip


def test_a_later_score_adds_its_metrics(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.write("score", **scored("a", {"x": 1.0, "y": None}, u={"x": 1.0, "y": None}))
    record.write("score", **scored("a", {"z": 3.0}, u={"z": 3.0}))
    record.write("score", **scored("a", {"x": 2.0}, u={"x": 2.0}))
    (both,) = scores(read_events(tmp_path), "grid")
    assert both["metrics"] == {"x": 2.0, "y": None, "z": 3.0}
    assert both["utterances"] == {"u": both["metrics"]}


def test_scores_of_other_weights_noise_or_speech_are_not_mixed(tmp_path: Path) -> None:
    others = (
        scored("b", {"z": 3.0}, u={"z": 3.0}),
        scored("a", {"z": 3.0}, 0.6, u={"z": 3.0}),
        scored("a", {"z": 3.0}, u={"z": 3.0}, v={"z": 3.0}),
    )
    for i, other in enumerate(others):
        (tmp_path / str(i)).mkdir()
        record = Record(tmp_path / str(i))
        record.write("score", **scored("a", {"x": 1.0}, u={"x": 1.0}))
        record.write("score", **other)
        (last,) = scores(read_events(tmp_path / str(i)), "grid")
        assert last["metrics"] == {"z": 3.0}


def test_ends_add_up(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.write("ends", set="held_out", ends={"ground_truth": {"x": 0.0}, "noise": {"x": 2.0}})
    record.write("ends", set="held_out", ends={"ground_truth": {"y": float("nan")}})
    assert scale_ends(read_events(tmp_path)) == {
        "ground_truth": {"x": 0.0, "y": None},
        "noise": {"x": 2.0},
    }


def test_listeners_hear_what_is_on_disk(tmp_path: Path) -> None:
    heard: list[dict] = []
    record = Record(tmp_path, [heard.append])
    record.write("train", step=1, loss=float("inf"))
    assert heard == read_events(tmp_path)


def even(seconds: float) -> dict[str, dict[str, float]]:
    """A clock with as many seconds everywhere."""
    return {s: {"wall": seconds, "cpu": seconds} for s in SECTIONS}


def test_an_attempt_goes_on_from_a_ledgers_line(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.write("ledger", section="compile", spent=even(5.0))
    assert last_clock(read_events(tmp_path)) == even(5.0)
    # A reading from before another event's, written after it, takes nothing back either.
    record.write("snapshot", index=0, clock=even(7.0))
    assert record.write("ledger", section=None, spent=even(6.0))["spent"] == even(7.0)
    assert Record(tmp_path).write("trained", clock=even(1.0))["clock"] == even(7.0)


def test_only_totals_count_as_time_written_down(tmp_path: Path) -> None:
    record = Record(tmp_path)
    before = record.written
    record.write("micro_batch", segments=1, of=2)
    assert record.written == before
    record.write("clock", step=1, clock=even(1.0))
    assert record.written > before


def test_threads_write_one_after_the_other(tmp_path: Path) -> None:
    """Whole lines, and neither times nor clocks go back."""
    heard: list[dict] = []
    record = Record(tmp_path, [heard.append])

    def write(field: str, event: str) -> None:
        for i in range(100):
            record.write(event, **{field: even(float(i))}, text="x" * 10000)

    threads = [
        threading.Thread(target=write, args=how)
        for how in (("clock", "clock"), ("spent", "ledger"), ("spent", "ledger"))
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    events = read_events(tmp_path)
    assert len(record.path.read_text().splitlines()) == len(events) == 300
    assert heard == events
    for seconds in (
        [e["time"] for e in events],
        [(e.get("clock") or e["spent"])["eval"]["cpu"] for e in events],
    ):
        assert seconds == sorted(seconds)


def test_clocks_never_fall(tmp_path: Path) -> None:
    """Rank 0 writes the maximum over ranks at a snapshot, and only its own at the end."""

    def clock(train: float, log: float) -> dict[str, dict[str, float]]:
        both = {"train": train, "log": log}
        return {s: {"wall": both.get(s, 0.0), "cpu": both.get(s, 0.0)} for s in SECTIONS}

    record = Record(tmp_path)
    record.write("snapshot", index=0, clock=clock(2.7, 0.1))
    record.write("trained", clock=clock(2.3, 0.2))
    record.write("train", step=1, clock=clock(3.0, 0.2))
    Record(tmp_path).write("start", clock=clock(1.0, 0.0))
    seen = [(e["clock"]["train"]["wall"], e["clock"]["log"]["cpu"]) for e in read_events(tmp_path)]
    assert seen == [(2.7, 0.1), (2.7, 0.2), (3.0, 0.2), (3.0, 0.2)]
