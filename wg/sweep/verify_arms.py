"""Whether an arm of a sweep is one recipe, whether its seeds are those of the others, and whether
all arms learn from, and are scored on, the same data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from wg.errors import UserError
from wg.strategies import recipe_with_defaults
from wg.sweep.verify_subject import Subject, listed
from wg.train.settings import NOT_IDENTITY, Settings

# What the seeds of an arm may differ in: the seed, what is no part of a run's identity, where the
# corpus lies (its digest is compared), a donor of each seed's own (which is charged).
FREE = (
    *NOT_IDENTITY, "seed", "data.path", "evaluation.metrics",
    "strategy.warm_start.donor", "strategy.warm_start.donor_seconds",
)  # fmt: skip
# Data settings that decide what is held out, and what a score means; others are an arm's own.
SCORED = ("data.sampling_rate", "data.held_out", "data.held_out_min_seconds", "data.mel.")
# Beside them, told and no fault.
LEARNED = ("data.resample", "data.short_clips", "data.silence_db", "data.mel_device", "sigma")


def check_arms(runs: list[Subject]) -> tuple[list[str], list[str]]:
    """(faults, notes)."""
    settings = {r.name: flat_settings(r.config) for r in runs}
    return (
        [*_mixed(runs, settings), *_across(settings, SCORED)],
        [*_seeds(runs), *_across(settings, LEARNED)],
    )


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted name -> value, with the defaults of what is not given: configurations of two versions
    of the code are compared by what they mean."""
    try:
        whole = asdict(Settings.from_config(dict(config)))
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        whole = dict(config)  # no configuration of a run, which is a fault of its own
    whole["strategy"] = recipe_with_defaults(whole.get("strategy"))
    return dict(_flat(whole, ""))


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if name in FREE:
        return
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(value, sort_keys=True, default=str)


def _mixed(runs: list[Subject], settings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """One recipe under every name."""
    arms: dict[str, list[str]] = {}
    for r in runs:
        arms.setdefault(str(r.identity.get("arm")), []).append(r.name)
    for arm, names in arms.items():
        differing = _differing({n: settings[n] for n in names})
        if differing:
            first, groups = next(iter(differing.items()))
            more = f", and {len(differing) - 1} more settings differ" if len(differing) > 1 else ""
            yield f"arm {arm} is more than one recipe: {first} is {groups}{more}"


def _across(settings: Mapping[str, Mapping[str, Any]], names: tuple[str, ...]) -> Iterator[str]:
    kept = {
        run: {k: v for k, v in found.items() if k.startswith(names)}
        for run, found in settings.items()
    }
    for name, groups in _differing(kept).items():
        yield f"runs differ in {name}: it is {groups}"


def _differing(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Setting -> which run has which value, in words, of those that are not the same in all."""
    found = {}
    for name in sorted({name for s in settings.values() for name in s}):
        groups: dict[str, list[str]] = {}
        for run, s in settings.items():
            groups.setdefault(s.get(name, "not set"), []).append(run)
        if len(groups) > 1:
            found[name] = "; ".join(f"{value} in {listed(of, 3)}" for value, of in groups.items())
    return found


def _seeds(runs: list[Subject]) -> Iterator[str]:
    """Seeds that some arms have and others lack."""
    arms: dict[str, set[int]] = {}
    for r in runs:
        arms.setdefault(str(r.identity.get("arm")), set()).add(r.identity.get("seed") or 0)
    every = set().union(*arms.values()) if arms else set()
    lacking = {arm: sorted(every - seeds, key=str) for arm, seeds in arms.items() if every - seeds}
    if lacking:
        parts = "; ".join(f"{arm} lacks {', '.join(map(str, s))}" for arm, s in lacking.items())
        yield f"arms have different seeds ({parts})"
