"""PyTorch's process-wide switches of arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Switches:
    """What a recipe sets for its whole process, and a process with two recipes must turn."""

    matmul: str
    cudnn_tf32: bool
    cudnn_benchmark: bool

    @classmethod
    def now(cls) -> Switches:
        cudnn = torch.backends.cudnn
        return cls(torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark)

    def set(self) -> None:
        torch.set_float32_matmul_precision(self.matmul)
        torch.backends.cudnn.allow_tf32 = self.cudnn_tf32
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
