"""The exported graph is the model; one that is not never becomes an engine."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from tests_helpers import trained_looking

from wg.checkpoint.weights import load_model
from wg.errors import UserError
from wg.export import export
from wg.export.export import ParityFailed, export_model, load_manifest, verify_manifest
from wg.export.find import find_model
from wg.export.onnx import InverseFlow, OnnxModel, export_onnx
from wg.export.parity import (
    TOLERANCE,
    Case,
    Parity,
    compare,
    make_cases,
    measure,
    onnx_runner,
)
from wg.flow import FlowConfig, WaveGlow

FRAMES = (4, 16, 64)
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_the_traced_module_is_infer(model_dir: Path, frames: int) -> None:
    model, _ = load_model(model_dir)
    mel, z = torch.randn(1, 20, frames), model.noise(1, frames)
    with torch.inference_mode():
        wanted = model.infer(mel, 0.7, z=z)
        found = InverseFlow(load_model(model_dir)[0])(mel, 0.7 * z)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_the_graph_says_what_it_is_and_where_nothing(graph: OnnxModel, model_dir: Path) -> None:
    proto = onnx.load_from_string(graph.data)
    props = {p.key: p.value for p in proto.metadata_props}
    assert props["sampling_rate"] == "16000"
    assert props["sigma"] == "0.8"
    assert props["weights_sha256"] == json.loads((model_dir / "model.json").read_text())["sha256"]
    shapes = {
        i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim]
        for i in [*proto.graph.input, *proto.graph.output]
    }
    assert shapes == {
        "mel": [1, 20, "frames"],
        "z": [1, 8, "32*frames"],
        "audio": [1, "256*frames"],
    }
    for word in (str(ROOT), "site-packages", ".py"):
        assert word.encode() not in graph.data


def test_onnxruntime_agrees_on_lengths_it_was_not_traced_with(
    graph: OnnxModel, model_dir: Path
) -> None:
    mels = [np.random.default_rng(0).normal(-6, 2, (20, 29))]
    cases = make_cases(model_dir, FRAMES, mels)
    assert [c.mel.shape[2] for c in cases] == [4, 37, 64, 29]
    figures = measure("onnxruntime", onnx_runner(graph.data), cases)
    assert all(f.passed(TOLERANCE["fp32"]) for f in figures)
    assert all(f.snr_db > 100 for f in figures)


def test_fp16_is_fp16_and_close(model_dir: Path) -> None:
    model = export_onnx(model_dir, "fp16")
    figures = measure("onnxruntime", onnx_runner(model.data), make_cases(model_dir, FRAMES, None))
    worst = max(f.relative for f in figures)
    assert TOLERANCE["fp32"] < worst < TOLERANCE["fp16"]


def test_parity_figures() -> None:
    reference = np.array([[0.0, 0.5, -2.0, 1.0]], dtype=np.float32)
    case = Case("x", np.zeros((1, 20, 1)), np.zeros(1), reference)
    off = compare("r", case, reference + np.float32(0.25))
    assert (off.max_abs, off.relative) == (0.25, 0.125)
    assert off.snr_db == pytest.approx(10 * math.log10(5.25 / 0.25))
    assert off.passed(0.125)
    assert not off.passed(0.12)
    assert "0.125 of the peak" in off.reason(0.12)
    assert compare("r", case, reference).snr_db == math.inf
    assert not compare("r", case, reference[:, :3]).passed(0.9)
    broken = compare("r", case, np.full_like(reference, np.nan))
    assert not broken.passed(0.9)
    assert json.loads(json.dumps(broken.to_dict(0.1)))["relative"] is None


def _nudge_weight(proto: onnx.ModelProto) -> None:
    _change(proto, lambda w: w + 0.01)


def _nan_weight(proto: onnx.ModelProto) -> None:
    _change(proto, lambda w: w * np.nan)


def _wrong_gate(proto: onnx.ModelProto) -> None:
    next(n for n in proto.graph.node if n.op_type == "Tanh").op_type = "Sigmoid"


def _change(proto: onnx.ModelProto, how: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the first weight of one coupling's last convolution."""
    weight = next(i for i in proto.graph.initializer if i.name.endswith("end.weight"))
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0, 0] = how(values[0, 0])
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))


@pytest.mark.parametrize("damage", [_nudge_weight, _nan_weight, _wrong_gate])
def test_a_damaged_graph_becomes_no_engine(
    *,
    damage: Callable[[onnx.ModelProto], None],
    graph: OnnxModel,
    quick: list[str],
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proto = onnx.load_from_string(graph.data)
    damage(proto)
    damaged = dataclasses.replace(graph, data=proto.SerializeToString())
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"an older engine")
    monkeypatch.setattr(export, "export_onnx", lambda *_: damaged)
    with pytest.raises(ParityFailed, match="differs from torch by") as error:
        export_model(model_dir, tmp_path, frames=FRAMES, say=lambda _: None)
    assert "tolerance of 3.05e-05" in str(error.value)
    assert "build" not in quick
    assert not engine.exists()
    manifest = verify_manifest(tmp_path)
    assert manifest["passed"] is False
    assert not any(case["passed"] for case in manifest["parity"])
    assert list(manifest["files"]) == ["model.onnx"]


