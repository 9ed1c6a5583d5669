"""Model folder -> ONNX -> checker -> parity -> engine -> manifest.

The engine is written only after every parity figure is within the tolerance.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import wg
from wg.checkpoint.weights import read_weights
from wg.errors import UserError
from wg.export import manifest as manifests
from wg.export.find import find_model, held_out_mels
from wg.export.manifest import load_manifest, verify_manifest
from wg.export.onnx import OPSET, Precision, check_precision, export_onnx
from wg.export.parity import TOLERANCE, make_cases, measure, onnx_runner
from wg.export.tensorrt import (
    Backend,
    NotRunnable,
    Prefer,
    build_engine,
    engine_runner,
    find_backend,
)
from wg.files import sha256_bytes, write_atomic, write_json

__all__ = [
    "ParityFailed",
    "export_model",
    "find_model",
    "held_out_mels",
    "load_manifest",
    "verify_manifest",
]

ONNX, ENGINE = "model.onnx", "model.engine"
# Shortest, tuned for, longest: at 22,050 Hz and a hop of 256 about 0.1 s, 3 s and 24 s.
FRAMES = (8, 256, 2048)
MOST_FRAMES = 1 << 16

Say = Callable[[str], None]


class ParityFailed(UserError):
    """The exported graph or engine does not say what the model says."""


def export_model(
    model_dir: Path,
    out_dir: Path,
    *,
    backend: Prefer = "auto",
    precision: Precision = "fp32",
    frames: tuple[int, int, int] = FRAMES,
    mels: Sequence[np.ndarray] | None = None,
    tolerance: float | None = None,
    say: Say = print,
) -> Path:
    """Export a model folder; returns the engine's path, beside model.onnx and manifest.json.

    frames     (min, opt, max) mel frames that the engine takes
    mels       held-out log-mels (n_mels, F) in nats to try besides synthetic ones
    tolerance  largest difference from torch as a share of the peak; ``parity.TOLERANCE`` if None

    What is there already is kept when it was made from the same weights with the same settings,
    versions and GPU, and its files are intact. Raises :class:`ParityFailed` with the figures when
    the graph or the executed engine differs from torch: then there is no engine in ``out_dir``,
    and the manifest says so. Raises :class:`UserError` for settings or installs that cannot work.
    """
    check_precision(precision)
    tolerance = TOLERANCE[precision] if tolerance is None else tolerance
    _check(frames, tolerance)
    chosen = find_backend(backend)
    size, _, meta = read_weights(model_dir)
    settings = _settings(
        meta=meta,
        backend=chosen,
        precision=precision,
        frames=frames,
        tolerance=tolerance,
        mels=mels or [],
    )
    engine_path = out_dir / ENGINE
    if _is_done(out_dir, settings):
        say(f"{engine_path} is up to date: same weights, settings and versions, files intact.")
        return engine_path

    seconds: dict[str, float] = {}
    with _step("onnx", f"tracing the inverse to ONNX ({precision})", seconds, say):
        model = export_onnx(model_dir, precision)
    with _step("parity", "comparing onnxruntime with torch", seconds, say):
        cases = make_cases(model_dir, frames, mels)
        figures = measure("onnxruntime", onnx_runner(model.data), cases)
    files = {ONNX: model.data}
    executed, why_not = False, "the ONNX graph failed parity"
    if all(f.passed(tolerance) for f in figures):
        what = f"building the engine with {chosen.name} {chosen.version}"
        with _step("engine", what, seconds, say):
            files[ENGINE] = build_engine(model, chosen, frames, say)
        try:
            run = engine_runner(files[ENGINE], chosen)
            with _step("engine_parity", "comparing the engine with torch", seconds, say):
                figures += measure(chosen.name, run, cases)
            executed, why_not = True, ""
        except NotRunnable as reason:
            why_not = str(reason)
            say(f"the engine was built but not executed: {why_not}")
    worst = max(figures, key=lambda f: math.inf if math.isnan(f.relative) else f.relative)
    passed = worst.passed(tolerance)
    if not passed:
        # Gone before anything else is written: an engine of older weights must not stay behind.
        engine_path.unlink(missing_ok=True)
        files.pop(ENGINE, None)
    for name, data in files.items():
        write_atomic(out_dir / name, data)
    facts = {
        "format": manifests.FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "passed": passed,
        "engine_executed": executed,
        "engine_not_executed_because": why_not or None,
        "settings": settings,
        "parity": [f.to_dict(tolerance) for f in figures],
        "files": {name: manifests.file_facts(data) for name, data in files.items()},
        "inputs": {
            "mel": "(1, n_mels, F) log-mel in nats",
            "z": "(1, n_group, F * hop / n_group) Gaussian noise, already scaled by sigma",
        },
        "run": meta.get("run"),
        "recipe": meta.get("recipe"),
        "sampling_rate": meta["sampling_rate"],
        "mel": meta["mel"],
        "sigma": meta.get("sigma"),
        "model": size.to_dict(),
        "seconds": seconds,
    }
    write_json(out_dir / manifests.NAME, facts)
    if not passed:
        raise ParityFailed(
            f"parity failed: {worst.reason(tolerance)}; no engine was written, and "
            f"{out_dir / manifests.NAME} has the figures of every case."
        )
    say(f"parity passed, worst of {len(figures)}: {worst.reason(tolerance)}.")
    say(f"wrote {engine_path} ({len(files[ENGINE]) / 1e6:.1f} MB) and {manifests.NAME}.")
    return engine_path


def _settings(
    *,
    meta: dict[str, Any],
    backend: Backend,
    precision: Precision,
    frames: tuple[int, int, int],
    tolerance: float,
    mels: Sequence[np.ndarray],
) -> dict[str, Any]:
    """All that decides what an export holds; equal settings need no second export."""
    tried = b"".join(sha256_bytes(np.ascontiguousarray(m).tobytes()).encode() for m in mels)
    return {
        "weights_sha256": meta["sha256"],
        "precision": precision,
        "frames": dict(zip(("min", "opt", "max"), frames, strict=True)),
        "tolerance": tolerance,
        "held_out_mels": {"count": len(mels), "sha256": sha256_bytes(tried)},
        "backend": backend.name,
        "compute_capabilities": backend.targets(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "opset": OPSET,
        "versions": {
            "wg": wg.__version__,
            **{name: version(name) for name in ("torch", "onnx", "onnxruntime", "onnxscript")},
            backend.name: backend.version,
        },
    }


def _is_done(out_dir: Path, settings: dict[str, Any]) -> bool:
    if not (out_dir / manifests.NAME).exists():
        return False
    try:
        found = verify_manifest(out_dir)
    except UserError:
        return False
    return found["passed"] is True and found["settings"] == settings and ENGINE in found["files"]


def _check(frames: tuple[int, int, int], tolerance: float) -> None:
    if len(frames) != 3 or not 1 <= frames[0] <= frames[1] <= frames[2] <= MOST_FRAMES:
        raise UserError(
            f"frames={frames} must be three numbers of mel frames, shortest <= usual <= longest, "
            f"between 1 and {MOST_FRAMES}; for example {FRAMES}."
        )
    if not 0 < tolerance < 1:
        raise UserError(
            f"tolerance={tolerance} must lie between 0 and 1: it is a share of the peak; "
            f"leave it out for {TOLERANCE['fp32']:.1e} (fp32) or {TOLERANCE['fp16']:.1e} (fp16)."
        )


@contextmanager
def _step(name: str, what: str, seconds: dict[str, float], say: Say) -> Iterator[None]:
    say(f"{what} ...")
    began = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - began, 3)
