"""Forgeries that keep to the form of a record: clocks, amounts, scores."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from verify_forge import Change, Events, edit, faults, runs, stretched

from wg.measure.clock import HEADLINE
from wg.sweep.verify import verify


def test_a_slower_machine_passes(sweep: Path) -> None:
    """What the forgeries of clocks start from is no fault."""
    for run in runs(sweep):
        edit(stretched)(run)
    assert "clock" not in faults(runs(sweep)[0])
    assert faults(runs(sweep)[0]) == ""


# -- clocks -------------------------------------------------------------------------------------


def clocked(found: Events) -> Events:
    stretched(found)
    return [e for e in found if "clock" in e]


def fewer_cpu_seconds(found: Events) -> None:
    for e in clocked(found):
        for section in HEADLINE:
            e["clock"][section]["cpu"] *= 0.2


def no_cpu_seconds(found: Events) -> None:
    for e in found:
        for section in HEADLINE if "clock" in e else ():
            e["clock"][section]["cpu"] *= 1e-4


def booked_as(section: str) -> Change:
    def change(found: Events) -> None:
        for e in clocked(found):
            for kind in ("wall", "cpu"):
                moved = 0.8 * e["clock"]["train"][kind]
                e["clock"]["train"][kind] -= moved
                e["clock"][section][kind] += moved

    return change


def no_lines(found: Events) -> Events:
    for e in clocked(found):
        for section in HEADLINE:
            for kind in ("wall", "cpu"):
                e["clock"][section][kind] *= 0.1
    return [e for e in found if e["event"] != "train"]


def a_line_less(found: Events) -> Events:
    return [e for e in found if not (e["event"] == "train" and e["step"] == 6)]


# -- amounts ------------------------------------------------------------------------------------


def half_of_the_steps(found: Events) -> None:
    for e in found:
        for name in ("step", "samples_seen"):
            if name in e:
                e[name] //= 2
        if "audio_seconds" in e:
            e["audio_seconds"] = round(e["audio_seconds"] / 2, 6)


def fewer_steps_of_more(found: Events) -> None:
    for e in found:
        if "step" in e:
            e["step"] //= 2


def fewer_flops(found: Events) -> None:
    for e in found:
        if "model_flops" in e:
            e["model_flops"] //= 2


def no_snapshot(found: Events) -> Events:
    return [e for e in found if e.get("index") != 1]


def other_ranks(found: Events) -> None:
    found[0]["ranks"] = 4


# -- scores -------------------------------------------------------------------------------------


def scored(found: Events) -> Events:
    return [e for e in found if e["event"] == "score"]


def unfounded_metric(found: Events) -> None:
    for e in scored(found):
        e["metrics"]["log_mel_l1"] *= 0.5
        for each in e["utterances"].values():
            del each["log_mel_l1"]


def no_utterances(found: Events) -> None:
    for e in scored(found):
        e["metrics"]["log_mel_l1"] *= 0.5
        e["utterances"] = {}


def the_easy_one(found: Events) -> None:
    for e in scored(found):
        name = sorted(e["utterances"])[0]
        e["utterances"] = {name: e["utterances"][name]}
        e["metrics"] = dict(e["utterances"][name])


def less_noise(found: Events) -> None:
    for e in scored(found):
        e["sigma"] = 0.6


def no_held_out(found: Events) -> Events:
    return [e for e in found if e.get("set") != "held_out"]


def half_held_out(found: Events) -> None:
    for e in scored(found):
        if e["set"] == "held_out":
            del e["metrics"]["log_mel_l1"]
            for each in e["utterances"].values():
                del each["log_mel_l1"]


# -- what it says of itself ---------------------------------------------------------------------


def only_a_system_strategy(found: Events) -> None:
    for e in found:
        if e["event"] == "start":
            e["strategies"] = dict.fromkeys(e["strategies"], "system")


def another_device(found: Events) -> None:
    found[0]["clock_kind"] = "wall"


# What is forged -> (how, what is said of it), of the run with a strategy.
RECORDS: dict[str, tuple[Change, str]] = {
    "CPU seconds too few for the wall": (fewer_cpu_seconds, "its CPU seconds are too few"),
    "CPU seconds that no thread can have": (no_cpu_seconds, "that any thread computes"),
    "training booked as logging": (booked_as("log"), "lines of the log took"),
    "training booked as saving": (booked_as("checkpoint"), r"clock checkpoint \(wall\) grew"),
    "training booked as loading": (booked_as("init"), r"clock init \(cpu\) grew"),
    "no lines, clocks of a tenth": (no_lines, "training took longer than is said"),
    "no lines": (no_lines, "12 lines of the log are missing"),
    "a line less": (a_line_less, r"1 lines of the log are missing .*\(steps 6\)"),
    "half of the steps": (half_of_the_steps, "it finished after"),
    "fewer steps, as much audio": (fewer_steps_of_more, "of step 2 has seen 16384 samples"),
    "fewer model FLOPs": (fewer_flops, "model FLOPs, and should"),
    "no second snapshot": (no_snapshot, "snapshots 1 are missing"),
    "more ranks": (other_ranks, "it ran on 4 ranks"),
    "a mean of nothing": (unfounded_metric, "and its utterances have other metrics"),
    "no utterances": (no_utterances, "names no utterances"),
    "the easy utterance": (the_easy_one, "heard 1 utterances, and the split has 2"),
    "less noise": (less_noise, "is of sigma 0.6"),
    "no held-out score": (no_held_out, "no score on the held-out set"),
    "a held-out metric less": (half_held_out, "has log_mel_l1 on one set only"),
    "a kind of strategy": (only_a_system_strategy, "it is algorithm"),
    "another clock": (another_device, "charged wall seconds"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_forged_record_is_caught(name: str, sweep: Path) -> None:
    change, sentence = RECORDS[name]
    run = next(r for r in runs(sweep) if "\n  clip:" in (r / "config.yaml").read_text())
    edit(change)(run)
    found = verify(run)[run.name].faults
    assert any(re.search(sentence, f) for f in found), found


def test_seeds_of_an_arm_cost_the_same(sweep: Path) -> None:
    # Far less than a busy machine can make between two honest runs of a few milliseconds a step.
    edit(no_cpu_seconds)(runs(sweep)[0])
    for run in runs(sweep)[1:]:
        edit(stretched)(run)
    found = verify(sweep)["t as a sweep"].faults
    assert any("times the CPU seconds of" in f for f in found), found


def test_runs_are_scored_on_the_same_speech(sweep: Path) -> None:
    edit(the_easy_one)(runs(sweep)[0])
    found = verify(sweep)["t as a sweep"].faults
    assert sum("different" in f and "utterances" in f for f in found) == 2, found
