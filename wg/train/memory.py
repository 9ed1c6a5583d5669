"""The largest amount of memory that a process has used, and what it could still have."""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

import torch


def peak_memory(device: torch.device) -> dict[str, Any]:
    """Fields of a record: ``peak_memory_bytes`` so far, and of what: tensors on the run's GPU, or
    the resident set of this process (one rank)."""
    if device.type == "cuda":
        of, peak = "gpu tensors", torch.cuda.max_memory_allocated(device)
    else:
        of, peak = "process", _resident()
    return {"peak_memory_bytes": peak, "peak_memory_of": of}


def _resident() -> int:
    # Not ru_maxrss where there is a choice: on Linux it starts at the size of whoever started us.
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found is not None:
        return int(found.group(1)) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def available_memory() -> int:
    """Bytes of main memory that this process could still take without making the machine swap,
    as Linux estimates it and the control group allows."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
        limits += [int(found.group(1)) * 1024] if found else []
    except OSError:
        pass
    for folder, limit, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limits.append(
                int(Path(folder, limit).read_text()) - int(Path(folder, used).read_text())
            )
        except (OSError, ValueError):  # no such group, or its limit is the word "max"
            continue
    return max(min(limits), 0)


# Of libraries whose own words reach us: cuDNN tries its algorithms, and tells of the last failure
# that none was found; cuBLAS has a code.
_RAN_OUT = ("out of memory", "can't allocate memory", "unable to find an engine", "ALLOC_FAILED")


def ran_out(error: RuntimeError) -> bool:
    """Whether it says that memory, a GPU's or the machine's, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _RAN_OUT)
