"""Joules that training took, from the counters that the machine keeps: CPU packages and GPUs.

RAPL    /sys/class/powercap/intel-rapl:N, also on AMD: microjoules of a package (and of its memory,
        where that has a counter of its own), whoever used them
        (https://docs.kernel.org/power/powercap/powercap.html). Newer kernels let only root read it.
NVML    millijoules of a whole GPU board, Volta or newer (nvmlDeviceGetTotalEnergyConsumption);
        the counter moves every 20 to 100 ms.

Both count everything that runs there, other processes too; a machine without either has no meter,
and says so.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Source:
    """A counter of energy.

    kind    "CPU package", "memory" or "GPU"
    read    joules since some moment
    range   joules after which it starts again at 0; None: never
    """

    kind: str
    read: Callable[[], float]
    range: float | None = None


class EnergyMeter:
    """Sums what ``sources`` count while it runs. Read it more often than its counters start
    again: a package at 200 W may do so every 20 minutes.

    earlier  joules of earlier attempts of the same run, to go on from
    missing  why something is not counted
    """

    def __init__(
        self, sources: Sequence[Source], earlier: float = 0.0, missing: Sequence[str] = ()
    ) -> None:
        self.sources, self.missing = list(sources), list(missing)
        self._total = earlier
        self._last: list[float] | None = None

    @property
    def of(self) -> str:
        """What is counted, in words, or that nothing is and why."""
        if not self.sources:
            return "nothing: " + "; ".join(self.missing)
        counts = Counter(s.kind for s in self.sources)
        words = [f"{n} {kind}" + ("s" if n > 1 and kind != "memory" else "")
                 for kind, n in counts.items()]  # fmt: skip
        text = ", ".join(words) + ", with all processes on them"
        return text + (f"; not counted: {'; '.join(self.missing)}" if self.missing else "")

    def start(self) -> None:
        self._last = self._read()

    def stop(self) -> None:
        self._settle()
        self._last = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """For what is no part of training; a meter that does not run stays so."""
        running = self._last is not None
        self.stop()
        try:
            yield
        finally:
            if running:
                self.start()

    @property
    def joules(self) -> float | None:
        """So far; None without a meter."""
        self._settle()
        return round(self._total, 3) if self.sources else None

    def _read(self) -> list[float] | None:
        """All counters; a meter that fails (a driver that is gone) is given up, not the run."""
        try:
            return [s.read() for s in self.sources]
        except Exception as e:  # NVML's errors are a library's own, and this library is optional
            self.missing.append(f"its counters failed ({type(e).__name__}: {e})")
            self.sources = []
            return None

    def _settle(self) -> None:
        if self._last is None:
            return
        now = self._read()
        if now is not None:
            for source, a, b in zip(self.sources, self._last, now, strict=True):
                # Smaller than before: it has started again, at most once since.
                wrapped = source.range if b < a and source.range is not None else 0.0
                self._total += max(b - a + wrapped, 0.0)
        self._last = now


def meter(
    gpus: Sequence[str] = (), earlier: float = 0.0, powercap: Path = POWERCAP, nvml: Any = None
) -> EnergyMeter:
    """Of this machine's CPU packages and of the GPUs of these UUIDs ("GPU-..."). ``nvml``: the
    module pynvml, imported when it is None."""
    sources, why = rapl(powercap)
    missing = [why] if why else []
    if gpus:
        boards, why = boards_of(gpus, nvml)
        sources = [*sources, *boards]
        missing += [why] if why else []
    return EnergyMeter(sources, earlier, missing)


def rapl(folder: Path = POWERCAP) -> tuple[list[Source], str]:
    """(one source a CPU package, and a memory that counts by itself; why there is none)."""
    zones = sorted(p for p in folder.glob("intel-rapl:*") if p.is_dir())
    found: list[Source] = []
    for zone in zones:
        try:
            name = (zone / "name").read_text().strip()
            # Not "core" or "uncore", which are parts of a package, nor "psys", which holds all.
            kind = (
                "CPU package" if name.startswith("package") else "memory" if name == "dram" else ""
            )
            if not kind:
                continue
            counter = zone / "energy_uj"
            source = Source(kind, _microjoules(counter), _microjoules(zone / _RANGE)())
            source.read()
        except PermissionError:
            return [], f"the CPU's energy, since {folder} is for root alone"
        except (OSError, ValueError):
            continue
        found.append(source)
    # The same package may appear twice under "intel-rapl-mmio:", which the pattern leaves out.
    if not any(s.kind == "CPU package" for s in found):
        return [], f"the CPU's energy, since {folder} has no counter of it"
    return found, ""


_RANGE = "max_energy_range_uj"


def _microjoules(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) / 1e6


def boards_of(uuids: Sequence[str], nvml: Any = None) -> tuple[list[Source], str]:
    """(one source a GPU; why there is none)."""
    if nvml is None and find_spec("pynvml") is None:
        return [], "the GPU's energy: pip install 'wg[energy]'"
    try:
        nvml = nvml or import_module("pynvml")
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByUUID(_uuid(u)) for u in uuids]
        sources = [Source("GPU", _millijoules(nvml, handle)) for handle in handles]
        for source in sources:
            source.read()
    except Exception as e:  # no driver, a GPU before Volta, a part of a shared GPU (MIG)
        return [], f"the GPU's energy, which NVML does not tell ({e})"
    return sources, ""


def _millijoules(nvml: Any, handle: Any) -> Callable[[], float]:
    return lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


def _uuid(text: str) -> str:
    """As NVML writes it: PyTorch leaves "GPU-" out."""
    return text if re.match(r"(GPU|MIG)-", text) else f"GPU-{text}"
