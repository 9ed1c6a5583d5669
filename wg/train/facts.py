"""What a run writes down about itself when it starts."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from wg.commit import code_commit
from wg.errors import UserError
from wg.files import read_json
from wg.measure.clock import headline, headline_kind
from wg.measure.record import Event, last_clock, read_events
from wg.plan import SLOTS, Plan
from wg.strategies import all_strategies
from wg.train.build import Job, donor_folder

_PACKAGES = ("wg", "torch", "lightning", "hydra-core", "numpy", "librosa", "wandb")


def start_facts(job: Job, identity: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """Fields of a ``start`` event. Raises :class:`UserError` when the corpus is not the one
    that an earlier attempt of this run was trained on."""
    s = job.settings
    corpus = {
        "name": job.corpus.name,
        "digest": job.corpus.digest,
        "train_utterances": len(job.store.train),
        "held_out_utterances": len(job.store.held_out),
        "train_seconds": _seconds(job, job.store.train),
        "held_out_seconds": _seconds(job, job.store.held_out),
    }
    for event in read_events(run_dir):
        if event["event"] == "start" and event["corpus"]["digest"] != corpus["digest"]:
            raise UserError(
                f"the files of corpus '{job.corpus.name}' have changed since {run_dir.name} began; "
                "restore them, or delete that directory to start again."
            )
    donor = _donor(job, read_events(run_dir))
    return {
        "run": run_dir.name,
        "arm": identity["arm"],
        "recipe": s.recipe,
        "seed": s.seed,
        "command": identity["command"],
        "machine": machine(job.device),
        "versions": versions(),
        "commit": code_commit(),
        "threads": s.threads,
        "ranks": job.plan.ranks.n,
        "device": job.device.type,
        "clock_kind": headline_kind(job.device.type),
        "corpus": corpus,
        "strategies": {n: all_strategies()[n].kind for n in s.strategy},
        "plan": describe(job.plan),
        "donor": donor,
        "resumed_step": job.data.step,
        "parameters": sum(p.numel() for p in job.module.model.parameters()),
    }


def _donor(job: Job, earlier: list[Event]) -> dict[str, Any] | None:
    """What the run is charged for its donor. UserError when it began from other weights than the
    donor has now; a donor that is gone since stays charged."""
    began = [e["donor"] for e in earlier if e["event"] == "start" and e.get("donor")]
    if began and job.plan.donor is not None and not Path(job.plan.donor.path).exists():
        return dict(began[-1])
    donor = donor_cost(job.plan, job.device)
    if donor is not None and any(d["sha256"] not in (None, donor["sha256"]) for d in began):
        raise UserError(
            f"the donor {donor['path']} has changed since this run began from it; restore it, or "
            "delete the run's directory to start again."
        )
    return donor


def describe(plan: Plan) -> dict[str, str]:
    """Slot -> its value in words, for the slots that a strategy wrote."""
    words = {}
    for slot, writer in plan.writers().items():
        assert slot in SLOTS
        value = getattr(plan, slot)
        text = value.describe() if hasattr(value, "describe") else value
        words[slot] = f"{writer}" if callable(value) and text is value else f"{text}"
    return words


def donor_cost(plan: Plan, device: torch.device) -> dict[str, Any] | None:
    """The donor and the headline seconds it cost, from its own record unless given."""
    if plan.donor is None:
        return None
    seconds = plan.donor.train_seconds
    if seconds is None:
        folder = Path(plan.donor.path).absolute()
        run = folder.parent if folder.name == "final" else folder  # final is a link: not resolved
        events = read_events(run)
        totals = last_clock(events)
        if totals is None:
            raise UserError(
                f"the donor {plan.donor.path} has no record of its training time; give it as "
                "strategy.warm_start.donor_seconds=SECONDS, so that it can be charged."
            )
        # A donor that was itself warm-started passes its own donor's cost on.
        inherited = next((e["donor"] for e in events if e.get("donor")), {"train_seconds": 0.0})
        seconds = headline(totals, headline_kind(device.type)) + inherited["train_seconds"]
    sha256 = read_json(donor_folder(plan.donor.path) / "model.json").get("sha256")
    return {"path": plan.donor.path, "train_seconds": seconds, "sha256": sha256}


def machine(device: torch.device) -> dict[str, Any]:
    """What the run ran on."""
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    return facts


def cpu_name() -> str:
    """As the kernel or the platform names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _seconds(job: Job, utterances: list[int]) -> float:
    samples = sum(job.store.n_samples(i) for i in utterances)
    return round(samples / job.settings.data.sampling_rate, 3)
