"""What a sceptic should know before believing the comparison, one sentence each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from wg.measure.metrics import METRICS, NO_CONSTANT
from wg.report.compare import Comparison
from wg.report.data import Run, Sweep, sigma_of

# Below 2, "poor", opinion scores (ITU-T P.800) call speech bad.
_POOR_PESQ = 2.0


def warnings_of(sweep: Sweep, comparison: Comparison | None, n_targets: int) -> list[str]:
    """All warnings, in the order: runs left out, seeds, unequal conditions, models, targets."""
    return [
        *_left_out(sweep),
        *_seeds(sweep),
        *_unequal(sweep),
        *_overlaps(sweep),
        *_arms(sweep),
        *_scores(sweep),
        *_planned_end(sweep),
        *_resolution(sweep, comparison),
        *_targets(sweep, comparison, n_targets),
    ]


def _left_out(sweep: Sweep) -> Iterator[str]:
    for e in sweep.excluded:
        yield f"Run {e.run} (arm {e.arm}, seed {e.seed}) is left out: {e.why}."
    for run in sweep.runs:
        if run.diverged:
            yield f"Run {run.id} {run.reason}; it counts as a miss and has no final quality."
        elif run.nonfinite:
            yield f"Run {run.id} left out {run.nonfinite} steps that were not finite."


def _seeds(sweep: Sweep) -> Iterator[str]:
    seeds = {name: sorted(arm.runs) for name, arm in sweep.arms.items()}
    if max(len(s) for s in seeds.values()) == 1:
        yield "Every arm has one seed: nothing here says how much is chance."
    elif len({tuple(s) for s in seeds.values()}) > 1:
        groups: dict[str, list[str]] = {}
        for name, s in seeds.items():
            groups.setdefault(_join(s), []).append(name)
        listed = "; ".join(f"{s}: {_join(names)}" for s, names in groups.items())
        yield f"Arms have unequal seeds ({listed}); speed-ups use those shared with the baseline."
    if len(sweep.arms) == 1:
        yield "There is one arm only, so there is nothing to compare it with."


def _unequal(sweep: Sweep) -> Iterator[str]:
    """Facts that ought to be the same in every run."""
    if sweep.mixed_kinds:
        yield (
            "Some runs are on a GPU and some on a CPU: wall seconds are used for all of them, "
            "and they do not compare."
        )
    facts: dict[str, Callable[[Run], Any]] = {
        "code (commits)": lambda r: r.start.get("commit"),
        "corpora": _corpus,
        "machines": _machine,
        "numbers of threads": lambda r: r.start.get("threads"),
        "versions of torch": lambda r: (r.start.get("versions") or {}).get("torch"),
        "versions of lightning": lambda r: (r.start.get("versions") or {}).get("lightning"),
        "budgets in audio seconds": lambda r: _config(r, "budget", "audio_seconds"),
        "limits in train seconds": lambda r: _config(r, "budget", "train_seconds") or "none",
        "snapshot grids": lambda r: _config(r, "snapshots", "every"),
        "evaluation settings": lambda r: str(
            [_config(r, "evaluation", k) for k in ("sigma", "grid_seconds")]
        ),
        "models": lambda r: str(sorted((r.config.get("model") or {}).items())),
    }
    for what, fact in facts.items():
        groups: dict[Any, list[str]] = {}
        for run in sweep.runs:
            groups.setdefault(fact(run), []).append(f"{run.arm} s{run.seed}")
        if len(groups) > 1:
            parts = "; ".join(f"{_show(k)}: {_join(v, 4)}" for k, v in groups.items())
            yield f"Runs differ in {what}: {parts}."
    commits = {r.start.get("commit") for r in sweep.runs}
    if None in commits:
        yield "Some runs do not record the commit of their code: they may not be reproducible."
    if any(c and c.endswith("+") for c in commits):
        yield "Some runs were made with uncommitted changes (a commit that ends in +)."


def _overlaps(sweep: Sweep) -> Iterator[str]:
    pairs = 0
    runs = sweep.runs
    for i, a in enumerate(runs):
        for b in runs[i + 1 :]:
            if _machine(a) == _machine(b) and any(
                x[0] < y[1] and y[0] < x[1] for x in a.spans for y in b.spans
            ):
                pairs += 1
    if not pairs:
        return
    if sweep.kind == "wall":
        yield (
            f"{pairs} pairs of runs overlapped in time on machines of one description: if it was "
            "one device, their wall seconds are not to be trusted."
        )
    else:
        yield (
            f"{pairs} pairs of runs overlapped in time on machines of one description: CPU seconds "
            "are each process's own, but caches and memory bandwidth may have been shared."
        )


def _arms(sweep: Sweep) -> Iterator[str]:
    for name, arm in sweep.arms.items():
        changed = [s for s, kind in arm.strategies.items() if kind == "model"]
        if changed:
            what = _join(changed)
            yield f"Arm {name} changes the network itself ({what}): it trains another model."
        ranks = arm.any_run.start.get("ranks") or 1
        if ranks > 1:
            yield (
                f"Arm {name} ran on {ranks} processes; its seconds are those of the slowest one, "
                "not their sum."
            )
        donors = {r.donor_seconds for r in arm.runs.values() if r.start.get("donor")}
        if donors:
            seconds = _join([f"{d:.4g} s" for d in sorted(donors)])
            yield (
                f"Arm {name} starts from a donor's weights: {seconds} of the donor's training are "
                "added to its headline seconds, and not to its audio seconds or steps."
            )
        if arm.runs and all(
            r.start.get("donor") and not r.donor_seconds for r in arm.runs.values()
        ):
            yield f"Arm {name} is charged nothing for its donor: its time is not the whole cost."
    for run in sweep.runs:
        if run.attempts > 1:
            yield (
                f"Run {run.id} was resumed {run.attempts - 1} times; work lost on the way stays "
                "charged to it."
            )


def _scores(sweep: Sweep) -> Iterator[str]:
    # A metric that no run knows is younger than the runs.
    known = {m for run in sweep.runs if run.final for m in run.final}
    unscored: dict[str, list[str]] = {}
    for run in sweep.runs:
        missing = [m for m in METRICS if m in run.final and run.final[m] is None]
        if missing:
            yield f"Run {run.id} has no final {_join(missing)}: an utterance could not be scored."
        absent = [m for m in METRICS if m in known and run.final and m not in run.final]
        if absent:
            unscored.setdefault(_join(absent), []).append(run.id)
    for what, ids in unscored.items():
        yield f"Not scored on {what}, which others are: {_join(ids, 4)} (`wg score RUN` adds it)."
    sigmas = sorted({sigma_of(r.config) for r in sweep.runs})
    if len(sigmas) > 1 and "nats_per_sample" in known:
        yield (
            f"Runs differ in sigma of the likelihood ({_join(sigmas)}): nats_per_sample compares "
            f"them, {NO_CONSTANT} does not."
        )
    found = [v for r in sweep.runs if r.final and (v := r.final.get("pesq_wb")) is not None]
    if found and max(found) < _POOR_PESQ:
        yield (
            f"No run makes good speech yet (the best PESQ-wb is {max(found):.2f} on a scale from 1 "
            "to 4.6): this compares the start of training, not its end."
        )


def _planned_end(sweep: Sweep) -> Iterator[str]:
    """A schedule over the planned audio is judged at its end, where its step size has fallen."""
    for run in sweep.runs:
        planned = float(_config(run, "budget", "audio_seconds") or 0.0)
        share = run.spent["audio_seconds"] / planned if planned else 1.0
        if run.finished and share < 0.999 and "lr_schedule" in (run.start.get("plan") or {}):
            yield (
                f"Run {run.id} was stopped by budget.train_seconds at {share:.0%} of its planned "
                "audio, before its step size had followed its schedule to the end."
            )


def _resolution(sweep: Sweep, comparison: Comparison | None) -> Iterator[str]:
    """A crossing before the second point of the grid is the grid's guess, not a measurement."""
    if comparison is None:
        return
    early: list[str] = []
    first = 0.0
    for name, times in comparison.arms.items():
        for seed, t in times.times["audio_seconds"].items():
            points = sweep.arms[name].runs[seed].curve("audio_seconds")
            if len(points) > 1 and points[0][0] < t < points[1][0]:
                first = max(first, points[1][0])
                if name not in early:
                    early.append(name)
    if early:
        yield (
            f"{_join(early)} reached the target before the first snapshot after the start (at "
            f"{first:.3g} audio seconds): that time is a straight line drawn between the two, so "
            "a finer grid (snapshots.every) would place it better."
        )


