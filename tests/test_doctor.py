"""The doctor tells packages apart by what lies on disk, and never falls ill itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wg import doctor


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder first on the import path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("apex", "amp_C"):
        sys.modules.pop(name, None)


def package(site: Path, *folders: str) -> None:
    for folder in ("apex", *folders):
        (site / folder).mkdir(parents=True, exist_ok=True)
        (site / folder / "__init__.py").write_text("raise RuntimeError('was imported')\n")


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ([], "an unrelated package of that name"),
        (["apex/multi_tensor_apply"], "NVIDIA's, without amp (a release since 25.07), no CUDA"),
        (["apex/multi_tensor_apply", "apex/amp"], "NVIDIA's, with legacy amp, no CUDA"),
        (["apex/multi_tensor_apply", "amp_C"], "CUDA kernels built"),
    ],
)
def test_the_two_packages_named_apex(folders: list[str], words: str, site: Path) -> None:
    package(site, *folders)
    assert words in doctor.apex()


def test_no_apex() -> None:
    if doctor.find_spec("apex") is not None:
        pytest.skip("an apex is installed here")
    assert doctor.apex().startswith("none")


def test_a_broken_part_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise OSError("libcuda is not what it was")

    monkeypatch.setattr(doctor, "apex", broken)
    rows = dict(doctor.findings())
    assert rows["apex"] == "broken: OSError: libcuda is not what it was"
    assert "GFLOP/s measured" in rows["precisions"]
    assert rows["PyTorch"].startswith("2.")


def test_missing_parts_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert "pip install 'wg[rtx]'" in doctor.tensorrt("tensorrt_rtx", "pip install 'wg[rtx]'")
    assert "pip install 'wg[slurm]'" in doctor.launchers()
