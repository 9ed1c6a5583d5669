"""How a built model is computed: the same function, parameters and gradients, other costs."""

from __future__ import annotations

from wg.flow.waveglow import WaveGlow
from wg.flow.wn import WN


def compute_as(model: WaveGlow, wn: str = "plain", memory: str = "keep") -> None:
    """Set the way that ``model`` is computed in training, in place.

    wn      "plain": operation by operation; "fused": see :mod:`wg.flow.fused`
    memory  of the activations, for the way back: "keep"; "recompute" them, one WN at a time;
            "reversible": recompute them, and each flow's input from its output
    """
    for module in model.WN:
        assert isinstance(module, WN)
        module.fused = wn == "fused"
        # Reversing computes a WN's activations again in any case.
        module.recompute = memory == "recompute"
    model.upsample.fused = wn == "fused"  # type: ignore[assignment]
    model.reversible = memory == "reversible"  # type: ignore[assignment]
