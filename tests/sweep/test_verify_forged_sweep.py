"""Forgeries of a sweep whose runs pass one by one: arms, copies, throughput, what was begun."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml
from verify_forge import Events, edit, events, faults, main_exit, runs, write
from verify_forge_whole import paced, reconfigured

from wg.sweep.planned import FILE, read_planned
from wg.sweep.verify import verify
from wg.sweep.verify_throughput import FILE as THROUGHPUT


def of_sweep(sweep: Path) -> tuple[str, str]:
    """(faults, notes) of the sweep itself."""
    verdict = verify(sweep)["t as a sweep"]
    return "\n".join(verdict.faults), "\n".join(verdict.notes)


def arm_of(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["arm"])


def clipped(sweep: Path) -> list[Path]:
    return [r for r in runs(sweep) if "[clip]" in arm_of(r)]


def record_alone(run: Path) -> None:
    for folder in ("snapshots", "samples", "final"):
        shutil.rmtree(run / folder, ignore_errors=True)


# -- arms ---------------------------------------------------------------------------------------

Settings = dict[str, Any]
MIXED: dict[str, tuple[Callable[[Settings], Any], str]] = {
    "a strategy's setting": (
        lambda c: c["strategy"]["clip"].update(max_norm=0.5),
        "strategy.clip.max_norm is",
    ),
    "a strategy more": (lambda c: c["strategy"].update(adamw={"lr": 1e-3}), "strategy.adamw."),
    "sigma": (lambda c: c.update(sigma=0.7), "sigma is"),
    "the model": (lambda c: c["model"].update(n_channels=12), "model.n_channels is"),
    "the budget": (lambda c: c["budget"].update(train_seconds=9), "budget.train_seconds is"),
    "the threads": (lambda c: c.update(threads=2), "threads is"),
}


@pytest.mark.parametrize("name", MIXED)
def test_an_arm_is_one_recipe(name: str, sweep: Path) -> None:
    change, sentence = MIXED[name]
    a, b = clipped(sweep)
    other = reconfigured(b, change)
    found, _ = of_sweep(sweep)
    assert "is more than one recipe: " + sentence in found, found
    assert a.name in found
    assert other.name in found


def test_what_says_nothing_of_an_arm_may_differ(sweep: Path) -> None:
    """Seed, places, and settings that are what they are by default."""

    def elsewhere(config: Settings) -> None:
        config["data"]["path"] = "/elsewhere"
        config["strategy"]["clip"] = {"max_norm": 10.0}
        del config["data"]["silence_db"]
        config["target"] = {"name": "none", "conditions": {}}

    (run, *_) = clipped(sweep)
    before = yaml.safe_load((run / "config.yaml").read_text())["strategy"]["clip"]
    assert before.get("max_norm", 10.0) == 10.0
    shutil.copyfile(sweep / FILE, sweep / "before")
    reconfigured(run, elsewhere)
    (sweep / FILE).unlink()
    assert of_sweep(sweep)[0] == ""


@pytest.mark.parametrize(
    ("change", "fault", "note"),
    [
        (lambda c: c["data"].update(held_out_min_seconds=0.5), "data.held_out_min_seconds", ""),
        (lambda c: c["data"]["mel"].update(f_max=7000.0), "runs differ in data.mel.f_max", ""),
        (lambda c: c["data"].update(silence_db=-60.0), "", "runs differ in data.silence_db"),
        (lambda c: c.update(sigma=0.7), "", "runs differ in sigma: it is "),
    ],
)
def test_arms_are_scored_on_the_same_data(
    change: Callable[[Settings], Any], fault: str, note: str, sweep: Path
) -> None:
    for run in clipped(sweep):
        reconfigured(run, change)
    (sweep / FILE).unlink()
    found, notes = of_sweep(sweep)
    assert fault in found
    assert bool(fault) == bool(found), found
    assert note in notes


# -- copies -------------------------------------------------------------------------------------


def another_hash(found: Events) -> None:
    """Weights that nobody has any more, so that nobody can tell whose they are."""
    for e in found:
        e["time"] += 4000
        if "sha256" in e:
            e["sha256"] = e["sha256"][::-1]


def other_numbers(*kinds: str) -> Callable[[Events], None]:
    """In the last digits, of these kinds of events."""

    def change(found: Events) -> None:
        another_hash(found)
        for e in found:
            if e["event"] in kinds and e.get("loss") is not None:
                e["loss"] += 1e-7 * e["step"]
            for metrics in [e["metrics"], *e["utterances"].values()] if "metrics" in e else ():
                if e["event"] in kinds:
                    metrics.update({k: v + 1e-7 for k, v in metrics.items() if v is not None})
            if "clock" in kinds and "clock" in e:
                e["clock"]["train"]["wall"] += 1e-5

    return change


COPIES: dict[str, tuple[Callable[[Events], None], str]] = {
    "of all": (another_hash, "training losses to the last digit in common"),
    "but for losses": (other_numbers("train"), "scores to the last digit in common"),
    "but for all that is learned": (
        other_numbers("train", "score"),
        "seconds of training to the last digit in common",
    ),
    "but for scores and seconds": (other_numbers("score", "clock"), "12 of 12 training losses"),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_no_other_seed(name: str, sweep: Path) -> None:
    change, sentence = COPIES[name]
    run = runs(sweep)[0]
    copy = Path(shutil.copytree(run, sweep / run.name.replace("-s0-", "-s7-")))
    record_alone(copy)
    edit(change)(copy)
    copy = reconfigured(copy, lambda config: config.update(seed=7))
    assert faults(copy) == ""  # nothing is wrong with it alone
    found, _ = of_sweep(sweep)
    assert sentence in found, found


def test_arms_of_a_seed_may_have_the_same_losses(sweep: Path) -> None:
    """What makes nothing but time shorter changes no loss."""
    plain = next(r for r in runs(sweep) if r not in clipped(sweep))
    losses = {e["step"]: e["loss"] for e in events(plain) if e["event"] == "train"}
    same = next(r for r in clipped(sweep) if plain.name.split("-")[-2] in r.name)
    found = events(same)
    for e in found:
        if e["event"] == "train":
            e["loss"] = losses[e["step"]]
    write(same, found)
    assert "in common" not in of_sweep(sweep)[0]


# -- throughput ---------------------------------------------------------------------------------


def benched(sweep: Path) -> dict[str, Any]:
    """What `wg bench arms` would find of runs whose steps take two seconds."""
    start = events(runs(sweep)[0])[0]
    arms: dict[str, Any] = {}
    for run in runs(sweep):
        edit(paced)(run)
        lines = [e for e in events(run) if e["event"] == "train"]
        each = median(b["samples_seen"] - a["samples_seen"] for a, b in pairwise(lines))
        took = {"wall": 2.0, "cpu": 2.0}
        row = arms.setdefault(
            arm_of(run),
            {
                "run": run.name,
                "runs": [],
                "refused": None,
                "clock": "cpu",
                "sampling_rate": 16000,
                "phases": [{"steps": len(lines), "samples": each, "seconds": 2.0}],
                "raw": [{"gemm": took, "steps": [took]} for _ in range(3)],
                "audio_seconds_per_second": each / 16000 / 2.0,
            },
        )
        row["runs"].append(run.name)
    machine = {**start["machine"], "device": "cpu", "threads": 1}
    found = {"format": "wg-bench-arms/1", "machine": machine, "arms": arms}
    (sweep / THROUGHPUT).write_text(json.dumps(found))
    return found


def rebenched(sweep: Path, factor: float, whole: bool, only: str = "") -> None:
    found = json.loads((sweep / THROUGHPUT).read_text())
    for arm, row in found["arms"].items():
        if only not in arm:
            continue
        row["audio_seconds_per_second"] *= factor
        if whole:
            row["phases"][0]["seconds"] /= factor
            for turn in row["raw"]:
                turn["steps"] = [{k: v / factor for k, v in s.items()} for s in turn["steps"]]
    (sweep / THROUGHPUT).write_text(json.dumps(found))


def less_cpu(found: Events) -> None:
    for e in found:
        if "clock" in e:
            e["clock"]["train"]["cpu"] *= 0.5


def test_an_honest_bench_is_no_fault(sweep: Path) -> None:
    assert "no wg bench arms: CPU seconds rest on the runs' own clocks" in of_sweep(sweep)[1]
    benched(sweep)
    found, notes = of_sweep(sweep)
    assert "wg bench arms" not in found + notes, found + notes


@pytest.mark.parametrize("own", [1, 2])
def test_half_of_the_cpu_seconds_is_not_what_was_benched(own: int, sweep: Path) -> None:
    """Of one run, and of all runs of an arm."""
    benched(sweep)
    for run in clipped(sweep)[:own]:
        edit(less_cpu)(run)
    found, _ = of_sweep(sweep)
    for run in clipped(sweep)[:own]:
        assert f"{run.name} took 0.50 times the CPU seconds" in found, found
    arm = f"arm {arm_of(clipped(sweep)[0])} took 0.50 times the seconds that wg bench arms has"
    assert (arm in found) == (own == 2), found


@pytest.mark.parametrize(
    ("factor", "whole", "only", "sentence"),
    [
        (10.0, True, "", "took 10.00 times the CPU seconds that wg bench arms measured"),
        (10.0, False, "", "is not what its raw seconds give"),
        (1.8, True, "clip", "took 1.80 times the seconds that wg bench arms has for it, relative"),
    ],
)
def test_a_changed_bench_is_caught(
    factor: float, whole: bool, only: str, sentence: str, sweep: Path
) -> None:
    benched(sweep)
    rebenched(sweep, factor, whole, only)
    assert sentence in of_sweep(sweep)[0]


def test_a_bench_of_something_else_is_told(sweep: Path) -> None:
    found = benched(sweep)
    found["machine"]["cpu"] = "another"
    (sweep / THROUGHPUT).write_text(json.dumps(found))
    assert "wg bench arms was made on another machine than 4 runs" in of_sweep(sweep)[1]
    found["machine"] = {**events(runs(sweep)[0])[0]["machine"], "device": "cpu", "threads": 1}
    arm = arm_of(clipped(sweep)[0])
    found["arms"][arm]["refused"] = "it takes several processes"
    (sweep / THROUGHPUT).write_text(json.dumps(found))
    assert f"wg bench arms has no {arm}: " in of_sweep(sweep)[1]
    (sweep / THROUGHPUT).write_text("{}")
    assert "throughput.json is damaged" in of_sweep(sweep)[0]


# -- what was begun -----------------------------------------------------------------------------


def test_a_run_that_was_begun_has_to_be_shown(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, damaged = read_planned(sweep)
    assert not damaged
    assert sorted(r["run"] for r in rows) == [r.name for r in runs(sweep)]
    lost = clipped(sweep)[1]
    shutil.rmtree(lost)
    found, notes = of_sweep(sweep)
    assert f"planned.jsonl has {lost.name}, which is not here" in found
    assert "arms have different seeds (" in notes
    assert re.search(r"\+\[clip\] .*lacks 1\)", notes)
    main_exit(["verify", str(sweep)], 1)
    main_exit(["runs", str(sweep)], 0)
    main_exit(["report", str(sweep), "--out", str(sweep.parent / "report")], 0)
    assert "planned" not in capsys.readouterr().out.replace("planned.jsonl has", "")
    (sweep / FILE).unlink()
    assert "planned.jsonl" not in of_sweep(sweep)[0]


def test_a_damaged_list_is_told(sweep: Path) -> None:
    with (sweep / FILE).open("a") as f:
        f.write('{"run": 5}\n')
    assert "line 5 of planned.jsonl names no run" in of_sweep(sweep)[0]
