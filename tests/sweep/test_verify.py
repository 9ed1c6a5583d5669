"""``wg verify`` on real runs, and on forgeries of them: each is caught by name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from verify_forge import Change, Events, Forge, edit, events, faults, main_exit, runs, write

from wg.errors import UserError
from wg.sweep.verify import verify


def test_what_was_made_passes(honest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert faults(honest) == ""
    assert len(verify(honest)) == 5
    main_exit(["verify", str(honest)], 0)
    assert capsys.readouterr().out.count("PASS") == 5


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a run nor a sweep"):
        verify(tmp_path)


def refused(found: Events) -> Events:
    """As where data.path names no folder: nothing but the end."""
    end = {**found[-1], "status": "refused", "reason": "data.path=x is not a folder."}
    return [end]


def test_a_run_that_was_refused_is_noted_and_compared_with_none(sweep: Path) -> None:
    first, *others = runs(sweep)
    edit(refused)(first)
    assert "and not a start" in faults(first)  # asked for by name, it is no run
    whole = verify(sweep)
    assert whole[first.name].faults == []
    assert whole[first.name].notes == [
        "was refused before it started and measured nothing: data.path=x is not a folder"
    ]
    assert faults(sweep) == ""
    for run in others:
        edit(refused)(run)
    assert faults(sweep) == "none of its runs has started: there is nothing to compare"


def faster_clock(found: Events) -> None:
    """All clocks halved: twice as fast, says the record, while the calendar does not."""
    for e in found:
        e["time"] = found[0]["time"] + 40 * (e["time"] - found[0]["time"])
        for kinds in (e.get("clock") or {}).values():
            for kind in kinds:
                kinds[kind] *= 20


def clock_that_falls(found: Events) -> None:
    with_clock = [e for e in found if "clock" in e]
    with_clock[-1]["clock"]["train"] = {"wall": 0.0, "cpu": 0.0}


def more_cpu_than_threads(found: Events) -> None:
    for i, e in enumerate(e for e in found if "clock" in e):
        e["clock"]["train"]["cpu"] += 10.0 * i


def another_seed(found: Events) -> None:
    for e in found:
        if e["event"] == "start":
            e["seed"] = 7


def better_metric(found: Events) -> None:
    for e in found:
        if e["event"] == "score":
            e["metrics"]["log_mel_l1"] *= 0.5


def score_of_other_weights(found: Events) -> None:
    next(e for e in found if e["event"] == "score")["sha256"] = "0" * 64


def easier_utterances(found: Events) -> None:
    scored = [e for e in found if e["event"] == "score" and e["set"] == "grid"][-1]
    scored["utterances"] = {"easy": next(iter(scored["utterances"].values()))}
    scored["metrics"] = dict(scored["utterances"]["easy"])


def less_audio_than_said(found: Events) -> None:
    for e in found:
        if e["event"] == "train":
            e["samples_seen"] //= 2


def snapshot_moved(found: Events) -> None:
    taken = [e for e in found if e["event"] == "snapshot"]
    taken[1]["audio_seconds"] = taken[-1]["audio_seconds"] - 1e-3


def time_goes_back(found: Events) -> None:
    found[-1]["time"] -= 1000


def two_starts(found: Events) -> Events:
    return [found[0], *found]


def no_start(found: Events) -> Events:
    return found[1:]


def attempts_joined(found: Events) -> None:
    for e in found[: len(found) // 2]:
        e["attempt"] = 2


def cut_short(found: Events) -> Events:
    end = found[-1]
    last = max(e["index"] for e in found if e["event"] == "snapshot")
    kept = [e for e in found[:-1] if e.get("index") != last]
    return [*kept, end]


def never_finished(found: Events) -> Events:
    return found[:-1]


def unscored(found: Events) -> Events:
    return [e for e in found if not (e["event"] == "score" and e["index"] == 1)]


RECORDS: dict[str, tuple[Change, str]] = {
    "clocks slowed down": (faster_clock, "training took longer than is said"),
    "a clock set back": (clock_that_falls, "time that was spent is missing"),
    "CPU seconds added": (more_cpu_than_threads, "more than 1 threads can spend"),
    "another run's seed": (another_seed, "the record is of seed=7"),
    "a better mean": (better_metric, "its utterances' mean is"),
    "a score of other weights": (score_of_other_weights, "is of other weights"),
    "easier utterances": (easier_utterances, "heard other utterances"),
    "half of the audio": (less_audio_than_said, "has seen"),
    "a snapshot off the grid": (snapshot_moved, "is not on the grid"),
    "a clock of another day": (time_goes_back, "time goes back"),
    "two starts": (two_starts, "attempt 1 has 2 starts"),
    "no start": (no_start, "is '[a-z]+' and not a start"),
    "joined attempts": (attempts_joined, "attempts do not follow"),
    "a run cut short": (cut_short, "it finished after"),
    "a run that goes on": (never_finished, "the run has not finished"),
    "a score left out": (unscored, "snapshots 1 have no score"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_an_edited_record_is_caught(name: str, sweep: Path) -> None:
    change, sentence = RECORDS[name]
    run = runs(sweep)[0]
    edit(change)(run)
    found = verify(run)[run.name].faults
    assert any(re.search(sentence, f) for f in found), found


def flip_a_bit(run: Path) -> None:
    path = run / "final" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def other_weights(run: Path) -> None:
    """A whole, sound model folder, of another run."""
    seed = json.loads((run / "run.json").read_text())["seed"]
    others = [r for r in runs(run.parent) if f"-s{seed}-" not in r.name]
    donor = others[0]
    shutil.rmtree(run / "final")
    shutil.copytree(donor / "final", run / "final")


def another_config(run: Path) -> None:
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**config, "sigma": 0.7}))


def renamed(run: Path) -> None:
    run.rename(run.with_name(run.name[:-8] + "deadbeef"))


def another_arm(run: Path) -> None:
    path = run / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "arm": "fast"}))


def broken_config(run: Path) -> None:
    (run / "config.yaml").write_text("a: [")


def lost_audio(run: Path) -> None:
    next((run / "samples").glob("*.flac")).unlink()


FILES: dict[str, tuple[Forge, str]] = {
    "a bit of the weights": (flip_a_bit, "final/model.safetensors is not what was recorded"),
    "another run's weights": (other_weights, "final/model.safetensors is not what was recorded"),
    "another configuration": (another_config, "the directory is not named after it"),
    "another name": (renamed, "the directory is not named after it"),
    "another arm": (another_arm, "run.json says arm=fast"),
    "no configuration": (broken_config, "is not YAML"),
    "a lost sample": (lost_audio, r"\.flac is missing"),
}


@pytest.mark.parametrize("name", FILES)
def test_an_edited_directory_is_caught(name: str, sweep: Path) -> None:
    forge, sentence = FILES[name]
    forge(runs(sweep)[0])
    assert re.search(sentence, faults(sweep)), faults(sweep)
    main_exit(["verify", str(sweep)], 1)


def start_of(run: Path, **fields: Any) -> None:
    found = events(run)
    for e in found:
        if e["event"] == "start":
            e.update(fields)
    write(run, found)


def same_seed_twice(sweep: Path) -> None:
    shutil.copytree(runs(sweep)[0], sweep / "again-s0-00000000")


def copied_under_another_seed(sweep: Path) -> None:
    """The record of seed 0 under the name of seed 1: n = 2 from one run."""
    a, b = (next(r for r in runs(sweep) if f"-s{seed}-" in r.name) for seed in (0, 1))
    found = events(a)
    name = json.loads((b / "run.json").read_text())
    for e in found:
        if e["event"] == "start":
            e.update(run=b.name, seed=name["seed"], arm=name["arm"])
    write(b, found)
    shutil.rmtree(b / "final")
    shutil.copytree(a / "final", b / "final")


def at_the_same_time(sweep: Path) -> None:
    a, b = runs(sweep)[:2]
    shift = events(a)[0]["time"] - events(b)[0]["time"]
    found = events(b)
    for e in found:
        e["time"] += shift
        if e["event"] == "start":
            e["machine"]["cores"] = 1
    write(b, found)
    start_of(a, machine=next(e for e in found if e["event"] == "start")["machine"])


SWEEPS: dict[str, tuple[Forge, str]] = {
    "a seed twice": (same_seed_twice, "has seed 0 2 times"),
    "a run under two seeds": (copied_under_another_seed, "the very same weights"),
    "another split": (
        lambda s: start_of(runs(s)[0], corpus={"digest": "f" * 64}),
        "runs differ in corpora or splits",
    ),
    "more threads": (lambda s: start_of(runs(s)[0], threads=2), "runs differ in threads"),
    "another machine": (
        lambda s: start_of(runs(s)[0], machine={"cpu": "faster", "cores": 64}),
        "runs differ in devices",
    ),
    "another clock": (lambda s: start_of(runs(s)[0], clock_kind="wall"), "runs differ in clocks"),
    "one core for two": (at_the_same_time, "at the same time on one device"),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_runs_that_do_not_compare_are_caught(name: str, sweep: Path) -> None:
    forge, sentence = SWEEPS[name]
    forge(sweep)
    found = verify(sweep)["t as a sweep"].faults
    assert any(sentence in f for f in found), found


def test_cores_of_their_own_are_no_fault(sweep: Path) -> None:
    """Two of one thread on two cores; a third at the same time is one too many."""
    every = runs(sweep)
    first = events(every[0])[0]["time"]
    for n, run in enumerate(every[:3]):
        found = events(run)
        shift = first - found[0]["time"]
        for e in found:
            e["time"] += shift
            if e["event"] == "start":
                e["machine"] = {"cpu": "x", "cores": 2}
        write(run, found)
        verdict = verify(sweep)["t as a sweep"]
        assert any("on one device" in f for f in verdict.faults) == (n == 2), verdict
        if n == 1:
            assert any("up to 2 runs shared" in note for note in verdict.notes)


def test_other_code_is_told_and_no_fault(sweep: Path) -> None:
    start_of(runs(sweep)[0], commit="a" * 40)
    verdict = verify(sweep)["t as a sweep"]
    assert not verdict.faults
    assert any("code (commits)" in note for note in verdict.notes)
