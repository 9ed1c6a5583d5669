"""``results.json``: every number of the page, for machines; the page is drawn from it.

    schema, sweep, finished_at
    headline   sentence, arm, baseline, speed_up (with more than two arms its interval holds
               jointly for all of them: joint_over_arms says how many), clock
    target     name, conditions [metric, value, unit, direction], how, facts; null without one
    winner     arm, run (path), seed, reached_target, rule, seed_rule
    ranking    arm names, the best first
    divisions  of those that the sweep has: division, words, arms (the best first), best
    baseline, seeds, clock, budget, corpus, evaluation, model, machines, versions, commits
    sigmas     of the likelihood, those that runs were trained with
    metrics    name -> unit, direction, description
    ends       of the metrics' scales: ground_truth (the recordings), griffin_lim, noise_lpc (noise
               through the mel's filters), noise_lpc_consistent (that noise, fitted to the mel) ->
               metric -> mean on all held-out speech; {} where no run has them (`wg score --ends`)
    arms       a list, the baseline first; division, budgets (audio_seconds, train_seconds: null
               without that limit; several where its runs differ), time_to_target, speed_up, final
               (nats_per_sample_no_constant is nats_per_sample less 0.5 ln(2 pi sigma^2)), runs ...
    cost       price, energy_meters (what is counted, or why nothing), arms: name ->
      model_flops, joules, money   until the target: seeds (null: missed), spent, mean, missed;
                    null where nothing is known
      flops_per_second, peak_memory (bytes, of, ranks)
      normalised   null without `wg bench arms`: its command, complete, date, commit, machine,
                    rounds, elsewhere (why there are no times), arms: name -> refused,
                    audio_seconds_per_second, relative (to the baseline: median, low, high,
                    coverage, n), flops_per_second, arithmetic, gemm_flops_per_second,
                    share_of_peak, finite, time_to_target, speed_up
    lasting    to the baseline's own quality at its end, each seed's (null where there is none):
               marks: seed -> metric -> value, baseline_seconds, arms: name -> seconds, between (the
               snapshots around), speed_up, at_least (to the later snapshot: without a line)
    evidence   null without a target; else, each null where there is nothing to say:
      alpha         0.05
      sooner        words (what n can show), arms: name -> n, t, t_holm (one-sided p against the
                    baseline; Holm across arms), sign_flip, sign_flip_holm, floor (the least that
                    sign_flip can be), at_most (p are upper bounds: runs missed), bootstrap (low,
                    high: studentised, over pairs; null with fewer than 4), note, shown
      good_enough   arms: name -> p (the largest of the conditions'), p_holm, shown, conditions:
                    metric, threshold, n, met (seeds), mean, p, sign_flip, floor, why (no p)
      seeds_needed  comparisons, power, confidence, arms: name -> pairs, sd (of log ratios),
                    sd_upper, for_half_width and for_speed_up: factor -> [with sd, with sd_upper]
      survival      tau, level, band, arms: name -> steps (time, reached, low, high, at_risk,
                    events), censored, n, horizon, median, restricted_mean (seconds,
                    standard_error, tau, n), ratio (of restricted means, baseline / arm; null
                    unless one of the two missed)
      profile       targets, seeds, problems, largest_ratio, arms: name -> ratios, steps, best,
                    within_2, solved (shares of problems), area
      attribution   kind, factors, fixed, recipes, resolution, whole_arm, empty_arm, arms,
                    all_together, tables (null where the design gives none): shapley, effects,
                    leave_one_out, interactions, effect_pairs: strategy (or a:b) -> factor, low,
                    high, bound, n, seeds, aliases
      how_to_attribute  a sentence, where there is no attribution and there are strategies
    against    null without --against (wg.report.against.against_of)
    other_targets  the same times and speed-ups for further targets
    excluded, warnings

Infinite times (misses) are null; ``reached`` and ``missed`` count them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from wg.measure.metrics import SHOWN
from wg.report.compare import (
    Comparison,
    Winner,
    choose_winner,
    compare,
    final_mean,
    ranking,
    targets_of,
    throughput,
)
from wg.report.cost import cost_of
from wg.report.data import Arm, Run, Sweep, sigma_of
from wg.report.divisions import best_of_each, division_of
from wg.report.ends import ends_of, ends_warnings
from wg.report.evidence import evidence_of
from wg.report.lasting import lasting_of
from wg.report.normalised import normalised_warnings
from wg.report.plain import NO_TIMING, speed_up_values, target_values, timing
from wg.report.warn import warnings_of
from wg.report.words import clock_words, headline_sentence

SCHEMA = 1
# Keys that are there even when a record lacks them (null), in this order.
_CORPUS = (
    "name",
    "digest",
    "train_utterances",
    "held_out_utterances",
    "train_seconds",
    "held_out_seconds",
)
_MODEL = ("n_mels", "n_flows", "n_group", "n_layers", "n_channels")
_MACHINE = ("gpu", "cpu", "cores", "system", "python")


def results_of(
    sweep: Sweep,
    given: Sequence[Mapping[str, Any]] = (),
    price: float | None = None,
    throughput: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All results of a sweep; targets that are ``given`` come before those of its runs. ``price``:
    money of an hour of a rank's device; ``throughput``: of ``wg bench arms``."""
    targets = targets_of(sweep, given)
    comparisons = [compare(sweep, t) for t in targets]
    main = comparisons[0] if comparisons else None
    ranked = ranking(sweep, main)
    winner = choose_winner(sweep, main, ranked)
    cost = cost_of(sweep, main, throughput, price)
    divisions = {name: division_of(sweep, arm) for name, arm in sweep.arms.items()}
    start = sweep.arms[sweep.baseline].any_run.start
    config = sweep.arms[sweep.baseline].any_run.config
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "sweep": sweep.name,
        "finished_at": _finished_at(sweep),
        "headline": {},
        "target": target_values(targets[0]) if targets else None,
        "winner": _winner(winner),
        "ranking": ranked,
        "divisions": best_of_each(ranked, divisions, sweep.baseline),
        "baseline": sweep.baseline,
        "seeds": sorted({r.seed for r in sweep.runs}),
        "clock": {"kind": sweep.kind, "words": clock_words(sweep.kind)},
        "budget": _known(config.get("budget"), "audio_seconds", "train_seconds"),
        "snapshots": _known(config.get("snapshots"), "every"),
        "corpus": _known(start.get("corpus"), *_CORPUS),
        "evaluation": {
            **_known(config.get("evaluation"), "sigma", "grid_seconds"),
            "final_utterances": len(sweep.arms[sweep.baseline].any_run.utterances),
        },
        "model": {
            **_known(config.get("model"), *_MODEL),
            "parameters": start.get("parameters"),
        },
        "sigmas": sorted({sigma_of(r.config) for r in sweep.runs}),
        "sampling_rate": (config.get("data") or {}).get("sampling_rate"),
        "machines": [_known(m, *_MACHINE) for m in _distinct(sweep, "machine")],
        "versions": _distinct(sweep, "versions"),
        "commits": _distinct(sweep, "commit"),
        "threads": _distinct(sweep, "threads"),
        "devices": _distinct(sweep, "device"),
        "metrics": {
            m: {"unit": i.unit, "direction": i.direction, "description": i.description}
            for m, i in SHOWN.items()
        },
        "ends": ends_of(sweep),
        "arms": [
            {"arm": n, "division": divisions[n], **_arm(sweep, arm, main)}
            for n, arm in sweep.arms.items()
        ],
        "cost": cost,
        "lasting": lasting_of(sweep),
        "evidence": evidence_of(sweep, comparisons, winner.arm),
        "other_targets": [
            {**target_values(c.target), "arms": {n: timing(n, c) for n in sweep.arms}}
            for c in comparisons[1:]
        ],
        "excluded": [asdict(e) for e in sweep.excluded],
        "warnings": [
            *warnings_of(sweep, main, len(targets)),
            *ends_warnings(sweep),
            *normalised_warnings(sweep, cost["normalised"]),
        ],
    }
    # The best of several arms is partly lucky: its joint interval allows for that.
    joint = len(sweep.arms) > 2
    speed = (main.joint if joint else main.speed_ups).get(winner.arm) if main else None
    results["headline"] = {
        "sentence": headline_sentence(results, speed, len(sweep.arms) - 1),
        "arm": winner.arm,
        "baseline": sweep.baseline,
        "speed_up": speed_up_values(speed),
        "joint_over_arms": len(sweep.arms) - 1 if joint else None,
        "clock": clock_words(sweep.kind),
    }
    return results


