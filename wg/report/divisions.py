"""Which arms may be compared with which: divisions, by the most far-reaching thing an arm does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wg.report.data import Arm, Run, Sweep
from wg.report.words import DIVISIONS

_PUBLISHED = {"segment_length": 16000, "sigma": 1.0}
# Of a corpus: where it lies and what computes its mels, not what is learned from it.
_NOT_LEARNED = ("path", "mel_device")


def division_of(sweep: Sweep, arm: Arm) -> str:
    """The arm's division. Beside its strategies count settings that no strategy has: the published
    segment length and sigma, and the model, batch size and data of the plain published recipe
    where the sweep has it, else of the baseline."""
    if any(r.start.get("donor") for r in arm.runs.values()):
        return "warm-started"
    config, reference = arm.any_run.config, _reference(sweep).config
    kinds = [k for k in arm.strategies.values() if k in DIVISIONS]
    if config.get("model") != reference.get("model"):
        kinds.append("model")
    if (
        config.get("batch_size") != reference.get("batch_size")
        or any(config.get(k, v) != v for k, v in _PUBLISHED.items())
        or _other_data(config.get("data") or {}, reference.get("data") or {})
    ):
        kinds.append("algorithm")
    order = list(DIVISIONS)
    return max(kinds, key=order.index, default="system")


def _other_data(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two runs learned from other data, or from the same otherwise. A setting that one of
    them has not is of another version of the code."""
    shared = (set(a) & set(b)).difference(_NOT_LEARNED)
    return any(a[k] != b[k] for k in shared)


def _reference(sweep: Sweep) -> Run:
    baseline = sweep.arms[sweep.baseline]
    arms = [baseline, *sweep.arms.values()]
    plain = (
        a.any_run for a in arms if a.any_run.start.get("recipe") == "nvidia" and not a.strategies
    )
    return next(plain, baseline.any_run)


def best_of_each(
    ranked: Sequence[str], divisions: Mapping[str, str], baseline: str
) -> list[dict[str, Any]]:
    """Divisions that the sweep has, in their order: words, arms (the best first), and the best,
    which is the first of the ranking."""
    found = []
    for name, words in DIVISIONS.items():
        arms = [a for a in ranked if divisions[a] == name]
        if arms:
            found.append(
                {
                    "division": name,
                    "words": words,
                    "arms": arms,
                    "best": arms[0],
                    "has_baseline": baseline in arms,
                }
            )
    return found
