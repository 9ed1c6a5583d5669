"""An exported graph speaks as torch does, through overlapping windows."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests_helpers import trained_looking
from vocode_fixtures import CONFIG, MEL, heard

from wg.checkpoint.weights import save_weights
from wg.errors import UserError
from wg.export import export
from wg.export.tensorrt import Backend, NotRunnable
from wg.train.prepare import tell_mel
from wg.vocode import backends
from wg.vocode.run import vocode


@pytest.fixture(scope="module")
def exported(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_without_a_gpu(model_dir, tmp_path_factory.mktemp("export"))


def export_without_a_gpu(model_dir: Path, out: Path) -> Path:
    """A real ONNX export with a stand-in for the engine, which needs a GPU to run."""

    class Fake(Backend):
        def targets(self) -> list[str]:
            return ["SM80"]

    def no_gpu(*_: Any) -> None:
        raise NotRunnable("no GPU")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "engine_runner", no_gpu)
        patch.setattr(export, "find_backend", lambda prefer: Fake("rtx", "1.0", None))
        patch.setattr(export, "build_engine", lambda *_: b"engine")
        export.export_model(model_dir, out, frames=(8, 16, 30), say=lambda _: None)
    return out


def test_onnx_speaks_as_torch_does(
    exported: Path, model_dir: Path, clips: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"sigma": 0.3, "denoise": 0.1, "block": 16, "say": lambda _: None}
    vocode(model_dir, [clips], tmp_path / "torch", device="cpu", **options)
    vocode(exported, [clips], tmp_path / "onnx", backend="onnx", batch=2, **options)
    for path in (tmp_path / "torch").rglob("*.wav"):
        a, b = heard(path), heard(tmp_path / "onnx" / path.relative_to(tmp_path / "torch"))
        assert a.shape == b.shape
        if len(a) > 512:  # one that is shorter than the graph takes is continued for it
            assert np.abs(a.astype(int) - b).max() <= 1, path
    assert len(list((tmp_path / "onnx").rglob("*.wav"))) == 4


def test_the_engine_gets_windows_that_it_takes(
    exported: Path, model_dir: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The TensorRT path with onnxruntime in the engine's place."""
    seen: list[int] = []

    def runner(data: bytes, backend: Any) -> Any:
        assert data == b"engine"
        run = backends.onnx_runner((exported / "model.onnx").read_bytes())

        def call(mel: np.ndarray, z: np.ndarray) -> np.ndarray:
            seen.append(mel.shape[2])
            return run(mel, z)

        return call

    monkeypatch.setattr(backends, "engine_runner", runner)
    monkeypatch.setattr(backends, "find_backend", lambda prefer: prefer)
    options: dict[str, Any] = {"sigma": 0.3, "say": lambda _: None}
    vocode(exported, [clips], tmp_path / "trt", backend="tensorrt", **options)
    vocode(model_dir, [clips], tmp_path / "torch", device="cpu", **options)
    assert max(seen) == 30
    assert min(seen) >= 8
    a, b = heard(tmp_path / "trt" / "b.wav"), heard(tmp_path / "torch" / "b.wav")
    assert np.abs(a.astype(int) - b).max() <= 1


def test_an_engine_that_cannot_run_says_so(exported: Path, clips: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine may well run an engine")
    with pytest.raises(UserError, match=r"cannot run here|no engine can be built|not installed"):
        vocode(exported, [clips], tmp_path / "out", backend="tensorrt", say=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_damaged_export_is_refused(exported: Path, clips: Path, tmp_path: Path) -> None:
    graph = exported / "model.onnx"
    whole = graph.read_bytes()
    try:
        graph.write_bytes(whole[:-1])
        with pytest.raises(UserError, match=r"model\.onnx"):
            vocode(exported, [clips], tmp_path / "out", backend="onnx", say=lambda _: None)
    finally:
        graph.write_bytes(whole)
    assert not (tmp_path / "out").exists()


def test_a_front_end_is_put_behind_the_graph(clips: Path, tmp_path: Path) -> None:
    """The graph gives the excitation, piece by piece; the filter goes on where it stood."""
    config = replace(CONFIG, front="lpc_whiten", front_order=20, conditioning="frame_rate")
    model = trained_looking(config)
    tell_mel(model, MEL)
    folder = tmp_path / "final"
    meta = {"sampling_rate": 16000, "mel": asdict(MEL), "sigma": 0.8, "run": "r", "recipe": "n"}
    save_weights(folder, model.state_dict(), config, meta)
    out = export_without_a_gpu(folder, tmp_path / "export")
    options: dict[str, Any] = {"sigma": 0.3, "block": 16, "say": lambda _: None}
    vocode(folder, [clips], tmp_path / "torch", device="cpu", **options)
    vocode(out, [clips], tmp_path / "onnx", backend="onnx", **options)
    for path in (tmp_path / "torch").rglob("*.wav"):
        a, b = heard(path), heard(tmp_path / "onnx" / path.relative_to(tmp_path / "torch"))
        assert np.abs(a).max() > 10
        assert np.abs(a.astype(int) - b).max() <= 1 + np.abs(a).max() // 1000, path
