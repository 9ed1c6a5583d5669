"""Where the configuration lies."""

from __future__ import annotations

from pathlib import Path


def conf_dir() -> Path:
    """``conf/`` of the checkout, or the copy that a wheel carries inside the package."""
    package = Path(__file__).resolve().parents[1]
    inside, checkout = package / "conf", package.parent / "conf"
    return inside if inside.is_dir() else checkout