def _arm(sweep: Sweep, arm: Arm, comparison: Comparison | None) -> dict[str, Any]:
    run = arm.any_run
    settings = run.config.get("strategy") or {}
    rates = {str(r.seed): throughput(r) for r in arm.finished}
    known = [v for v in rates.values() if v is not None]
    return {
        "recipe": run.start.get("recipe"),
        "is_baseline": arm.name == sweep.baseline,
        "seeds": sorted(arm.runs),
        "budgets": _budgets(arm),
        "diverged": [str(s) for s, r in sorted(arm.runs.items()) if r.diverged],
        "strategies": [
            {"name": n, "kind": k, "settings": dict(settings.get(n) or {})}
            for n, k in arm.strategies.items()
        ],
        "plan": dict(run.start.get("plan") or {}),
        "ranks": run.start.get("ranks"),
        "parameters": run.start.get("parameters"),
        "donor_seconds": {str(s): r.donor_seconds for s, r in sorted(arm.runs.items())},
        **(timing(arm.name, comparison) if comparison else NO_TIMING),
        "throughput": {
            "unit": "audio seconds / headline second",
            "mean": fmean(known) if known else None,
            "per_seed": rates,
        },
        "spent": {
            axis: {str(s): r.spent[axis] for s, r in sorted(arm.runs.items())} for axis in run.spent
        },
        "final": {
            m: {
                "mean": final_mean(arm, m),
                "n": len(arm.finished),
                "per_seed": {str(r.seed): r.final.get(m) for r in arm.finished},
            }
            for m in _metric_names(arm)
        },
        "runs": [_run(r) for _, r in sorted(arm.runs.items())],
    }


