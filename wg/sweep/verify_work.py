"""A record against the work that its configuration asks for: steps, audio, FLOPs, snapshots.

A configuration decides how much audio has been seen, and how many model FLOPs were spent, after
every step, and at which steps snapshots fall. It also bounds CPU seconds from below: no thread
computes faster than it can.
"""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from wg.errors import UserError
from wg.flow.flops import step_flops
from wg.measure.record import Event, snapshots
from wg.measure.verify_clock import section
from wg.strategies import make_plan
from wg.sweep.verify_subject import Subject
from wg.train.prepare import flow_config
from wg.train.settings import Settings
from wg.train.workload import Shape, shape_at

# Model FLOPs that a CPU thread computes in a second at most: a core with two 512-bit units does
# 0.3e12 in fp32. Reduced precision, or a Mac's matrix unit, has a multiple of it.
PEAK_OF_THREAD = 1e12
PEAK_REDUCED = 8e12
# What a GPU computes at most in any arithmetic.
PEAK_OF_GPU = 1e16
# Where a growing model is a step earlier or later than planned, by rounding of its progress.
GROWING = 0.01


@dataclass(frozen=True)
class Work:
    """After step k: samples[k] seen and flops[k] model FLOPs spent, from step 0 on."""

    settings: Settings
    samples: list[int]
    flops: list[int]
    ranks: int
    reduced: bool  # whether products are made in less than fp32
    growing: bool  # whether FLOPs of a step change within a run

    @property
    def steps(self) -> int:
        return len(self.samples) - 1

    def audio_seconds(self, step: int) -> float:
        return round(self.samples[step] / self.settings.data.sampling_rate, 6)

    def snapshots(self, last: int) -> dict[int, int]:
        """Index -> step of the snapshots due up to step ``last``."""
        grid, rate = self.settings.grid(), self.settings.data.sampling_rate
        seconds = [s / rate for s in self.samples]
        due: dict[int, int] = {}  # step -> index: the last point that the step passes
        for index, at in enumerate(grid):
            step = bisect_left(seconds, at - 1e-9)
            if step <= self.steps:
                due[step] = index
        if self.steps not in due:
            due[self.steps] = bisect_right(grid, seconds[-1] + 1e-9)
        return {index: step for step, index in due.items() if step <= last}


def work_of(run: Subject) -> Work:
    """Raises :class:`UserError` for a configuration that this wg cannot plan."""
    settings = Settings.from_config(dict(run.config))
    # Not settings.plan(): packages and GPUs were needed to train, not to count.
    plan = make_plan(settings.base(), settings.strategy)
    model = flow_config(settings.model, plan, settings.data.mel.n_fft)
    flops_of = functools.cache(
        lambda s: step_flops(model, s.batch, s.samples, s.flows, s.width),
    )
    total = round(plan.base.audio_seconds * plan.base.sampling_rate)
    slots = (plan.segment_length, plan.batch_size, plan.n_active_flows, plan.active_width)
    fixed: Shape | None = None
    if all(slot is None for slot in slots):
        fixed = shape_at(plan, model, 0.0)
    samples, flops = [0], [0]
    shapes: set[Shape] = set()
    while samples[-1] < total:
        shape = fixed or shape_at(plan, model, samples[-1] / total)
        shapes.add(shape)
        samples.append(samples[-1] + shape.batch * shape.samples)
        flops.append(flops[-1] + flops_of(shape))
    reduced = plan.precision not in ("32", "32-true") or plan.matmul != "highest"
    growing = len({(s.flows, s.width) for s in shapes}) > 1
    return Work(settings, samples, flops, plan.ranks.n, reduced, growing)


def check_work(run: Subject, work: Work) -> Iterator[str]:
    """Every line says what the configuration gives."""
    for e in run.events:
        yield from _line(e, work)
    yield from _snapshots(run, work)
    yield from _faster_than_can_be(run, work)
    ranks = run.start.get("ranks")
    if ranks is not None and ranks != work.ranks:
        yield f"it ran on {ranks} ranks, and config.yaml has {work.ranks}"


