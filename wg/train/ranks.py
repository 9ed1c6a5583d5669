"""Lightning's DDP as the plan's ``ranks`` ask for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    bf16_compress_hook,
    fp16_compress_hook,
)
from torch.nn.parallel import DistributedDataParallel

from wg.errors import UserError
from wg.plan import Ranks

Hook = Callable[[Any, Any], Any]
_HOOKS: dict[str, Hook | None] = {
    "none": None,
    "bf16": bf16_compress_hook,
    "fp16": fp16_compress_hook,
}


class HookedDDP(DDPStrategy):
    """DDP whose gradients go through ``hook`` on their way, on every kind of device: Lightning
    itself leaves its hooks out on CPUs, without a word."""

    def __init__(self, hook: Hook | None, **settings: Any) -> None:
        super().__init__(**settings)
        self.hook = hook

    def configure_ddp(self) -> None:
        super().configure_ddp()
        if self.hook is not None:
            assert isinstance(self.model, DistributedDataParallel)
            self.model.register_comm_hook(None, self.hook)


def ddp_strategy(ranks: Ranks, device: torch.device, *, find_unused: bool) -> DDPStrategy:
    """``find_unused``: some parameters have no gradient for a while.

    Raises :class:`UserError` for what this machine has not got.
    """
    backend = ranks.backend
    if backend == "auto":
        backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda" and ranks.n > torch.cuda.device_count():
        raise UserError(
            f"strategy.ddp.ranks={ranks.n} needs as many GPUs and this machine has "
            f"{torch.cuda.device_count()}; use fewer ranks or device=cpu."
        )
    if backend == "nccl" and device.type != "cuda":
        raise UserError("strategy.ddp.backend=nccl needs GPUs; use gloo or auto on a CPU.")
    if ranks.compressed == "bf16" and backend != "nccl":
        raise UserError(
            "strategy.ddp.compressed=bf16 needs backend nccl, and so GPUs; use fp16 or none "
            f"with {backend}."
        )
    return HookedDDP(
        _HOOKS[ranks.compressed],
        process_group_backend=backend,
        bucket_cap_mb=ranks.bucket_mb,
        gradient_as_bucket_view=True,
        find_unused_parameters=find_unused,
        broadcast_buffers=False,  # filters and statistics: constants, alike on all ranks
    )