def _budgets(arm: Arm) -> list[dict[str, Any]]:
    """The distinct budgets of its runs, in the order of their seeds."""
    found: list[dict[str, Any]] = []
    for _, run in sorted(arm.runs.items()):
        budget = run.config.get("budget") or {}
        own = {k: budget.get(k) for k in ("audio_seconds", "train_seconds")}
        if own not in found:
            found.append(own)
    return found


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "path": short_path(run.path),
        "seed": run.seed,
        "status": "diverged" if run.diverged else run.status,
        "reason": run.reason,
        "attempts": run.attempts,
        "command": run.identity.get("command"),
        "commit": run.start.get("commit"),
        "config_hash": run.identity.get("config_hash"),
        "peak": dict(run.peak),
        "curve": [{"index": p.index, **p.at, **p.metrics} for p in run.points],
    }


def _winner(winner: Winner) -> dict[str, Any]:
    return {
        "arm": winner.arm,
        "run": short_path(winner.run.path),
        "seed": winner.run.seed,
        "reached_target": winner.reached,
        "rule": winner.rule,
        "seed_rule": winner.seed_rule,
    }


def short_path(path: Path) -> str:
    """Relative to the current directory when it is below it, else absolute."""
    whole = path.resolve()
    try:
        return str(whole.relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(whole)


def _metric_names(arm: Arm) -> list[str]:
    """Metrics of the table first, in its order; then those that only the record knows."""
    found = {m for r in arm.finished for m in r.final}
    return [m for m in SHOWN if m in found] + sorted(found - set(SHOWN))


def _distinct(sweep: Sweep, key: str) -> list[Any]:
    values: list[Any] = []
    for run in sweep.runs:
        value = run.start.get(key)
        if value is not None and value not in values:
            values.append(value)
    return values


def _known(given: Mapping[str, Any] | None, *keys: str) -> dict[str, Any]:
    """``given`` with these keys first, None where it lacks them."""
    return {**dict.fromkeys(keys), **(given or {})}


def _finished_at(sweep: Sweep) -> str | None:
    last = max((r.spans[-1][1] for r in sweep.runs if r.spans), default=None)
    if last is None:
        return None
    return datetime.fromtimestamp(last, UTC).isoformat(timespec="minutes")
