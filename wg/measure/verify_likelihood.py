"""What must hold between the likelihood that is scored on the way and the loss of training.

Both are of one model at one time, on other audio: held-out speech cannot be told far better than
what is being learned. That holds the scores on the way, whose weights are gone by default, so
that nothing can score them again.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from wg.measure.metrics import NO_CONSTANT, with_derived
from wg.measure.record import Event, scores, snapshots, train_curve

# Nats by which scores may be better than training, beyond what the last score is: held-out audio
# can be easier (quieter, say) than that which is trained on. Of 146 honest runs on four corpora,
# the middle of 12 lines was 0.39 better at most, and 0.30 beyond the last score; that of all lines
# 0.33, and 0.21 beyond it; a single score was 0.36 better than the least of 8 lines around it, and
# 0.17 beyond the last.
BETTER = 0.5
BETTER_ALL_ALONG = 0.35
BETTER_ONCE = 0.4
# The most that the last score is believed to be better.
EASIER = 0.6
# An average of weights may be better than those that are trained, which a large step size shakes
# (not seen in 20 runs with ema at a small one).
AVERAGED = 0.3
AVERAGES = ("ema", "swa", "schedule_free")
LINES = 12
AROUND = 4  # lines before a snapshot, and after
NEAR = 2.0  # ratio of steps up to which scores are taken for a straight line
# Of these, training hears other audio than is scored: louder, or with noise added.
OTHER_AUDIO = ("loudness_curriculum", "dequantize")


def check_likelihood(events: Sequence[Event], config: Mapping[str, Any]) -> Iterator[str]:
    """nats_per_sample on the way against the loss of the steps around it."""
    lines, curve = _lines(events), _curve(events, config)
    if len(lines) < LINES or len(curve) < 2 or _other_audio(config):
        return
    easier = min(0.0, curve[-1][1] - median(loss for _, loss in lines[-LINES // 2 :]))
    allowed = max(easier, -EASIER)
    if any(s in (config.get("strategy") or {}) for s in AVERAGES):
        allowed -= AVERAGED
    gaps = gaps_of(lines, curve)
    for n, margin in ((LINES, BETTER), (len(gaps), BETTER_ALL_ALONG)):
        gap, step = smallest_of(gaps, max(n, LINES))
        if gap < allowed - margin:
            yield (
                f"scores on the way are {-gap:.2f} nats_per_sample better than the training "
                f"losses of {n} lines of the log around step {step:.0f}: no held-out speech is so "
                "much easier"
            )
            break
    gap, step = smallest_single(lines, curve)
    if gap < allowed - BETTER_ONCE:
        yield (
            f"the score at step {step:.0f} is {-gap:.2f} nats_per_sample better than any training "
            "loss around it: no held-out speech is so much easier"
        )


def _other_audio(config: Mapping[str, Any]) -> bool:
    quiet = (config.get("data") or {}).get("silence_db") is not None
    return quiet or any(s in (config.get("strategy") or {}) for s in OTHER_AUDIO)


def _lines(events: Sequence[Event]) -> list[tuple[float, float]]:
    """(step in the middle, mean loss) of every line of the log that has one."""
    return [
        (e["step"] - (e.get("loss_steps") or 0) / 2, e["loss"])
        for e in train_curve(list(events))
        if e.get("loss") is not None
    ]


def _curve(events: Sequence[Event], config: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(step, score without the Gaussian constant) of every snapshot."""
    sigma = config.get("sigma", 1.0)
    if not isinstance(sigma, (int, float)) or sigma <= 0:
        return []  # which is a fault of the configuration
    step = {e["index"]: e["step"] for e in snapshots(list(events))}
    found = [
        (float(step[e["index"]]), nats)
        for e in scores(list(events), "grid")
        if e["index"] in step
        and (nats := with_derived(e["metrics"], sigma).get(NO_CONSTANT)) is not None
    ]
    return sorted(found)


def gaps_of(
    lines: Sequence[tuple[float, float]], curve: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """(score minus loss, step) of the lines between snapshots that are near each other."""
    return [(score - loss, at) for at, loss in lines if (score := _score_at(curve, at)) is not None]


def smallest_of(gaps: Sequence[tuple[float, float]], lines: int) -> tuple[float, float]:
    """(the middle of the gaps of so many lines in a row, step) where it is smallest; 0 where there
    are fewer."""
    windows = [gaps[i : i + lines] for i in range(len(gaps) - lines + 1)]
    return min(((median(g for g, _ in w), w[lines // 2][1]) for w in windows), default=(0.0, 0.0))


def _score_at(curve: Sequence[tuple[float, float]], step: float) -> float | None:
    """A straight line over the logarithm of steps; None where snapshots are far apart, where a
    model may have become worse and better again."""
    for (a, before), (b, after) in pairwise(curve):
        if a <= step <= b <= NEAR * a and a < b:
            return before + math.log(step / a) / math.log(b / a) * (after - before)
    return None


def smallest_single(
    lines: Sequence[tuple[float, float]], curve: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """(a score minus the least loss of the lines next to it, step) where it is smallest. Not at
    the very start, which may be good before the first steps make it worse."""
    gaps = []
    for step, score in curve:
        i = bisect_right(lines, (step, math.inf))
        if i >= 2:
            least = min(loss for _, loss in lines[max(i - AROUND, 0) : i + AROUND])
            gaps.append((score - least, step))
    return min(gaps, default=(0.0, 0.0))
