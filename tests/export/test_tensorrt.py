"""Engines are built for real where TensorRT is installed; a missing one is named."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from wg.errors import UserError
from wg.export import tensorrt
from wg.export.export import export_model, verify_manifest
from wg.export.onnx import OnnxModel
from wg.export.tensorrt import NotRunnable, build_engine, engine_runner, find_backend

FRAMES = (4, 16, 64)


def rtx() -> tensorrt.Backend:
    pytest.importorskip("tensorrt_rtx", reason="needs pip install 'wg[rtx]'")
    return find_backend("rtx")


def test_an_engine_is_built_and_not_claimed_to_have_run(model_dir: Path, tmp_path: Path) -> None:
    backend = rtx()
    said: list[str] = []
    engine = export_model(model_dir, tmp_path, backend="rtx", frames=FRAMES, say=said.append)
    manifest = verify_manifest(tmp_path)
    assert engine.stat().st_size == manifest["files"]["model.engine"]["bytes"] > 10_000
    assert manifest["settings"]["backend"] == "tensorrt_rtx"
    assert manifest["settings"]["versions"]["tensorrt_rtx"] == backend.version
    assert "SM86" in manifest["settings"]["compute_capabilities"]
    if not torch.cuda.is_available():
        assert manifest["engine_executed"] is False
        assert "no GPU" in manifest["engine_not_executed_because"]
        assert {c["runtime"] for c in manifest["parity"]} == {"onnxruntime"}
        assert any("not executed" in line for line in said)
        with pytest.raises(NotRunnable, match="no GPU"):
            engine_runner(engine.read_bytes(), backend)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_engine_that_can_run_is_run(model_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt", reason="needs pip install 'wg[tensorrt]'")
    export_model(model_dir, tmp_path, backend="tensorrt", frames=FRAMES, say=lambda _: None)
    manifest = verify_manifest(tmp_path)
    assert manifest["engine_executed"] is True
    assert {c["runtime"] for c in manifest["parity"]} == {"onnxruntime", "tensorrt"}


def test_what_the_parser_says_is_told(graph: OnnxModel) -> None:
    broken = dataclasses.replace(graph, data=graph.data[: len(graph.data) // 2])
    with pytest.raises(UserError, match=r"does not accept the ONNX graph: .*[a-z]{4}") as error:
        build_engine(broken, rtx(), FRAMES, lambda _: None)
    assert "\n" not in str(error.value)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend which modules import and whether there is a GPU."""
    real = importlib.import_module

    def pretend(*installed: str, gpu: bool) -> None:
        def load(name: str, package: str | None = None) -> Any:
            if name not in ("tensorrt", "tensorrt_rtx"):
                return real(name, package)
            if name not in installed:
                raise ModuleNotFoundError(name)
            return type("Module", (), {"__version__": "9.9"})

        monkeypatch.setattr(tensorrt.importlib, "import_module", load)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)

    return pretend


@pytest.mark.parametrize(
    ("installed", "gpu", "prefer", "flavour"),
    [
        (("tensorrt", "tensorrt_rtx"), True, "auto", "tensorrt"),
        (("tensorrt", "tensorrt_rtx"), False, "auto", "rtx"),
        (("tensorrt_rtx",), True, "auto", "rtx"),
        (("tensorrt", "tensorrt_rtx"), True, "rtx", "rtx"),
        (("tensorrt",), True, "tensorrt", "tensorrt"),
    ],
)
def test_which_flavour(
    installed: tuple[str, ...], gpu: bool, prefer: Any, flavour: str, machine: Any
) -> None:
    machine(*installed, gpu=gpu)
    backend = find_backend(prefer)
    assert (backend.flavour, backend.version) == (flavour, "9.9")


@pytest.mark.parametrize(
    ("installed", "gpu", "prefer", "message"),
    [
        ((), False, "auto", r"pip install 'wg\[rtx\]'"),
        (("tensorrt",), False, "auto", r"pip install 'wg\[rtx\]'"),
        ((), True, "auto", r"pip install 'wg\[tensorrt\]'"),
        ((), False, "rtx", r"tensorrt_rtx is not installed; pip install 'wg\[rtx\]'"),
        ((), True, "tensorrt", r"pip install 'wg\[tensorrt\]'"),
        (("tensorrt",), False, "tensorrt", "only on a machine with an NVIDIA GPU"),
        (("tensorrt_rtx",), False, "trt", "backend=trt is unknown"),
    ],
)
def test_a_missing_backend_is_named(
    installed: tuple[str, ...], gpu: bool, prefer: Any, message: str, machine: Any
) -> None:
    machine(*installed, gpu=gpu)
    with pytest.raises(UserError, match=message):
        find_backend(prefer)