def _targets(sweep: Sweep, comparison: Comparison | None, n_targets: int) -> Iterator[str]:
    if comparison is None:
        yield "No target was set, so there is no time to target and no speed-up."
        return
    if n_targets > 1:
        yield (
            f"There are {n_targets} different targets; the headline uses "
            f"'{comparison.target.name}', the others have a table of their own."
        )
    early = [
        f"{r.arm} s{r.seed}"
        for r in sweep.runs
        if r.points
        and comparison.arms[r.arm].times["audio_seconds"][r.seed] <= r.points[0].at["audio_seconds"]
    ]
    if early:
        yield f"The target is met before training begins by {_join(early, 4)}: it is too easy."


def _config(run: Run, group: str, key: str) -> Any:
    return (run.config.get(group) or {}).get(key)


def _corpus(run: Run) -> str:
    corpus = run.start.get("corpus") or {}
    return f"{corpus.get('name')} {str(corpus.get('digest'))[:8]}"


def _machine(run: Run) -> str:
    machine = run.start.get("machine") or {}
    parts = [machine.get("gpu"), machine.get("cpu"), machine.get("system")]
    cores = f"{machine['cores']} cores" if machine.get("cores") else None
    return ", ".join(str(p) for p in (*parts, cores) if p)


def _show(value: Any) -> str:
    if value is None:
        return "not recorded"
    text = str(value)
    return text[:10] + text[-1:].strip("0123456789abcdef") if _is_commit(text) else text


def _is_commit(text: str) -> bool:
    return len(text) >= 40 and set(text.rstrip("+")) <= set("0123456789abcdef")


def _join(items: list[Any], most: int = 12) -> str:
    shown = [str(i) for i in items[:most]]
    rest = len(items) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")
