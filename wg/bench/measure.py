"""One measurement in a process of its own: ``python -m wg.bench.measure TASK.json RESULT.json``.

A process for each, because memory, kernel caches and process-wide switches of one variant would
colour the next. TASK names ``what``: "compare" (the base and one variant, interleaved) or "memory".
"""

from __future__ import annotations

import json
import logging
import math
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from wg.bench.agree import Tolerance, agreement, tolerance, trace
from wg.bench.batch import Batch, make_batch
from wg.bench.gauge import Gemm, Peak, Seconds, clock_of, refusal, seconds
from wg.bench.peer import PeerStep
from wg.bench.step import OwnStep, Step, settings_of, shape
from wg.bench.variants import PEER, PLAIN, Variant
from wg.errors import UserError
from wg.flow import WaveGlow
from wg.flow.flops import step_flops
from wg.flow.grow import starting_flows
from wg.flow.waveglow import nll
from wg.flow.width import share_of
from wg.train.build import resolve_device
from wg.train.prepare import flow_config
from wg.train.settings import Settings

WARM_UP = 2  # steps, beside those that are compared
SHORTEST = 0.3  # seconds of a repetition, of several steps where one is shorter
MOST_STEPS = 16
MEMORY_STEPS = 3  # the first makes the optimizer's state, the others show the rest
PROGRESS = "wg-bench-progress "

Progress = Callable[[int], None]


def make_step(variant: Variant) -> Step:
    """The step of a variant on its own seeded batch, built and not yet run."""
    settings = settings_of(variant.config)
    batch = batch_of(settings)
    if variant.kind == PEER:
        assert variant.peer is not None
        device = resolve_device(settings.device)
        return PeerStep(Path(variant.peer), settings.model, settings.sigma, device, batch)
    return OwnStep(settings, batch)


def batch_of(settings: Settings) -> Batch:
    """(mel, audio) of the size that these settings train on."""
    segments, samples = shape(settings)
    return make_batch(settings.data.mel, segments, samples)


def compare(base: Variant, variant: Variant, repeats: int, progress: Progress) -> dict[str, Any]:
    """Times of both, repetition by repetition, and whether they do the same."""
    ours = settings_of(base.config)
    device = resolve_device(ours.device)
    a, b = make_step(base), make_step(variant)
    allowed = allowed_to(variant)
    if allowed is not None:
        b.load(a.weights())
    for step in (a, b):
        step.use()
        step.settle()
    agreed = agreement(trace(a), trace(b), allowed)
    gemm, steps = Gemm(device), {"base": a, "variant": b}
    gemm()
    first = min(run(step, WARM_UP, device).wall / WARM_UP for step in steps.values())
    n_steps = steps_of_a_repetition(first)
    times: dict[str, list[Seconds]] = {"gemm": [], "base": [], "variant": []}
    for i in range(repeats):
        times["gemm"].append(seconds(gemm, device))
        # Who is second may find caches warm: they take turns.
        for name in ("base", "variant") if i % 2 == 0 else ("variant", "base"):
            times[name].append(run(steps[name], n_steps, device))
        progress(i + 1)
    final = float(b.backward())
    return {
        "clock": clock_of(device),
        "steps_per_repetition": n_steps,
        "times": {name: [asdict(t) for t in ts] for name, ts in times.items()},
        "samples": {name: step.batch.samples for name, step in steps.items()},
        "batch": {name: list(step.batch.audio.shape) for name, step in steps.items()},
        "flops": {"base": flops_of(base), "variant": flops_of(variant)},
        "gemm": {"n": gemm.n, "flops": gemm.flops},
        "agreement": agreed.to_dict(),
        "tolerance": None if allowed is None else asdict(allowed),
        "finite": math.isfinite(final),
    }


def steps_of_a_repetition(once: float) -> int:
    """How many steps of ``once`` seconds make one."""
    return max(1, min(MOST_STEPS, round(SHORTEST / max(once, 1e-9))))


def run(step: Step, n: int, device: torch.device) -> Seconds:
    """Seconds of ``n`` whole steps."""
    step.use()

    def work() -> None:
        for _ in range(n):
            step.backward()
            step.update()

    return seconds(work, device)


def allowed_to(variant: Variant) -> Tolerance | None:
    """By how much rounding may move a variant of the same mathematics; None for others."""
    if not variant.same_mathematics:
        return None
    if variant.kind in (PEER, PLAIN):
        return tolerance("32-true", "highest")
    plan = settings_of(variant.config).plan()
    return tolerance(plan.precision, plan.matmul)


def flops_of(variant: Variant) -> int:
    """Model FLOPs of its step, of the network that a run starts with, which is what is timed."""
    settings = settings_of(variant.config)
    plan = settings.plan()
    config = flow_config(settings.model, plan, settings.data.mel.n_fft)
    flows = width = None
    if plan.n_active_flows is not None:
        flows = tuple(starting_flows(config, int(plan.n_active_flows(0.0))))
    if plan.active_width is not None:
        width = share_of(config.n_channels, plan.active_width(0.0))
    return step_flops(config, *shape(settings), flows, width)


def memory(variant: Variant) -> dict[str, Any]:
    """Peak memory of a few steps."""
    settings = settings_of(variant.config)
    device = resolve_device(settings.device)
    _load_libraries(settings)
    step = make_step(variant)
    step.use()
    peak = Peak(device)
    for _ in range(MEMORY_STEPS):
        step.backward()
        step.update()
    return {"peak_bytes": peak.bytes(), "of": peak.of}


def _load_libraries(settings: Settings) -> None:
    """A step of a network of no size: code that is loaded on first use is not the variant's."""
    config = replace(settings.model, n_flows=1, n_layers=1, n_channels=2)
    model, batch = WaveGlow(config), make_batch(settings.data.mel, 1, 4 * config.upsample_stride)
    nll(model(batch.mel, batch.audio)).backward()
    torch.optim.Adam(model.parameters()).step()


def main(task: Path, result: Path) -> None:
    """Errors of the user's are part of the result; others leave a traceback and no result."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    wanted: Mapping[str, Any] = json.loads(task.read_text())
    variant = Variant(**wanted["variant"])
    torch.set_num_threads(variant.config["threads"])
    try:
        if wanted["what"] == "memory":
            found = memory(variant)
        else:
            found = compare(
                Variant(**wanted["base"]),
                variant,
                wanted["repeats"],
                lambda done: print(f"{PROGRESS}{done}", flush=True),
            )
    except (UserError, RuntimeError) as error:
        found = {"refused": refusal(error)}
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
