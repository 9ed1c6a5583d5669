"""A tiny model folder, its ONNX graph traced once, and a backend that needs no TensorRT."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tests_helpers import trained_looking

from wg.audio.mel import MelConfig
from wg.checkpoint.weights import save_weights
from wg.export import export
from wg.export.onnx import OnnxModel, export_onnx
from wg.export.tensorrt import Backend, NotRunnable
from wg.flow import FlowConfig

CONFIG = FlowConfig(
    n_mels=20, n_flows=3, n_early_every=2, n_layers=2, n_channels=8, upsample_kernel=512
)
MEL = MelConfig(sampling_rate=16000, n_mels=20)


def save_model(folder: Path, seed: int = 0) -> Path:
    weights = trained_looking(CONFIG, seed).state_dict()
    meta = {"sampling_rate": 16000, "mel": asdict(MEL), "sigma": 0.8, "run": "run-1"}
    save_weights(folder, weights, CONFIG, {**meta, "recipe": "nvidia"})
    return folder


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "final")


@pytest.fixture(scope="session")
def graph(model_dir: Path) -> OnnxModel:
    return export_onnx(model_dir)


@pytest.fixture
def quick(graph: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Export without tracing again and without TensorRT; returns the calls that were made."""
    calls: list[str] = []

    class Fake(Backend):
        def targets(self) -> list[str]:
            return ["SM80"]

    def build(model: OnnxModel, *_: Any) -> bytes:
        calls.append("build")
        return b"engine of " + model.weights.encode()

    def trace(*_: Any) -> OnnxModel:
        calls.append("trace")
        return graph

    def no_gpu(*_: Any) -> None:
        raise NotRunnable("no GPU")

    monkeypatch.setattr(export, "engine_runner", no_gpu)
    monkeypatch.setattr(export, "find_backend", lambda prefer: Fake("rtx", "1.0", None))
    monkeypatch.setattr(export, "export_onnx", trace)
    monkeypatch.setattr(export, "build_engine", build)
    return calls
