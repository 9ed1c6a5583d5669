"""What ``wg bench arms`` found of a sweep, and the normalised time that follows from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wg.errors import UserError

FILE = "throughput.json"  # in the sweep's directory
FORMAT = "wg-bench-arms/1"


def read_throughput(sweep_dir: Path) -> dict[str, Any] | None:
    """The findings beside a sweep's runs; None without them.

    Errors: UserError for a file that is damaged.
    """
    path = sweep_dir / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT or "arms" not in found:
        raise UserError(f"{path} is damaged: run `wg bench arms {sweep_dir}` again, or delete it")
    return found


def row_of(findings: Mapping[str, Any], runs: Sequence[str]) -> Mapping[str, Any] | None:
    """The arm that has one of these runs, whatever it is called; None where it is not there or
    could not be measured."""
    for row in findings["arms"].values():
        if set(row["runs"]) & set(runs):
            return None if row["refused"] else row
    return None


def refusal_of(findings: Mapping[str, Any], runs: Sequence[str]) -> str:
    """Why an arm has no throughput."""
    for row in findings["arms"].values():
        if set(row["runs"]) & set(runs):
            return str(row["refused"])
    return "not in the sweep when it was measured"


def rounds_of(row: Mapping[str, Any]) -> list[float]:
    """Seconds that a second of audio takes, by round: over all steps of a run, shape by shape."""
    phases, clock = row["phases"], row["clock"]
    audio = sum(p["steps"] * p["samples"] for p in phases) / row["sampling_rate"]
    return [
        sum(p["steps"] * s[clock] for p, s in zip(phases, turn["steps"], strict=True)) / audio
        for turn in row["raw"]
    ]


def seconds_for(row: Mapping[str, Any], audio_seconds: float) -> float:
    """Seconds in which the arm's steps go through its first ``audio_seconds``, shape by shape in
    the order in which a run has them; beyond its planned end as in its last shape."""
    if math.isinf(audio_seconds):
        return math.inf
    seconds, left = 0.0, audio_seconds
    for i, phase in enumerate(row["phases"]):
        step = phase["samples"] / row["sampling_rate"]
        last = i == len(row["phases"]) - 1
        here = left if last else min(left, phase["steps"] * step)
        seconds += here / step * phase["seconds"]
        left -= here
    return seconds
