"""One run under two names: weights, losses, scores or clocks that only one run can have had."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from itertools import combinations

from wg.measure.record import scores, snapshots, train_curve
from wg.sweep.verify_subject import Subject, Verdict, listed

# Numbers that have to be the same, and share of those that both runs have: a few may be so by
# chance, where a metric is at the end of its scale.
ENOUGH, MOST = 3, 0.5

Numbers = set[Hashable]


def check_copies(runs: list[Subject], verdict: Verdict) -> None:
    """Seeds draw other audio and begin with other weights, so that no two have their losses in
    common; and no two processes take the same seconds to the last microsecond."""
    _weights(runs, verdict)
    verdict.faults += _the_same(runs, _losses, "training losses", of_seeds=True)
    verdict.faults += _the_same(runs, _scores, "scores", of_seeds=True)
    verdict.faults += _the_same(runs, _seconds, "seconds of training", of_seeds=False)


def _weights(runs: list[Subject], verdict: Verdict) -> None:
    """Two runs that ended in the same weights: of two seeds, one is a copy under another name; of
    two arms with one seed, what they differ in did nothing."""
    ends: dict[str, list[Subject]] = {}
    for r in runs:
        taken = snapshots(r.events)
        if taken and taken[-1]["step"] > 0:
            ends.setdefault(taken[-1]["sha256"], []).append(r)
    for same in ends.values():
        names = listed(r.name for r in same)
        if len({r.identity.get("seed") for r in same}) > 1:
            verdict.faults.append(f"{names} ended in the very same weights")
        elif len({r.identity.get("arm") for r in same}) > 1:
            verdict.notes.append(f"{names} ended in the same weights: their recipes did the same")


def _the_same(
    runs: list[Subject], of: Callable[[Subject], Numbers], what: str, of_seeds: bool
) -> Iterator[str]:
    numbers = [(r, of(r)) for r in runs]
    for (a, own), (b, other) in combinations(numbers, 2):
        if of_seeds and a.identity.get("seed") == b.identity.get("seed"):
            continue
        both, fewer = len(own & other), min(len(own), len(other))
        if both >= ENOUGH and both > MOST * fewer:
            yield (
                f"{a.name} and {b.name} have {both} of {fewer} {what} to the last digit in common: "
                "one is a copy under another name"
            )


def _losses(run: Subject) -> Numbers:
    return {(e["step"], e["loss"]) for e in train_curve(run.events) if e.get("loss") is not None}


def _scores(run: Subject) -> Numbers:
    """Of all snapshots but the first, which nothing has been learned before."""
    return {
        (e["index"], metric, value)
        for e in scores(run.events, "grid")
        if e["index"] > 0
        for metric, value in e["metrics"].items()
        if value is not None
    }


def _seconds(run: Subject) -> Numbers:
    """As its log has them: whatever was done to the time of day."""
    return {
        (e["step"], e["clock"]["train"]["wall"], e["clock"]["train"]["cpu"])
        for e in train_curve(run.events)
    }
