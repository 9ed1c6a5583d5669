"""WaveGlow says what it said when it agreed with NVIDIA's code.

Figures of that agreement, on the same weights and inputs, in fp32 on a CPU (tests/peer repeats
them beside a checkout): z equal to the bit; loss to 2e-8; the gradient of all parameters to 1e-7
of its norm, at tiny and at paper size; infer() to 1e-6 where the audio reaches 3.3, each of the
two codes being 1.6e-6 from the same in fp64.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from make_exactness import CONFIG, tables
from safetensors.torch import load_file

from wg.flow import WaveGlow

FIXTURE = Path(__file__).parent / "exactness" / "tiny.safetensors"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 1e-12)])
def test_every_number_of_the_fixture(dtype: torch.dtype, tolerance: float) -> None:
    stored = load_file(FIXTURE)
    model = WaveGlow(CONFIG)
    weights = {k.removeprefix("weight."): v for k, v in stored.items() if k.startswith("weight.")}
    model.load_state_dict(weights, strict=True)
    inputs = [stored[f"in.{name}"].to(dtype) for name in ("audio", "mel", "noise")]
    told = tables(model.to(dtype), *inputs)
    wanted = {k.removeprefix("out."): v for k, v in stored.items() if k.startswith("out.")}
    assert told.keys() == wanted.keys()
    assert len(told) > 50
    for name, value in wanted.items():
        scale = max(float(value.abs().max()), 0.05)
        difference = float((told[name].double() - value).abs().max())
        assert difference <= tolerance * scale, (name, difference, scale)
