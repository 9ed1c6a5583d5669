"""GPUs by name: what their makers' data sheets say, each with its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from wg.errors import UserError, nearest

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


@dataclass(frozen=True)
class Hardware:
    """One GPU, and eight of them in a host.

    peak    FLOP/s of dense matrix products by arithmetic
    memory, bandwidth   bytes, bytes a second
    link    bytes a second in each direction between GPUs of one host
    watts   of the board at most
    source  where these numbers are from
    """

    name: str
    peak: dict[str, float]
    memory: float
    bandwidth: float
    link: float
    watts: float
    source: str
    in_host: int = 8


def _peaks(fp32: float, tf32: float, half: float) -> dict[str, float]:
    return dict(zip(PRECISIONS, (fp32, tf32, half, half), strict=True))


# Data sheets give tensor cores with 2:4 sparsity, which is twice what dense products have, and
# NVLink as the sum of both directions: both are halved here.
_A100 = (
    "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/"
    "nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf"
)
_H100 = "https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet"
_H200 = "https://www.nvidia.com/en-us/data-center/h200/"
_HOPPER = _peaks(67e12, 989.4e12 / 2, 989.4e12)

HARDWARE = {
    h.name: h
    for h in (
        Hardware(
            "a100", _peaks(19.5e12, 156e12, 312e12), 80e9, 2.039e12, 300e9, 400,
            f"A100 80GB SXM: {_A100}",
        ),
        Hardware("h100", _HOPPER, 80e9, 3.35e12, 450e9, 700, f"H100 SXM: {_H100}"),
        Hardware("h200", _HOPPER, 141e9, 4.8e12, 450e9, 700, f"H200 SXM: {_H200}"),
    )
}  # fmt: skip


def named(names: Sequence[str], watts: float | None = None) -> list[Hardware]:
    """Raises :class:`UserError` for a GPU whose numbers are not known here."""
    for name in names:
        if name not in HARDWARE:
            raise UserError(f"--hardware: '{name}' is not known; {nearest(name, HARDWARE)}")
    found = [HARDWARE[name] for name in names]
    return found if watts is None else [replace(h, watts=watts) for h in found]
