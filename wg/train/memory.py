"""The largest amount of memory that a process has used."""

from __future__ import annotations

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
