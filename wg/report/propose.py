"""``wg target``: a target proposed from the baseline's runs, to be frozen in conf/target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from wg.errors import UserError, nearest
from wg.files import write_atomic
from wg.measure.target import propose_target
from wg.report.data import Run, Sweep
from wg.report.read import read_sweep
from wg.report.words import CHARGED, clock_words

_HEAD = """\
# A frozen quality target: change its name when you change its values.
#
#   wg train target={name}
"""
DEFAULT_METRICS = ("nats_per_sample", "log_mel_l1")


def propose_from_sweep(
    sweep_dir: Path,
    arm: str | None,
    at: float,
    name: str,
    metrics: Sequence[str] = DEFAULT_METRICS,
    after: float | None = None,
) -> dict[str, Any]:
    """The mapping for ``conf/target/NAME.yaml``: medians over the arm's finished seeds at the
    share ``at`` of their budget of audio, which they may not have used up where seconds of
    training were limited too; or ``after`` so many headline seconds. ``how`` tells where the
    numbers come from.

    Errors: UserError without finished runs, for an unknown arm, metric or share, for budgets that
    differ, and for a run that ended before.
    """
    if after is not None and not after > 0:
        raise UserError(f"after={after:g} must be above 0 seconds.")
    if not 0 < at <= 1:
        raise UserError(f"at={at:g} must be a share of the budget: above 0, at most 1.")
    sweep = read_sweep(sweep_dir, arm)
    runs = sweep.arms[sweep.baseline].finished
    if after is not None:
        words = f"{clock_words(sweep.kind)} of {CHARGED}"
        curves = {r.seed: r.curve("train_seconds") for r in runs}
        how = _how(runs, sweep, f"after {after:g} {words}")
        return propose_target(curves, metrics, after, name, how, "headline s")
    budgets = {float(r.config["budget"]["audio_seconds"]) for r in runs}
    if len(budgets) > 1:
        listed = ", ".join(f"{b:g}" for b in sorted(budgets))
        raise UserError(
            f"runs of arm '{sweep.baseline}' have budgets of {listed} s of audio: a target needs "
            "one for all."
        )
    budget = next(iter(budgets), 0.0)
    how = _how(runs, sweep, f"at {at * budget:g} of {budget:g} audio seconds")
    curves = {r.seed: r.curve("audio_seconds") for r in runs}
    return propose_target(curves, metrics, at * budget, name, how)


def _how(runs: Sequence[Run], sweep: Sweep, where: str) -> str:
    n = len(runs)
    seeds = ", ".join(str(r.seed) for r in runs)
    commits = sorted({str(r.start.get("commit") or "not recorded") for r in runs})
    return (
        f"median of {n} {'seed' if n == 1 else 'seeds'} ({seeds}) of arm '{sweep.baseline}' "
        f"{where}, sweep '{sweep.name}'; commit {', '.join(commits)}"
        + ("; fewer than 5 seeds, so provisional" if n < 5 else "")
    )


def read_target(name: str, folder: Path) -> dict[str, Any]:
    """The mapping of a target file: ``name`` is a file's path, or a file of ``folder`` without its
    ending.

    Errors: UserError when there is none, or it is not YAML with conditions.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        raise UserError(f"there is no target '{name}'; {nearest(name, known)}")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        found = None
    if not isinstance(found, dict) or "conditions" not in found:
        raise UserError(f"{path} is no target: it must be YAML with name and conditions.")
    return found


def write_target(
    sweep_dir: Path,
    arm: str,
    at: float,
    metrics: Sequence[str],
    out: Path | None,
    after: float | None = None,
) -> str:
    """The target as YAML, written to ``out`` (whose stem is its name) unless that is None. A file
    that is there already is never overwritten: targets are frozen."""
    name = out.stem if out is not None else sweep_dir.resolve().name
    mapping = propose_from_sweep(sweep_dir, arm, at, name, metrics, after)
    text = _HEAD.format(name=name) + yaml.safe_dump(mapping, sort_keys=False, width=96)
    if out is not None:
        if out.exists():
            raise UserError(f"{out} exists and a target is frozen; choose another name.")
        write_atomic(out, text.encode())
    return text
