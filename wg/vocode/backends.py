"""Who computes the audio: torch, onnxruntime or TensorRT; all of them as streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from wg.audio.mel import MelConfig, MelSpectrogram
from wg.checkpoint.weights import load_model
from wg.errors import UserError, nearest
from wg.export import manifest as manifests
from wg.export.export import ENGINE, ONNX
from wg.export.find import find_model
from wg.export.parity import Runner, onnx_runner
from wg.export.tensorrt import NotRunnable, engine_runner, find_backend
from wg.flow.config import FlowConfig
from wg.flow.consistency import MelConsistency
from wg.flow.front import front_end
from wg.flow.fronted import behind, inverse_stream
from wg.flow.stream import AudioStream, OverlapStream, SideBySide, reach_frames

_MOST_FRAMES = 1 << 13  # a minute and a half at 22,050 Hz; whole batches of it are held at once
Name = Literal["torch", "onnx", "tensorrt"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Voice:
    """A model ready to speak.

    weights  SHA-256 of what it computes with
    assumed  what the checkpoint did not tell, such as "sampling_rate=22050"
    stream   (sigma, frames of each item or None) -> a stream for as many items; a backend that
             takes one item at a time has batches = False
    """

    description: str
    config: FlowConfig
    mel: MelConfig
    sigma: float
    weights: str
    device: torch.device
    batches: bool
    stream: Callable[[float, Sequence[int] | None], AudioStream]
    assumed: Sequence[str] = ()


def open_voice(model: Path, backend: Name, device: Device, block: int) -> Voice:
    """The model that ``model`` names (a run, a report, a model folder, a checkpoint of any kind
    that :func:`wg.load` reads, or an export) on a backend; ``block`` frames at a time.

    Raises :class:`UserError` when there is none, or no export of it, or no device for it.
    """
    if not 1 <= block <= _MOST_FRAMES:
        raise UserError(f"--block {block} must lie between 1 and {_MOST_FRAMES} mel frames.")
    where = resolve_device(device)
    if backend == "torch":
        return _torch(model, where, block)
    if backend == "onnx":
        return _exported(model, ONNX, block, lambda data, _: onnx_runner(data))
    if backend == "tensorrt":
        return _exported(model, ENGINE, block, _engine)
    raise UserError(
        f"--backend {backend} is unknown: {nearest(backend, ('torch', 'onnx', 'tensorrt'))}"
    )


def resolve_device(device: str) -> torch.device:
    """auto: the GPU when there is one.

    Errors: UserError for another word, or a GPU that is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device={device} is unknown: {nearest(device, ('auto', 'cpu', 'cuda'))}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but no CUDA GPU is visible; use device=cpu or device=auto.")
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")


def _torch(path: Path, device: torch.device, block: int) -> Voice:
    found = find_model(path)
    model, meta = load_model(found)
    model = model.remove_weight_norm().to(device).eval()

    def stream(sigma: float, frames: Sequence[int] | None) -> AudioStream:
        if frames is None or device.type == "cuda":
            return inverse_stream(model, sigma, block, frames)
        return SideBySide([inverse_stream(model, sigma, block, [n]) for n in frames])

    return Voice(
        description=f"{found} (torch, {device})",
        config=model.config,
        mel=MelConfig(**meta["mel"]),
        sigma=float(meta.get("sigma") or 1.0),
        weights=str(meta.get("sha256") or meta["source_sha256"]),
        device=device,
        batches=True,
        stream=stream,
        assumed=tuple(meta.get("assumed") or ()),
    )


def _exported(
    path: Path, file: str, block: int, runner: Callable[[bytes, dict[str, Any]], Runner]
) -> Voice:
    folder = _export_folder(path)
    manifest = manifests.verify_manifest(folder)
    if file not in manifest["files"]:
        raise UserError(
            f"{folder} holds no {file}: its export failed parity or is not finished; see "
            f"{folder / manifests.NAME}."
        )
    config = FlowConfig.from_dict(manifest["model"])
    before, after = reach_frames(config)
    window, shortest = before + block + after, 2
    if file == ENGINE:
        shortest = int(manifest["settings"]["frames"]["min"])
        longest = int(manifest["settings"]["frames"]["max"])
        if longest <= before + after:
            raise UserError(
                f"the engine takes {longest} frames and this model needs more than "
                f"{before + after} at a time; export it with a larger maximum."
            )
        window = min(window, longest)
    run = runner((folder / file).read_bytes(), manifest)

    def call(mel: Tensor, z: Tensor) -> Tensor:
        return torch.from_numpy(run(mel.contiguous().numpy(), z.contiguous().numpy()))

    mel = MelConfig(**manifest["mel"])
    of, front = MelSpectrogram(mel), front_end(config)
    consistency = MelConsistency(config) if config.consistency else None
    if front is not None:
        front.spectrum.set_mel(of.filters, of.window)
    if consistency is not None:
        consistency.set_mel(of.filters, of.window)

    def stream(sigma: float, frames: Sequence[int] | None) -> AudioStream:
        flow = OverlapStream(call, config, sigma, window, shortest)
        return behind(flow, front, consistency, sigma, config.upsample_stride, frames)

    return Voice(
        description=f"{folder / file}",
        config=config,
        mel=mel,
        sigma=float(manifest.get("sigma") or 1.0),
        weights=str(manifest["files"][file]["sha256"]),
        device=torch.device("cpu"),
        batches=False,
        stream=stream,
    )


def _export_folder(path: Path) -> Path:
    """``path`` itself or its ``export/``."""
    for place in (path, path / "export"):
        if (place / manifests.NAME).is_file():
            return place
    raise UserError(f"{path} holds no export; make one first: wg export {path}")


def _engine(data: bytes, manifest: dict[str, Any]) -> Runner:
    name = str(manifest["settings"]["backend"])
    try:
        return engine_runner(data, find_backend("rtx" if "rtx" in name else "tensorrt"))
    except NotRunnable as reason:
        raise UserError(
            f"the engine cannot run here ({reason}); use --backend torch or --backend onnx."
        ) from None
