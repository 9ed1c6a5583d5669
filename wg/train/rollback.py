"""When training cannot go on: name the cause, go back to the last good state, keep it usable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wg.checkpoint.weights import read_weights
from wg.errors import UserError
from wg.flow.waveglow import nll
from wg.measure.record import read_events, snapshots
from wg.train.build import Job
from wg.train.checkpoint import CorruptCheckpoint, SafeCheckpointIO
from wg.train.data import SegmentStream
from wg.train.diagnose import Finding, Level, diagnose, level
from wg.train.guard import all_finite
from wg.train.memory import ran_out
from wg.train.parts import Batch
from wg.train.settings import step_shape

Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Rollback:
    """What is recorded of one.

    step, audio_seconds  of the state that training would resume from: a checkpoint, or the start
    from_step            how far it had come
    snapshot             the last good weights, a folder relative to the run directory, if any
    cause, mend          in words
    """

    from_step: int
    step: int
    audio_seconds: float
    snapshot: str | None
    cause: str
    mend: str

    def describe(self) -> str:
        """One sentence, without its full stop."""
        return f"{self.cause}; rolled back to step {self.step}; to mend it: {self.mend}"


def roll_back(job: Job, run_dir: Path, batch: Batch, why: str, autocast: Autocast) -> Rollback:
    """On rank 0, with the model as it is after the last step and ``batch`` this rank's share of
    it. ``autocast`` makes the context of a forward pass; ``why`` is the guard's reason to stop.

    Afterwards the newest checkpoint is the newest good one, and ``final`` leads to good weights.
    A checkpoint that cannot be read now, but is not known to be bad, stays; the cause tells of it.
    """
    from_step = job.data.step
    cause, mend = explain(job, batch, why, autocast)
    good, unread = _back_to_good(job, run_dir / "checkpoint", autocast)
    cause = "; ".join([cause, *unread])
    step, samples = (good["step"], good["samples_seen"]) if good else (0, 0)
    snapshot = _good_snapshot(run_dir, step)
    if snapshot is not None:
        link_final(run_dir, run_dir / snapshot)
    seconds = round(samples / job.plan.base.sampling_rate, 6)
    return Rollback(from_step, step, seconds, snapshot, cause, mend)


def explain(job: Job, batch: Batch, why: str, autocast: Autocast) -> tuple[str, str]:
    """(cause, mend) in words, from running the last batch again: rank by rank and part by part,
    because the whole of it need not fit into this one's memory."""
    guard, model = job.module.guard, job.module.model
    scale = guard.scale[1] if guard.scale and guard.last.overflow else 1.0
    part, finding = batch, Finding("none", "")
    try:
        for part in _parts(job, batch):
            finding = diagnose(model, part, job.module.sigma, autocast(), scale)
            if finding.kind != "none":
                break
    except RuntimeError as error:
        if not ran_out(error):
            raise
        # It takes a second model and no recomputation or compiler. The run ends as diverged still.
        finding = Finding("none", "the cause is not known, memory ran out looking for it")
    facts = level(part[1], finding.items)
    where = f" {'in' if finding.items else 'on'} {facts.describe()}"
    where = "" if finding.kind == "weights" else where
    cause = f"{finding.what}{where} at step {job.data.step}; {why}"
    return cause, _mend(job, finding, facts)


def _parts(job: Job, batch: Batch) -> Iterator[Batch]:
    """What was computed at a time of the step that ended last, on any rank."""
    T, B = batch[1].shape[1], len(batch[1]) * job.plan.ranks.n
    for rank in range(job.plan.ranks.n):
        mel, audio = batch
        if rank > 0:
            before = (job.data.samples_seen - T * B) / _total(job)
            mel, audio = _stream(job, rank).batch(job.data.step - 1, T, B, before)
        yield from job.module.parts((mel.to(batch[0]), audio.to(batch[1])))


def _stream(job: Job, rank: int = 0) -> SegmentStream:
    hop = job.settings.data.mel.hop_length
    return SegmentStream(job.store, job.plan, hop, rank, silence_db=job.data.silence_db)


def _total(job: Job) -> float:
    """Samples of the planned audio."""
    return job.plan.base.audio_seconds * job.plan.base.sampling_rate


def _mend(job: Job, finding: Finding, facts: Level) -> str:
    recipe = job.settings.strategy
    smaller = "a smaller strategy.adamw.lr" if "adamw" in recipe else "strategy adamw at lr=1e-4"
    calmer = smaller if "clip" in recipe else f"strategy clip or {smaller}"
    if finding.kind == "data":
        return "leave out the recordings that hold such samples"
    if finding.half or job.module.guard.last.overflow:
        return "bf16 in place of fp16"
    if facts.silent:
        known = {
            "data.silence_db (draws silent segments again)": job.data.silence_db,
            "strategy dequantize (bounds the likelihood on them)": job.plan.dequantize,
        }
        return " or ".join(text for text, used in known.items() if not used) or calmer
    return calmer


def _back_to_good(
    job: Job, folder: Path, autocast: Autocast
) -> tuple[dict[str, Any] | None, list[str]]:
    """Load the weights of the newest checkpoint that is sound, finite and gives a finite loss;
    newer ones that are proven bad are removed. Returns where its stream stands, or None when there
    is none, and a clause for each newer one that could not be read and was left."""
    unread: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            checkpoint = SafeCheckpointIO().load_checkpoint(path)
        except CorruptCheckpoint:
            checkpoint = None
        except UserError as e:
            unread.append(f"{str(e).partition(';')[0]} and was left")
            continue
        if checkpoint is not None and _is_good(job, checkpoint, autocast):
            stands: dict[str, Any] = checkpoint[type(job.data).__qualname__]
            return stands, unread
        shutil.rmtree(path, ignore_errors=True)
    return None, unread


def _is_good(job: Job, checkpoint: dict[str, Any], autocast: Autocast) -> bool:
    if not all_finite(_all_tensors(checkpoint)):
        return False
    module = job.module
    module.load_state_dict(checkpoint["state_dict"])
    module.model.active = list(checkpoint["wg"]["active"])
    stands = checkpoint[type(job.data).__qualname__]
    # Of the batch before it: the one after may be what went wrong.
    seen = stands["samples_seen"]
    T, B = step_shape(job.plan, (seen - 1) / _total(job))
    share = _stream(job).batch(stands["step"] - 1, T, B, (seen - T * B) / _total(job))
    mel, audio = (t.to(module.device) for t in share)
    with torch.no_grad(), autocast():
        losses = [nll(module.model(*part), module.sigma) for part in module.parts((mel, audio))]
    return all_finite(losses)


def _all_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from _all_tensors(v)
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _all_tensors(v)


def _good_snapshot(run_dir: Path, step: int) -> str | None:
    """The newest snapshot up to ``step`` whose weights are sound and finite."""
    for snap in reversed(snapshots(read_events(run_dir))):
        if snap["step"] > step:
            continue
        try:
            _, weights, _ = read_weights(run_dir / snap["path"])
        except UserError:
            continue
        if all_finite(weights.values()):
            return str(snap["path"])
    return None


def link_final(run_dir: Path, folder: Path) -> None:
    """``final`` leads to the weights that the run is known by: its last, or its last good ones."""
    link = run_dir / ".final"
    link.unlink(missing_ok=True)
    os.symlink(os.path.relpath(folder, run_dir), link)
    os.replace(link, run_dir / "final")
