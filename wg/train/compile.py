"""torch.compile of the training loss, and its warm-up: all of its time on the `compile` clock.

What is compiled is one function, mel and audio -> loss. The model stays the eager module it is,
so checkpoints, snapshots, scoring and the guard's diagnosis see nothing of it, and every parameter
keeps its name.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wg.errors import UserError
from wg.flow import WaveGlow
from wg.flow.grow import starting_flows
from wg.flow.waveglow import nll
from wg.plan import Plan, StrategyConflict
from wg.train.settings import step_shape

if TYPE_CHECKING:
    from wg.train.build import Job

Loss = Callable[[Tensor, Tensor], Tensor]

BACKEND = "inductor"
# In place of a mode: the backend that records eager kernels (strategy `cuda_graph`).
GRAPHS = "cudagraphs"
RECORDED = ("reduce-overhead", GRAPHS)
# Compiled variants of the loss in one process: shapes, stages of a growing flow. Past PyTorch's
# own 8 it would go on without compiling, and say so in a warning only.
MOST_VARIANTS = 1024
# Calls until a CUDA graph replays: one as it is, one recorded, one replayed.
GRAPH_CALLS = 3
_FOLDERS: list[str] = []  # of this process's compiled code, one at most


def loss_of(model: WaveGlow, sigma: float, mode: str | None) -> Loss:
    """mel (B, n_mels, F), audio (B, T) -> the scalar :func:`nll`, compiled with torch.compile's
    ``mode``, or recorded as CUDA graphs for :data:`GRAPHS`, unless that is None."""

    def loss(mel: Tensor, audio: Tensor) -> Tensor:
        return nll(model(mel, audio), sigma)

    if mode is None:
        return loss
    _own_compiler()
    # Every shape for itself: there are few, and code for all of them is slower for each.
    if mode == GRAPHS:
        return torch.compile(loss, dynamic=False, backend=GRAPHS)
    return torch.compile(loss, mode=mode, dynamic=False, backend=BACKEND)


def check_compiled(plan: Plan) -> None:
    """Raises :class:`StrategyConflict` for what cannot be compiled as the plan says."""
    writers = plan.writers()
    if plan.compile in RECORDED and plan.micro_batch is not None:
        raise StrategyConflict(
            f"strategies '{writers['compile']}' and '{writers['micro_batch']}' cannot both be had "
            "as they are: a CUDA graph writes the gradients of every part to the same place; "
            "set strategy.compile.mode=default or take one of them out of the recipe."
        )


@functools.cache
def _own_compiler() -> None:
    """PyTorch's compilers for this process, which is a run's own."""
    import torch._dynamo.config as dynamo
    import torch._functorch.config as functorch

    dynamo.recompile_limit = MOST_VARIANTS
    dynamo.accumulated_recompile_limit = MOST_VARIANTS
    dynamo.fail_on_recompile_limit_hit = True
    dynamo.optimize_ddp = False  # the same whole graph on any number of ranks, warmed up or not
    # Lightning's backward passes are outside of autocast, and compiled ones are to be the same.
    functorch.backward_pass_autocast = "off"
    # What another run has compiled would be a gift that the clock knows nothing of.
    folder = tempfile.mkdtemp(prefix="wg-compile-")
    _FOLDERS.append(folder)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
    os.environ["TRITON_CACHE_DIR"] = str(Path(folder) / "triton")


@atexit.register
def remove_compiled() -> None:
    """Remove what was compiled from the disk, when no step is left to make."""
    while _FOLDERS:
        shutil.rmtree(_FOLDERS.pop(), ignore_errors=True)


def warm_up(job: Job, autocast: Callable[[], AbstractContextManager[Any]]) -> int:
    """Compile forward and backward pass for everything that is yet to occur, and return how many
    that were; 0 without a compiled loss. Weights, gradients, the optimizer and random numbers stay
    as they are.

    Raises :class:`UserError` when this machine cannot compile, or record.
    """
    if job.plan.compile is None:
        return 0
    import torch._inductor.config as inductor
    from torch._dynamo.exc import TorchDynamoException

    module, model, device = job.module, job.module.model, job.module.device
    active = list(model.active)
    calls = GRAPH_CALLS if job.plan.compile in RECORDED and device.type == "cuda" else 1
    stream, done = job.data.stream(), 0
    if device.type == "cpu":
        # One kernel at a time, by children of this process, whose CPU seconds are charged to it;
        # a pool's would be nobody's until it ends.
        inductor.compile_threads = 1
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for (length, batch, flows), progress in occurring(job).items():
                model.active = list(flows)
                mel, audio = stream.batch(0, length, batch, progress)
                parts = module.parts((mel.to(device), audio.to(device)))
                # All parts are alike but the last, which may be smaller.
                for part in {part[1].shape: part for part in parts}.values():
                    for _ in range(calls):
                        _pass(job, part, autocast)
                    done += 1
    except TorchDynamoException as error:
        raise UserError(
            f"strategy 'compile' cannot compile on this machine ({_cause(error)}): install what "
            "is missing (a C++ compiler such as g++ for a CPU, Triton for a GPU) or take "
            "'compile' out of the recipe."
        ) from error
    except torch.AcceleratorError as error:
        if job.plan.compile not in RECORDED:
            raise
        raise UserError(
            f"strategy '{job.plan.writers()['compile']}' cannot record this recipe's step as a "
            f"CUDA graph ({_cause(error)}): take it out of the recipe, or set "
            "strategy.compile.mode=default where it is 'compile'."
        ) from error
    finally:
        model.active = active
    if device.type == "cuda" and job.plan.compile not in RECORDED:
        # Trials of kernels are no step of training. A graph's memory is taken where it is recorded,
        # which was here, and no replay takes any.
        torch.cuda.reset_peak_memory_stats(device)
    return done


def occurring(job: Job) -> dict[tuple[int, int, tuple[bool, ...]], float]:
    """(segment length, batch over all ranks, flows that are computed) of every step from now on,
    and the progress at which each begins."""
    plan, model = job.plan, job.module.model
    found: dict[tuple[int, int, tuple[bool, ...]], float] = {}
    now = job.data.progress
    for progress in (now, *(i / 1000 for i in range(1000) if i / 1000 > now)):
        flows = tuple(model.active)
        if plan.n_active_flows is not None:
            n_active = int(plan.n_active_flows(progress))
            if n_active > sum(flows):
                on = starting_flows(model.config, n_active)
                flows = tuple(k in on for k in range(model.config.n_flows))
        found.setdefault((*step_shape(plan, progress), flows), progress)
    return found


def _pass(
    job: Job, part: tuple[Tensor, Tensor], autocast: Callable[[], AbstractContextManager[Any]]
) -> None:
    with autocast():
        loss = job.module.loss(*part)
    weights = [p for p in job.module.parameters() if p.requires_grad]
    torch.autograd.grad(loss, weights, allow_unused=True)


def _cause(error: BaseException) -> str:
    """The first line that says what went wrong; before it may come who says so."""
    lines = (line.strip() for line in str(error).splitlines())
    told = next((line for line in lines if line and not line.endswith(":")), None)
    return (told or type(error).__name__).rstrip(".")
