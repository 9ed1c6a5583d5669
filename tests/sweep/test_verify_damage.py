"""What is beside a record, or no record at all: damage, targets, donors, weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from verify_forge import Events, edit, events, faults, main_exit, runs

from wg.measure.clock import HEADLINE
from wg.measure.verify_schema import damage
from wg.sweep.verify import check_run, verify
from wg.sweep.verify_config import check_donor, check_target
from wg.sweep.verify_rescore import rescore
from wg.sweep.verify_subject import Subject, read_subject

Damage = Callable[[list[str]], None]


def on_line(n: int, change: Callable[[dict[str, Any]], Any]) -> Damage:
    def hurt(lines: list[str]) -> None:
        event = json.loads(lines[n])
        changed = change(event)
        lines[n] = json.dumps(event if changed is None else changed)

    return hurt


def cut(n: int) -> Damage:
    def hurt(lines: list[str]) -> None:
        lines[n] = lines[n][:100]

    return hurt


DAMAGE: dict[str, tuple[Damage, str]] = {
    "no samples": (on_line(2, lambda e: e.pop("samples_seen") and e), "without samples_seen"),
    "no attempt": (on_line(2, lambda e: e.pop("attempt") and e), "without attempt"),
    "no time": (on_line(3, lambda e: e.pop("time") and e), "without time"),
    "no clock": (on_line(2, lambda e: {**e, "clock": None}), "with clock=null"),
    "half a clock": (on_line(2, lambda e: e["clock"].pop("train") and e), "with clock="),
    "a number": (on_line(2, lambda e: 5), "line 3 of events.jsonl is no event: it is 5"),
    "null": (on_line(2, lambda e: {"a": 1}), "without event"),
    "words for steps": (on_line(2, lambda e: {**e, "step": "two"}), 'with step="two"'),
    "half a line": (cut(4), "line 5 of events.jsonl is cut"),
    "two half lines": (lambda x: (cut(4)(x), cut(7)(x))[0], "line 8 of events.jsonl is cut"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_a_fault_and_no_crash(name: str, sweep: Path) -> None:
    hurt, sentence = DAMAGE[name]
    path = runs(sweep)[0] / "events.jsonl"
    lines = path.read_text().splitlines()
    hurt(lines)
    path.write_text("\n".join(lines) + "\n")
    found = verify(sweep)[runs(sweep)[0].name].faults
    assert any(sentence in f for f in found), found
    assert len(found) == (2 if name == "two half lines" else 1)


def test_any_field_may_be_damaged(sweep: Path) -> None:
    """Whatever a field holds, there is a verdict and no traceback."""
    subject, _ = read_subject(runs(sweep)[0])
    assert subject is not None
    shutil.rmtree(subject.path / "final")  # nothing to hash
    kinds = {e["event"]: i for i, e in enumerate(subject.events)}
    damaged = passed = 0
    for i in kinds.values():
        for field in subject.events[i]:
            for value in (None, []):
                found = [*subject.events]
                found[i] = {**found[i], field: value}
                if damage(found[i]):
                    damaged += 1
                    continue
                passed += 1
                check_run(Subject(subject.path, subject.identity, subject.config, found))
                break
    assert damaged > 50
    assert passed > 20


def test_what_a_kill_leaves_is_no_fault(sweep: Path) -> None:
    """Half a line at the end, and before the attempt that goes on from the last snapshot."""
    run = runs(sweep)[0]
    found = events(run)
    saved = next(i for i, e in enumerate(found) if e["event"] == "snapshot" and e["index"] == 1)
    lost = json.dumps(found[saved + 1])[:60]
    again = [{**found[0], "time": found[saved]["time"] + 1.0}, *found[saved + 1 :]]
    for e in again:
        e["attempt"] = 2
    again[1:] = [{**e, "time": e["time"] + 2.0} for e in again[1:]]
    text = "".join(json.dumps(e) + "\n" for e in found[: saved + 1])
    text += lost + "\n" + "".join(json.dumps(e) + "\n" for e in again)
    (run / "events.jsonl").write_text(text)
    assert faults(run) == ""
    (run / "events.jsonl").write_text(text + '{"event": "sco')
    assert faults(run) == ""
    (run / "events.jsonl").write_text(text.replace(lost, lost[20:]))
    assert "is cut or is not JSON" in faults(run)


# -- target, donor, weights ---------------------------------------------------------------------

EASY = {"name": "nvidia-450s", "conditions": {"nats_per_sample": 0.0, "log_mel_l1": 9.0}}
FROZEN = {"name": "nvidia-450s", "conditions": {"nats_per_sample": -1.876, "log_mel_l1": 3.595}}
OWN = {"name": "my-own", "conditions": {"log_mel_l1": 1.0}}
TARGETS: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "as it is frozen": (FROZEN, FROZEN, "", ""),
    "an easier one": (EASY, EASY, "conf/target/nvidia-450s.yaml has", ""),
    "an easier one in run.json": (EASY, FROZEN, "in run.json and", ""),
    "two of one name": (OWN, {**OWN, "conditions": {}}, "in run.json and no condition", "none of"),
    "a newer one": (FROZEN, {"name": "none", "conditions": {}}, "", "is judged by 'nvidia-450s'"),
    "one of one's own": (OWN, OWN, "", "is none of conf/target"),
    "no metric": ({"name": "x", "conditions": {"beauty": 1}}, OWN, "no metric 'beauty'", ""),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_named_target_is_frozen(name: str) -> None:
    judged, began, fault, note = TARGETS[name]
    subject = Subject(Path("x"), {"target": judged}, {"target": began}, [])
    faulty, notes = check_target(subject)
    assert (fault in "\n".join(faulty)) if fault else not faulty
    assert note in "\n".join(notes)


def test_a_donor_costs_what_its_record_says(sweep: Path, honest: Path) -> None:
    donor = runs(honest)[0]
    end = events(donor)[-1]
    cost = sum(end["clock"][s]["cpu"] for s in HEADLINE)
    own = events(runs(sweep)[1])

    def found(seconds: float | None, path: Path = donor, **asked: Any) -> tuple[str, str]:
        given = {"donor": str(path), "donor_seconds": None, **asked}
        start = {**own[0], "time": end["time"] + 9}
        if seconds is not None:
            start["donor"] = {"path": str(path), "train_seconds": seconds, "sha256": None}
        config = {"strategy": {"warm_start": given}}
        faulty, notes = check_donor(Subject(sweep, {}, config, [start]))
        return "\n".join(faulty), "\n".join(notes)

    assert found(cost) == ("", "")
    assert found(cost, donor / "final") == ("", "")
    assert "its own record says" in found(cost / 2)[0]
    assert "its own record says" in found(cost / 2, donor_seconds=cost / 2)[0]
    assert "config.yaml has 9 s" in found(cost, donor_seconds=9)[0]
    assert found(9.0, donor_seconds=9) == ("", "")  # more than it cost is no advantage
    assert "no cost of it" in found(None)[0]
    faulty, notes = found(1.0, sweep / "gone")
    assert not faulty
    assert "not here" in notes


def test_a_record_without_weights_can_be_verified(sweep: Path) -> None:
    run = runs(sweep)[0]
    shutil.rmtree(run / "final")
    assert "final/ is missing" in faults(run)  # while the snapshot is there
    for folder in ("snapshots", "samples"):
        shutil.rmtree(run / folder)
    verdict = verify(run)[run.name]
    assert verdict.faults == []
    assert "its weights are not here, so their hashes were not checked" in verdict.notes


def diverged(found: Events) -> Events:
    """It went back to step 4, whose weights are kept, and ended."""
    at = next(i for i, e in enumerate(found) if e["event"] == "train" and e["step"] == 7)
    told = {k: found[at][k] for k in ("time", "attempt", "clock")}
    back = {"from_step": 8, "step": 4, "audio_seconds": 1.024, "snapshot": "snapshots/0001"}
    rollback = {"event": "rollback", **told, **back, "cause": "loss is not finite", "mend": "-"}
    end = {"event": "end", **told, "status": "failed", "reason": "diverged: loss"}
    return [*found[: at + 1], rollback, end]


def test_a_run_that_diverged_is_a_result(sweep: Path) -> None:
    run = runs(sweep)[0]
    for folder in ("snapshots", "samples", "final"):
        shutil.rmtree(run / folder)
    edit(diverged)(run)
    verdict = verify(run)[run.name]
    assert verdict.faults == []
    assert "it diverged at step 8: loss is not finite" in verdict.notes


def better_all_over(found: Events) -> None:
    """A metric, and all utterances of it: no check of the record alone can tell."""
    for e in (e for e in found if e["event"] == "score"):
        for metrics in (e["metrics"], *e["utterances"].values()):
            metrics["log_mel_l1"] *= 0.5


def test_only_weights_tell_of_scores_changed_together(
    sweep: Path, corpus_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs(sweep)[0]
    main_exit(["verify", "--rescore", str(run), "--data-path", str(corpus_dir)], 0)
    assert "scored again" in " ".join(capsys.readouterr().out.split())
    before = (run / "events.jsonl").read_bytes()
    edit(better_all_over)(run)
    assert faults(run) == ""
    forged = (run / "events.jsonl").read_bytes()
    assert forged != before
    found = rescore(run, "held_out", corpus_dir).faults
    assert any("log_mel_l1 of 2 held_out utterances is not what" in f for f in found), found
    assert any("mean of log_mel_l1" in f for f in found)
    assert (run / "events.jsonl").read_bytes() == forged  # nothing was written
