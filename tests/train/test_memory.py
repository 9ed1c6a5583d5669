"""Memory that did not suffice, in the words of whoever ran out of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from wg.train import fit
from wg.train.build import build
from wg.train.memory import ran_out
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]
SPENT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]
OTHERS = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
]


@pytest.mark.parametrize("error", [*SPENT, *OTHERS], ids=str)
def test_a_probe_gives_way_to_memory_and_to_nothing_else(
    error: RuntimeError, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's own error is one of several: cuDNN and cuBLAS have others."""

    def fail(*_: Any) -> torch.Tensor:
        raise error

    job = build(Settings.from_config(tiny_config()))
    monkeypatch.setattr(fit, "_loss", fail)
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    assert ran_out(error) == (error in SPENT)
    if error in SPENT:
        assert fit._gpu_peak(job, 1, torch.no_grad) is None
    else:
        with pytest.raises(type(error)):
            fit._gpu_peak(job, 1, torch.no_grad)
