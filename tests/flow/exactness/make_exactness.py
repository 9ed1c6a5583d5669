"""Make ``tiny.safetensors``: weights, inputs and, in fp64, everything that wg says about them.

    python tests/flow/exactness/make_exactness.py

The model agreed with NVIDIA/waveglow's code when this was made (tests/peer); the file holds
future versions of wg to it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from wg.flow import FlowConfig, WaveGlow
from wg.flow.waveglow import nll

CONFIG = FlowConfig(n_mels=4, n_flows=6, n_layers=2, n_channels=6, upsample_kernel=512)
SIGMA = 0.7
HERE = Path(__file__).parent


def tables(model: WaveGlow, audio: torch.Tensor, mel: torch.Tensor, z: torch.Tensor) -> dict:
    """z, loss and gradients of ``audio``, and the audio of noise ``z``."""
    output = model(mel, audio)
    loss = nll(output, SIGMA)
    model.zero_grad()
    loss.backward()
    gradients = {f"grad.{n}": p.grad.clone() for n, p in model.named_parameters()}
    with torch.no_grad():
        inferred = model.infer(mel, SIGMA, z=z)
    told = {"z": output.z, "log_s": output.log_s, "log_det_W": output.log_det_W, "nll": loss}
    return {k: v.detach() for k, v in {**told, "infer": inferred, **gradients}.items()}


def main() -> None:
    torch.manual_seed(20181031)
    model = WaveGlow(CONFIG)
    for wn in model.WN:
        torch.nn.init.normal_(wn.end.weight, std=0.1)
        torch.nn.init.normal_(wn.end.bias, std=0.1)
    inputs = {
        "in.audio": 0.2 * torch.randn(2, 512),
        "in.mel": torch.randn(2, 4, 3) - 4,
        "in.noise": torch.randn(2, 8, 96),
    }
    weights = {f"weight.{k}": v.clone() for k, v in model.state_dict().items()}
    double = model.double()
    told = tables(double, *(inputs[k].double() for k in ("in.audio", "in.mel", "in.noise")))
    save_file(
        {**inputs, **weights, **{f"out.{k}": v.contiguous() for k, v in told.items()}},
        HERE / "tiny.safetensors",
        {"config": json.dumps(CONFIG.to_dict())},
    )


if __name__ == "__main__":
    main()
