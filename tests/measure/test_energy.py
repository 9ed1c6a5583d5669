"""Joules from counters that start again, fail, or are not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wg.measure.energy import EnergyMeter, Source, boards_of, meter, rapl


class Script:
    """A counter that says these values, one a reading."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def __call__(self) -> float:
        return self.values.pop(0)


def zone(folder: Path, number: str, name: str, uj: int, range_uj: int = 262_143_328_850) -> Path:
    path = folder / f"intel-rapl:{number}"
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path


def test_only_what_runs_is_counted() -> None:
    m = EnergyMeter([Source("GPU", Script(10, 13, 100, 104, 105))], earlier=2.0)
    m.start()
    with m.paused():  # from 13 to 100 is not training's
        assert m.joules == 5.0
    assert m.joules == 9.0
    m.stop()
    assert m.joules == 10.0


def test_a_meter_that_does_not_run_is_not_started_by_a_pause() -> None:
    m = EnergyMeter([Source("GPU", Script())])
    with m.paused():
        pass
    assert m.joules == 0.0  # nothing was read: the script is empty


def test_a_counter_that_starts_again() -> None:
    m = EnergyMeter([Source("CPU package", Script(250, 260, 5), range=262.0)])
    m.start()
    assert m.joules == 10.0
    assert m.joules == pytest.approx(10 + 2 + 5)


def test_several_sockets_with_memory_and_several_gpus(tmp_path: Path) -> None:
    sockets = [zone(tmp_path, "0", "package-0", 1_000_000), zone(tmp_path, "1", "package-1", 0)]
    memory = zone(tmp_path, "0:1", "dram", 500_000)
    for number, name in (("0:0", "core"), ("2", "psys")):  # parts of a package, and the whole
        zone(tmp_path, number, name, 0)
    boards = {"GPU-a": 10_000, "GPU-b": 20_000}
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda u: u,
        nvmlDeviceGetTotalEnergyConsumption=lambda u: boards[u],
    )
    m = meter(["a", "GPU-b"], powercap=tmp_path, nvml=nvml)
    assert m.of == "2 CPU packages, 1 memory, 2 GPUs, with all processes on them"
    m.start()
    (sockets[0] / "energy_uj").write_text("4000000")
    (sockets[1] / "energy_uj").write_text("2500000")
    (memory / "energy_uj").write_text("750000")
    boards["GPU-a"], boards["GPU-b"] = 11_500, 20_250
    assert m.joules == pytest.approx(3 + 2.5 + 0.25 + 1.5 + 0.25)


def test_sockets_wrap_one_by_one(tmp_path: Path) -> None:
    one, two = (
        zone(tmp_path, str(i), f"package-{i}", 9_000_000, range_uj=10_000_000) for i in (0, 1)
    )
    m = meter(powercap=tmp_path)
    m.start()
    (one / "energy_uj").write_text("1000000")
    (two / "energy_uj").write_text("9500000")
    assert m.joules == pytest.approx(2.0 + 0.5)


def test_no_meter_is_told(tmp_path: Path) -> None:
    m = meter(powercap=tmp_path / "none")
    m.start()
    assert m.joules is None
    assert m.of.startswith("nothing: the CPU's energy, since")


def test_counters_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "0", "package-0", 1)
    read = Path.read_text

    def forbidden(self: Path, *args: Any, **kwargs: Any) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", forbidden)
    sources, why = rapl(tmp_path)
    assert not sources
    assert "root alone" in why


def test_a_gpu_without_a_counter_leaves_the_cpu(tmp_path: Path) -> None:
    zone(tmp_path, "0", "package-0", 1_000_000)

    def unsupported(handle: Any) -> int:
        raise RuntimeError("Not Supported")

    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda u: u,
        nvmlDeviceGetTotalEnergyConsumption=unsupported,
    )
    m = meter(["a"], powercap=tmp_path, nvml=nvml)
    assert m.of.startswith("1 CPU package, with all processes on them; not counted: the GPU's")
    assert "Not Supported" in m.of


def test_uuids_as_nvml_writes_them() -> None:
    asked: list[str] = []
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=asked.append,
        nvmlDeviceGetTotalEnergyConsumption=lambda u: 0,
    )
    names: Sequence[str] = ("1234-56", "GPU-78", "MIG-9")
    boards_of(names, nvml)
    assert asked == ["GPU-1234-56", "GPU-78", "MIG-9"]


def test_a_meter_that_fails_does_not_stop_the_run() -> None:
    m = EnergyMeter([Source("GPU", Script(1.0))])
    m.start()
    assert m.joules is None  # the script has no second value
    assert "failed" in m.of
