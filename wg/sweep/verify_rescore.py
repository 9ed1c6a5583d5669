"""``wg verify --rescore``: score a run's last weights again, and compare with what is on record.

The only check of a score that was changed together with those of its utterances: noise is fixed
and weights are hashed, so the same numbers must come out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from wg.audio.names import shown
from wg.checkpoint.weights import load_model
from wg.errors import UserError
from wg.measure.metrics import METRICS, check_metrics_installed
from wg.measure.record import scores, snapshots
from wg.measure.score import Sigmas, grid_utterances, score_utterances
from wg.sweep.verify_subject import Verdict, read_subject
from wg.train.build import resolve_device, set_matmul
from wg.train.score_again import open_store_of
from wg.train.settings import Settings

Which = Literal["grid", "held_out"]

# How far a score may be from the recorded one: share of it, and in the metric's own unit. On one
# machine they agree to the last digits; another processor, or a GPU, rounds otherwise.
RELATIVE, ABSOLUTE = 0.01, 0.005


def rescore(
    run_dir: Path,
    which: Which = "grid",
    data_path: Path | None = None,
    say: Callable[[str], None] = print,
) -> Verdict:
    """Faults where a score of ``final/``, of an utterance or in the mean, is off its record by
    more than the tolerance. Nothing is written into the run's directory.

    Errors: UserError when weights, corpus or a metric's package are not here, or when nothing is
    on record.
    """
    run, damaged = read_subject(run_dir)
    if run is None:
        return damaged
    taken = snapshots(run.events)
    recorded = [e for e in scores(run.events, which) if taken and e["index"] == taken[-1]["index"]]
    if not recorded:
        raise UserError(f"{shown(run_dir)} has no {which} score of its last snapshot to compare.")
    if not (run_dir / "final" / "model.safetensors").is_file():
        raise UserError(f"{shown(run_dir)} has no final/ here: only weights can be scored again.")
    settings = Settings.from_config(dict(run.config))
    metrics = [m for m in recorded[0]["metrics"] if m in METRICS]
    check_metrics_installed(metrics)
    torch.set_num_threads(settings.threads)
    set_matmul("highest")
    store = open_store_of(settings, data_path, run.events, run_dir, say)
    here = settings.device != "cuda" or torch.cuda.is_available()
    device = resolve_device(settings.device if here else "cpu")
    chosen = (
        grid_utterances(store, settings.evaluation.grid_seconds, settings.data.sampling_rate)
        if which == "grid"
        else list(store.held_out)
    )
    model, _ = load_model(run_dir / "final", device)
    sigmas = Sigmas(settings.sigma, settings.evaluation.sigma)
    say(f"scoring final/ of {shown(run_dir)} again: {len(chosen)} utterances")
    found = score_utterances(model, store, chosen, sigmas, settings.data.mel, device, metrics)
    verdict = Verdict(list(differences(recorded[0], found, which)))
    if not verdict.faults:
        verdict.notes.append(
            f"scored again: {', '.join(metrics)} of {len(found)} {which} utterances are what is "
            f"on record, within {RELATIVE:.0%} or {ABSOLUTE:g}"
        )
    return verdict


def differences(
    recorded: Mapping[str, Any], found: Mapping[str, Mapping[str, float]], which: str
) -> Iterator[str]:
    """Where a recorded score and the one found now are not the same."""
    each = recorded.get("utterances") or {}
    if set(each) != set(found):
        yield (
            f"the {which} score heard {len(each)} utterances, and the split has {len(found)} "
            "others or more"
        )
    for metric, mean in recorded["metrics"].items():
        pairs = [(u, each[u].get(metric), v[metric]) for u, v in found.items() if u in each]
        off = [(u, a, b) for u, a, b in pairs if not same(a, b)]
        if off:
            u, a, b = off[0]
            yield (
                f"{metric} of {len(off)} {which} utterances is not what its weights give: {a} is "
                f"on record for {u}, and scored again it is {b:.6g}"
            )
        values = [v[metric] for v in found.values()]
        again = math.fsum(values) / len(values)
        if not same(mean, again):
            yield f"the {which} mean of {metric} is {mean}, and scored again it is {again:.6g}"


def same(recorded: float | None, found: float) -> bool:
    """Within the tolerance; what is not finite is null on record."""
    if recorded is None or not math.isfinite(found):
        return recorded is None and not math.isfinite(found)
    return math.isclose(recorded, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
