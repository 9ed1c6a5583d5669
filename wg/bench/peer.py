"""A step of NVIDIA's own WaveGlow, from a checkout of theirs that the user has.

``glow.py`` is imported from that folder and nothing of it is copied. The step is the one of its
``train.py`` in fp32: WaveGlowLoss, backward, Adam at 1e-4.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from wg.bench.batch import Batch
from wg.bench.switches import Switches
from wg.bench.zeros import fill_zeros
from wg.errors import UserError
from wg.flow.config import FlowConfig
from wg.train.build import set_matmul

UPSAMPLING = (1024, 256)  # kernel and stride, which theirs has built in
LR = 1e-4  # config.json of the repository


def import_glow(folder: Path) -> ModuleType:
    """glow.py of a checkout. Errors: UserError when it is not there or does not import."""
    path = folder / "glow.py"
    if not path.is_file():
        raise UserError(f"--peer={folder} has no glow.py: name a checkout of NVIDIA/waveglow")
    spec = importlib.util.spec_from_file_location("glow", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # torch.jit.script looks its source's module up by name.
    sys.modules["glow"] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # written for a PyTorch of years ago: anything may be missing
        raise UserError(f"{path} does not import here ({_what(error)})") from None
    for name in ("WaveGlow", "WaveGlowLoss"):
        if not hasattr(module, name):
            raise UserError(f"{path} has no {name}: name a checkout of NVIDIA/waveglow")
    return module


class PeerStep:
    """Their model and loss at our sizes, in fp32.

    Errors: UserError when theirs cannot be built here at these sizes.
    """

    def __init__(
        self, folder: Path, config: FlowConfig, sigma: float, device: torch.device, batch: Batch
    ) -> None:
        if config.to_dict() != FlowConfig.from_dict(_published(config)).to_dict():
            raise UserError(
                f"{folder / 'glow.py'} knows the published network alone, with an upsampling of "
                f"{UPSAMPLING[0]}/{UPSAMPLING[1]}: use --model small or paper"
            )
        glow = import_glow(folder)
        self.where = folder / "glow.py"
        set_matmul("highest")
        try:
            self.model = glow.WaveGlow(
                config.n_mels, config.n_flows, config.n_group, config.n_early_every,
                config.n_early_size,
                {"n_layers": config.n_layers, "n_channels": config.n_channels,
                 "kernel_size": config.kernel_size},
            ).to(device)  # fmt: skip
        except Exception as error:
            raise UserError(f"{self.where} does not build here ({_what(error)})") from None
        fill_zeros(self.model)
        self.loss = glow.WaveGlowLoss(sigma)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR)
        self.switches = Switches.now()
        self.batch = Batch(*(tensor.to(device) for tensor in batch))

    def use(self) -> None:
        self.switches.set()

    def backward(self) -> Tensor:
        self.model.zero_grad()
        try:
            loss = self.loss(self.model((self.batch.mel, self.batch.audio)))
            loss.backward()
        except Exception as error:
            raise UserError(f"{self.where} does not run here ({_what(error)})") from None
        return loss.detach()

    def update(self) -> None:
        self.optimizer.step()

    def settle(self) -> None:
        """Nothing: it computes in fp32."""

    def gradients(self) -> dict[str, Tensor]:
        return {n: p.grad for n, p in self.model.named_parameters() if p.grad is not None}

    def weights(self) -> dict[str, Tensor]:
        return {name: w.clone() for name, w in self.model.state_dict().items()}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        try:
            self.model.load_state_dict(weights)
        except RuntimeError:
            raise UserError(
                f"{self.where} has other parameters than the published network (an old checkout "
                "has its res_skip or cond layers elsewhere): name a newer one"
            ) from None


def _published(config: FlowConfig) -> Mapping[str, object]:
    """``config`` with what their code has built in."""
    sizes = ("n_mels", "n_flows", "n_group", "n_early_every", "n_early_size", "n_layers",
             "n_channels", "kernel_size")  # fmt: skip
    return {
        **{name: getattr(config, name) for name in sizes},
        "upsample_kernel": UPSAMPLING[0],
        "upsample_stride": UPSAMPLING[1],
    }


def _what(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