@pytest.mark.parametrize(("error", "passed"), [(0.0, True), (1e-3, False)])
def test_an_executed_engine_is_held_to_the_same_tolerance(
    *,
    error: float,
    passed: bool,
    graph: OnnxModel,
    quick: list[str],
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = onnx_runner(graph.data)
    monkeypatch.setattr(export, "engine_runner", lambda *_: lambda m, z: run(m, z) * (1 + error))
    if passed:
        assert export_model(model_dir, tmp_path, frames=FRAMES).exists()
    else:
        with pytest.raises(ParityFailed, match="tensorrt_rtx on"):
            export_model(model_dir, tmp_path, frames=FRAMES)
        assert not (tmp_path / "model.engine").exists()
    manifest = load_manifest(tmp_path)
    assert manifest["engine_executed"] is True
    assert manifest["passed"] is passed
    assert {c["runtime"] for c in manifest["parity"]} == {"onnxruntime", "tensorrt_rtx"}


def test_a_second_export_is_skipped_until_something_changes(
    quick: list[str], model_dir: Path, tmp_path: Path
) -> None:
    said: list[str] = []

    def again(**kwargs: Any) -> list[str]:
        quick.clear()
        said.clear()
        export_model(model_dir, tmp_path, say=said.append, **{"frames": FRAMES, **kwargs})
        return list(quick)

    assert again() == ["trace", "build"]
    manifest = verify_manifest(tmp_path)
    assert manifest["run"] == "run-1"
    assert manifest["settings"]["versions"]["torch"] == version("torch")
    assert manifest["engine_executed"] is False
    assert again() == []
    assert "up to date" in said[0]
    assert again(frames=(4, 16, 65)) == ["trace", "build"]
    assert again(tolerance=1e-4, frames=(4, 16, 65)) == ["trace", "build"]
    assert again(mels=[np.zeros((20, 9), np.float32)]) == ["trace", "build"]
    assert again(mels=[np.zeros((20, 9), np.float32)]) == []


def test_tampering_is_found_and_mended(quick: list[str], model_dir: Path, tmp_path: Path) -> None:
    engine = export_model(model_dir, tmp_path, frames=FRAMES)
    good = engine.read_bytes()
    engine.write_bytes(good[:-1] + b"!")
    with pytest.raises(UserError, match=r"model\.engine is not the file that was exported"):
        verify_manifest(tmp_path)
    quick.clear()
    export_model(model_dir, tmp_path, frames=FRAMES)
    assert quick == ["trace", "build"]
    assert engine.read_bytes() == good
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"model\.onnx is missing"):
        verify_manifest(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": (0, 16, 64)}, "shortest <= usual <= longest"),
        ({"frames": (16, 8, 64)}, "shortest <= usual <= longest"),
        ({"tolerance": 0.0}, "share of the peak"),
        ({"tolerance": math.nan}, "share of the peak"),
        ({"precision": "fp8"}, "precision=fp8 is unknown"),
        ({"mels": [np.zeros((80, 30), np.float32)]}, r"shape \(80, 30\)"),
    ],
)
def test_settings_that_cannot_work(
    settings: dict[str, Any], message: str, quick: list[str], model_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        export_model(model_dir, tmp_path, **{"frames": FRAMES, **settings})
    assert not (tmp_path / "model.engine").exists()


def test_find_model(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = model_dir.parent
    assert find_model(model_dir) == model_dir
    assert find_model(run) == model_dir
    report = tmp_path / "reports" / "demo"
    report.mkdir(parents=True)
    with pytest.raises(UserError, match="holds no model"):
        find_model(report)
    with pytest.raises(UserError, match="does not exist"):
        find_model(tmp_path / "nowhere")

    def winner(value: Any) -> Path:
        (report / "results.json").write_text(json.dumps({"winner": value}))
        return find_model(report)

    assert winner({"run": str(run), "arm": "a"}) == model_dir
    monkeypatch.chdir(run.parent)
    assert winner({"run": run.name}).resolve() == model_dir
    (report / "mine").symlink_to(run)
    assert winner({"run": "mine"}).resolve() == model_dir
    with pytest.raises(UserError, match="names no winner"):
        winner(None)
    with pytest.raises(UserError, match="not there any more"):
        winner({"run": "gone"})
    (report / "half").mkdir()
    with pytest.raises(UserError, match="finish that run"):
        winner({"run": "half"})


def test_the_paper_models_layout_folds_without_loss() -> None:
    """Twelve flows with two early outputs, narrow: the traced module is still infer."""
    config = FlowConfig(n_mels=4, n_layers=2, n_channels=4, upsample_kernel=512)
    model: WaveGlow = trained_looking(config)
    mel, z = torch.randn(1, 4, 5), model.noise(1, 5)
    with torch.inference_mode():
        wanted = model.infer(mel, z=z)
        found = InverseFlow(model)(mel, z)
    figure: Parity = compare(
        "torch", Case("x", mel.numpy(), z.numpy(), wanted.numpy()), found.numpy()
    )
    assert figure.passed(1e-5)
