"""How much of a batch fits into memory at a time: found once a run, pinned in its record.

On a GPU it is tried: the peaks of one and of two segments tell what each further one takes, the
number that this promises is computed forwards and backwards, and fewer where it does not fit. On
a CPU there is nothing to run into but a machine that swaps, so a rule decides: half of the memory
that is available, over what one segment keeps for its backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from wg.errors import UserError
from wg.flow.waveglow import nll
from wg.measure.record import Record, read_events
from wg.train.build import Job
from wg.train.memory import available_memory, ran_out
from wg.train.parts import longest_segment
from wg.train.settings import step_shape

Autocast = Callable[[], AbstractContextManager[Any]]

FREE = 0.1  # share of a GPU that is left to fragments and cuDNN's choices
# Copies of the weights that are yet to come when the probe runs: two moments, an average that is
# judged, the optimizer's own scratch.
COPIES = 4
CPU_SHARE = 0.5


def settle(job: Job, run_dir: Path, record: Record | None, autocast: Autocast) -> int | None:
    """When the plan leaves it open, set how many segments the module computes at a time; returns
    it when it was found just now. On all ranks, before the first step; rank 0 has ``record``.

    Raises :class:`UserError` when not even one segment fits.
    """
    if job.plan.micro_batch != 0:
        return None
    pinned = 0
    if record is not None:
        found = [e["segments"] for e in read_events(run_dir) if e["event"] == "micro_batch"]
        pinned = found[-1] if found else 0
    pinned = _agree(job, pinned, dist.ReduceOp.MAX)
    job.module.micro_batch = pinned or None
    if pinned:
        return None
    most = most_segments(job)
    with _grown(job):
        fitting = _agree(job, _fitting(job, most, autocast), dist.ReduceOp.MIN)
    if fitting == 0:
        raise UserError(
            f"not even one segment of {longest_segment(job.plan)} samples fits into the GPU's "
            "memory: set a smaller segment_length or a smaller model."
        )
    # The fewest parts, and all alike: 16 in parts of 15 would be 15 and 1.
    fitting = math.ceil(most / math.ceil(most / fitting))
    job.module.micro_batch = fitting
    if record is not None:
        record.write("micro_batch", segments=fitting, of=most)
    return fitting


@contextmanager
def _grown(job: Job) -> Iterator[None]:
    """With every flow and channel computed, as at the end of a run that grows: that has to fit."""
    model = job.module.model
    active, width = model.active, model.width
    model.active, model.width = [True] * len(active), None
    try:
        yield
    finally:
        model.active, model.width = active, width


def most_segments(job: Job) -> int:
    """The largest share that a rank has of any step, in segments of the longest length."""
    samples = max(math.prod(step_shape(job.plan, i / 1000)) for i in range(1001))
    return math.ceil(samples / job.plan.ranks.n / longest_segment(job.plan))


def largest(peak_of: Callable[[int], int | None], room: int, most: int) -> int:
    """The largest number up to ``most`` whose peak is at most ``room`` bytes, as nearly as peaks
    grow in proportion; 0 when 1 is too many. ``peak_of(n)`` is None when memory ran out."""

    def fits(peak: int | None) -> bool:
        return peak is not None and peak <= room

    one = peak_of(1)
    if one is None or not fits(one):
        return 0
    two = peak_of(2) if most > 1 else None
    if two is None or not fits(two):
        return 1
    n = min(1 + (room - one) // max(two - one, 1), most)
    while n > 2 and not fits(peak_of(n)):
        n = min(n - 1, n * 7 // 8)
    return max(n, 2)


def _fitting(job: Job, most: int, autocast: Autocast) -> int:
    device = job.module.device
    if device.type != "cuda":
        room = int(CPU_SHARE * available_memory() / job.plan.ranks.n)
        return min(max(room // max(kept_bytes(job, autocast), 1), 1), most)
    free, total = torch.cuda.mem_get_info(device)
    ours = torch.cuda.memory_reserved(device)
    weights = sum(p.numel() * p.element_size() for p in job.module.parameters())
    room = int(free + ours - FREE * total) - COPIES * weights
    try:
        return largest(lambda n: _gpu_peak(job, n, autocast), room, most)
    finally:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)  # the run's own peak is yet to come


def _gpu_peak(job: Job, n: int, autocast: Autocast) -> int | None:
    """Bytes that the allocator holds at most while ``n`` segments go forwards and backwards."""
    device = job.module.device
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        loss = _loss(job, n, autocast)
        weights = [p for p in job.module.parameters() if p.requires_grad]
        torch.autograd.grad(loss, weights, allow_unused=True)
    except RuntimeError as error:
        if not ran_out(error):
            raise
        return None
    return torch.cuda.max_memory_reserved(device)


def kept_bytes(job: Job, autocast: Autocast) -> int:
    """What the forward pass of one segment keeps for the backward pass, weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in job.module.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor  # kept, so that no address is used twice

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = _loss(job, 1, autocast)
    del loss
    return sum(sizes.values())


def _loss(job: Job, n: int, autocast: Autocast) -> torch.Tensor:
    stream = job.data.stream()
    mel, audio = stream.batch(0, longest_segment(job.plan), n * job.plan.ranks.n)
    device = job.module.device
    with autocast():
        return nll(job.module.model(mel.to(device), audio.to(device)), job.module.sigma)


def _agree(job: Job, value: int, op: Any) -> int:
    if job.plan.ranks.n == 1:
        return value
    shared = torch.tensor([value], device=job.module.device)
    dist.all_reduce(shared, op=op)
    return int(shared)
