"""Forgeries of what a run says as it starts, and of what it learns on the way."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from verify_forge import Change, Events, edit, faults, runs
from verify_forge_whole import paced, reconfigured

from wg.measure.verify_likelihood import check_likelihood

# -- preparation --------------------------------------------------------------------------------

PREPARED = 8.0  # seconds


def prepared(found: Events) -> None:
    """The same run with an expensive preparation before its first step, on a machine of its own."""
    paced(found)
    for e in found[1:]:
        e["time"] += PREPARED
        for kind in ("wall", "cpu") if "clock" in e else ():
            e["clock"]["data_prep"][kind] += PREPARED


def booked_as_loading(found: Events) -> None:
    prepared(found)
    for e in found:
        for kind in ("wall", "cpu") if "clock" in e else ():
            e["clock"]["data_prep"][kind] -= PREPARED
            e["clock"]["init"][kind] += PREPARED


def hundredth(*kinds: str) -> Change:
    def change(found: Events) -> None:
        prepared(found)
        for e in found:
            for kind in kinds if "clock" in e else ():
                e["clock"]["data_prep"][kind] *= 0.01

    return change


def prepared_in_an_attempt_that_was_killed(found: Events) -> Events:
    """The first attempt had got as far as its first snapshot; a forged second one hides its own."""
    first = copy.deepcopy(found[:2])
    booked_as_loading(found)
    for e in found:
        e.update(attempt=2, time=e["time"] + 60)
    return [*first, *found]


PREPARATIONS: dict[str, tuple[Change, str]] = {
    "as loading": (booked_as_loading, "clocks but init grew by .* preparation was booked as"),
    "at a hundredth": (hundredth("wall", "cpu"), "clocks but init grew by 0.1 s in the 8"),
    "with no CPU seconds": (hundredth("cpu"), r"preparation has 0.08\d CPU seconds of 8.\d s"),
    "again": (prepared_in_an_attempt_that_was_killed, "start of attempt 2 to its first 'snapshot'"),
}


@pytest.mark.parametrize("name", PREPARATIONS)
def test_preparation_is_charged(name: str, sweep: Path) -> None:
    change, sentence = PREPARATIONS[name]
    run = runs(sweep)[0]
    edit(change)(run)
    assert re.search(sentence, faults(run)), faults(run)


def test_an_expensive_preparation_is_no_fault(sweep: Path) -> None:
    edit(prepared)(runs(sweep)[0])
    assert faults(runs(sweep)[0]) == ""


def test_the_start_of_wandb_is_loading(sweep: Path) -> None:
    """Its seconds are booked as init, after the start."""
    run = runs(sweep)[0]
    edit(booked_as_loading)(run)
    run = reconfigured(run, lambda config: config.update(logger={"name": "wandb"}))
    assert faults(run) == ""


# -- likelihood ---------------------------------------------------------------------------------

CONSTANT = 0.5 * math.log(2 * math.pi)
STEPS = (10, 20, 40, 80, 120, 160, 240, 320, 400)


def learning(scored: Callable[[int], float], sigma: float = 1.0) -> Events:
    """A record of a loss that falls with the logarithm of steps, with lines that are no better than
    others by chance, and of ``scored`` at every snapshot."""
    constant = CONSTANT + math.log(sigma)
    found: Events = [
        {
            "event": "train",
            "step": s,
            "loss_steps": 10,
            "loss": loss(s - 5) + 0.1 * (-1) ** (s // 10),
        }
        for s in range(10, 401, 10)
    ]
    for i, step in enumerate(STEPS):
        metrics = {"nats_per_sample": scored(step) + constant}
        found.append({"event": "snapshot", "index": i, "step": step, "sha256": str(i)})
        found.append({"event": "score", "index": i, "set": "grid", "metrics": metrics})
    return found


def loss(step: float) -> float:
    return 1.0 - 0.8 * math.log(step)


def told(scored: Callable[[int], float], sigma: float = 1.0, **config: Any) -> str:
    events = learning(scored, sigma)
    return "\n".join(check_likelihood(events, {"sigma": sigma, **config}))


def ahead(nats: float, steps: range = range(1, 400)) -> Callable[[int], float]:
    """Scores that are so much better at these steps; the last stays."""
    return lambda step: loss(step) - (nats if step in steps else 0.0)


def test_what_is_learned_is_what_is_scored() -> None:
    for sigma in (0.5, 1.0):
        assert told(loss, sigma) == ""
    assert told(lambda step: loss(step) - 0.3) == ""  # easier speech, to the end
    assert told(ahead(0.2)) == ""
    assert told(lambda step: loss(step) + 2.0) == ""  # worse is no advantage


def test_scores_are_not_far_better_than_training() -> None:
    assert re.search(r"scores on the way are 0.\d+ nats_per_sample better", told(ahead(0.8)))
    assert "scores on the way" in told(lambda step: loss(min(3 * step, 400)))  # at a third
    assert "scores on the way" in told(lambda step: loss(step) - 1.5)  # and the last of them
    assert "the score at step 80 is" in told(ahead(1.0, range(80, 81)))


def test_what_is_not_comparable_is_left_alone() -> None:
    far = ahead(1.5)
    assert told(far)
    assert not told(far, strategy={"loudness_curriculum": {}})
    assert not told(far, data={"silence_db": -60.0})
    assert told(ahead(0.8))
    assert not told(ahead(0.8), strategy={"ema": {}})


def test_a_start_may_be_good_and_be_lost() -> None:
    """As weights of another model are, at a large step size."""
    events = learning(lambda step: loss(step) if step > 10 else -9.0)
    assert not list(check_likelihood(events, {"sigma": 1.0}))


# -- what it says of itself -----------------------------------------------------------------------


def start(**fields: Any) -> Change:
    def change(found: Events) -> None:
        found[0].update(fields)

    return change


def corpus(**fields: Any) -> Change:
    def change(found: Events) -> None:
        found[0]["corpus"].update(fields)

    return change


def other_split_later(found: Events) -> Events:
    again = copy.deepcopy(found[0])
    again["corpus"]["digest"] = "f" * 64
    end = found[-1]["time"]
    return [*found, {**again, "attempt": 2, "time": end + 1}]


SAID: dict[str, tuple[Change, str]] = {
    "another command": (start(command="wg train recipe=fast"), "was started by 'wg train recipe"),
    "another commit": (start(commit="b" * 40), "run.json has the code of commit aaaaaaaaaa"),
    "no commit": (start(commit=None), "its start records no commit of the code"),
    "fewer held out": (corpus(held_out_utterances=1), "1 utterances were held out, and data.held"),
    "another corpus": (corpus(name="easy"), "it was trained on easy"),
    "shorter clips": (corpus(held_out_seconds=0.5), "2 utterances of 0.5 s were held out"),
    "another split": (other_split_later, "attempts differ in corpus or split"),
}


@pytest.mark.parametrize("name", SAID)
def test_a_run_says_what_it_was_started_as(name: str, sweep: Path) -> None:
    change, sentence = SAID[name]
    run = runs(sweep)[0]
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**about, "commit": "a" * 40}))
    edit(start(commit="a" * 40))(run)
    run = reconfigured(run, lambda config: config["data"].update(held_out_min_seconds=0.5))
    assert faults(run) == ""
    edit(change)(run)
    assert sentence in faults(run)


def test_config_yaml_says_what_was_held_out(sweep: Path) -> None:
    run = reconfigured(runs(sweep)[0], lambda config: config["data"].update(held_out=1))
    assert "2 utterances were held out, and data.held_out is 1" in faults(run)


def test_a_share_may_be_held_out(sweep: Path) -> None:
    run = reconfigured(runs(sweep)[0], lambda config: config["data"].update(held_out=0.34))
    assert faults(run) == ""
    run = reconfigured(run, lambda config: config["data"].update(held_out=0.5))
    assert "2 utterances were held out, and data.held_out is 0.5" in faults(run)


def test_a_later_attempt_may_have_other_code(sweep: Path) -> None:
    run = runs(sweep)[0]

    def resumed(found: Events) -> Events:
        again = {**found[0], "commit": "c" * 40, "attempt": 2, "time": found[-1]["time"] + 1}
        return [*found, again, {**found[-1], "attempt": 2, "time": found[-1]["time"] + 2}]

    edit(resumed)(run)
    assert "commit" not in faults(run)