def _line(e: Event, work: Work) -> Iterator[str]:
    step = e.get("step")
    if step is None or e["event"] in ("rollback", "score"):
        return
    what = f"the '{e['event']}' event of step {step}"
    if step > work.steps:
        yield f"{what}: the configuration has {work.steps} steps"
        return
    if e.get("samples_seen", work.samples[step]) != work.samples[step]:
        yield f"{what} has seen {e['samples_seen']} samples, and should {work.samples[step]}"
    seconds = work.audio_seconds(step)
    # An end tells where its run stopped, which after a rollback is not where its weights are.
    if e["event"] != "end" and abs(e.get("audio_seconds", seconds) - seconds) > 1e-4:
        yield f"{what} has seen {e['audio_seconds']:g} s of audio, and should {seconds:g} s"
    said, flops = e.get("model_flops"), work.flops[step]
    if e["event"] != "end" and said is not None:
        allowed = GROWING * flops if work.growing else 1e-9 * flops
        if abs(said - flops) > allowed:
            yield f"{what} has spent {said:.6g} model FLOPs, and should {flops:.6g}"


def _snapshots(run: Subject, work: Work) -> Iterator[str]:
    """All that were due, where they were due."""
    reached = max((e["step"] for e in run.events if e["event"] in _TRAINING), default=-1)
    # A kill may fall between the last step and its snapshot.
    trained = any(e["event"] == "trained" for e in run.events)
    due = work.snapshots(reached if trained else reached - 1)
    taken = {e["index"]: e["step"] for e in snapshots(run.events)}
    missing = sorted(set(due) - set(taken))
    if missing:
        yield f"snapshots {listed_numbers(missing)} are missing, which the grid has before its end"
    every = work.snapshots(work.steps)
    for index, step in sorted(taken.items()):
        if index in every and every[index] != step:
            limited = work.settings.budget.train_seconds is not None
            if not (limited and index == max(taken)):  # where its time was over
                yield f"snapshot {index} was taken at step {step} and was due at {every[index]}"


_TRAINING = ("train", "clock", "snapshot", "trained")


def listed_numbers(numbers: list[int]) -> str:
    """The first few, in words."""
    return ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")


def _faster_than_can_be(run: Subject, work: Work) -> Iterator[str]:
    """No more FLOPs a second than a processor has."""
    last = next((e for e in reversed(run.events) if e["event"] == "train"), None)
    if last is None or last["step"] > work.steps:
        return
    flops = work.flops[last["step"]] / work.ranks
    kind = "cpu" if run.start.get("device") == "cpu" else "wall"
    seconds = section(last, "train", kind)
    on_mac = "Darwin" in str((run.start.get("machine") or {}).get("system"))
    peak = PEAK_REDUCED if work.reduced or on_mac else PEAK_OF_THREAD
    peak = peak if kind == "cpu" else PEAK_OF_GPU
    if flops > peak * (seconds + 1e-3):
        what = "CPU seconds" if kind == "cpu" else "seconds"
        yield (
            f"{flops:.3g} model FLOPs in {seconds:.3f} {what} of training are more than the "
            f"{peak:.0e} a second that any {'thread' if kind == 'cpu' else 'GPU'} computes"
        )


def seconds_per_flop(run: Subject, work: Work) -> float | None:
    """CPU seconds of training for a model FLOP: the median over the lines of its log, so that
    what a crash threw away does not count; None when there are fewer than 5."""
    lines = [e for e in run.events if e["event"] == "train" and e["step"] <= work.steps]
    found: list[float] = []
    for a, b in pairwise(lines):
        if a["attempt"] == b["attempt"] and b["step"] > a["step"]:
            spent = section(b, "train", "cpu") - section(a, "train", "cpu")
            found.append(spent / (work.flops[b["step"]] - work.flops[a["step"]]))
    return median(found) if len(found) >= 5 else None


def try_work(run: Subject) -> tuple[Work | None, str]:
    """The work of a run, or why it is not known."""
    try:
        return work_of(run), ""
    except UserError as error:
        return None, str(error)
