"""What a machine does: seconds of a piece of work, its rate of matrix products, its memory."""

from __future__ import annotations

import contextlib
import gc
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from wg.bench.switches import Switches
from wg.errors import UserError
from wg.train.memory import peak_memory, ran_out

CPU_SIDE, GPU_SIDE = 1024, 8192  # of the square matrices: 4 MB and 256 MB each


@dataclass(frozen=True)
class Seconds:
    """wall: monotonic; cpu: of all threads of this process."""

    wall: float
    cpu: float


def clock_of(device: torch.device) -> str:
    """Which of :class:`Seconds` counts: on a CPU that others share, the one that is ours."""
    return "wall" if device.type == "cuda" else "cpu"


def seconds(work: Callable[[], None], device: torch.device) -> Seconds:
    """Of ``work``, the device being idle before and after it."""
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    synchronize(device)
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def refusal(error: Exception) -> str:
    """Why what is asked for cannot be measured here, from within an ``except``. Errors: ``error``
    itself where that is neither a user's mistake nor a want of memory."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, RuntimeError) and ran_out(error):
        return f"does not fit: {str(error).splitlines()[0]}"
    raise error


def synchronize(device: torch.device) -> None:
    """Wait for what is queued on a GPU; a CPU has nothing queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Gemm:
    """A large matrix product: the yardstick of model FLOPs. In fp32, without TF32, half precision
    and TF32 may surpass it, which is their point; ``arithmetic`` (fp32, tf32, bf16, fp16) makes it
    the yardstick of what computes in that."""

    def __init__(self, device: torch.device, arithmetic: str = "fp32") -> None:
        self.n = GPU_SIDE if device.type == "cuda" else CPU_SIDE
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(arithmetic, torch.float32)
        tf32 = arithmetic == "tf32"
        self.switches = Switches("high" if tf32 else "highest", tf32, cudnn_benchmark=False)
        generator = torch.Generator().manual_seed(0)
        self.a, self.b = (
            torch.randn(self.n, self.n, generator=generator).to(device, dtype) for _ in range(2)
        )
        self.out = torch.empty_like(self.a)

    @property
    def flops(self) -> int:
        return 2 * self.n**3

    def __call__(self) -> None:
        self.switches.set()
        torch.mm(self.a, self.b, out=self.out)


class Peak:
    """Peak memory of what follows. On a GPU: all tensors. On a CPU: the resident set above that of
    now, which already holds the program and the model."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gc.collect()
        synchronize(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.of, self.before = "all tensors on the GPU", 0
        else:
            self.of, self.before = "resident set above the loaded model", _resident()
            # "5" sets the high-water mark to the present. Where it may not, the mark counts from
            # the start of the process.
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        synchronize(self.device)
        return max(int(peak_memory(self.device)["peak_memory_bytes"]) - self.before, 0)


def _resident() -> int:
    try:
        found = re.search(r"VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    return int(found.group(1)) * 1024 if found else int(peak_memory(_CPU)["peak_memory_bytes"])


_CPU = torch.device("cpu")
