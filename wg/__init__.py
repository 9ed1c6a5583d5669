"""wg: training-speedup experiments for WaveGlow.

``wg.load``, ``wg.mel``, ``wg.denoise`` and ``wg.WaveGlow`` are what other programs need; they are
imported when first used, so that ``import wg`` costs nothing and brings no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wg.api import denoise, load, mel
    from wg.errors import UserError
    from wg.flow import FlowConfig, WaveGlow

__version__ = "0.1.0"
__all__ = ["FlowConfig", "UserError", "WaveGlow", "__version__", "denoise", "load", "mel"]

_HOMES = {
    "load": "wg.api",
    "mel": "wg.api",
    "denoise": "wg.api",
    "UserError": "wg.errors",
    "FlowConfig": "wg.flow",
    "WaveGlow": "wg.flow",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'wg' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
