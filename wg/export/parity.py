"""Does an exported graph say what the trained model says?

The reference is the model folder itself, loaded anew with weight norm in place and run by
``WaveGlow.infer`` in fp32 on the CPU: nothing of the export is shared with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wg.audio.mel import MelConfig, MelSpectrogram
from wg.checkpoint.weights import load_model
from wg.errors import UserError

# fp32: one step of 16-bit PCM for a peak at full scale, so no sample of the written file moves
# by more than a step. The same operations in another order were measured 40 times below it.
# fp16: 46 dB below the peak, far under a vocoder's own error. Rounding after every operation was
# measured 20 times below it (torch's fp16), and onnxruntime, whose CPU keeps some intermediate
# values in fp32, 50 times: its figure for fp16 is a lower bound for a GPU's.
TOLERANCE: Mapping[str, float] = {"fp32": 2.0**-15, "fp16": 5e-3}

Runner = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Case:
    """One input: mel (1, n_mels, F) and z (1, n_group, T') scaled by sigma; the reference
    audio (1, F * hop)."""

    name: str
    mel: np.ndarray
    z: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class Parity:
    """How far one output is from its reference.

    max_abs   largest absolute difference, full scale 1
    relative  max_abs / peak of the reference
    snr_db    energy of the reference over that of the difference, in dB; infinite when equal
    """

    runtime: str
    case: str
    frames: int
    max_abs: float
    relative: float
    snr_db: float

    def passed(self, tolerance: float) -> bool:
        """Whether ``relative`` is within the tolerance; not a number never is."""
        return self.relative <= tolerance

    def reason(self, tolerance: float) -> str:
        """The verdict in numbers, for a message."""
        sign = "within" if self.passed(tolerance) else "above"
        return (
            f"{self.runtime} on {self.case} ({self.frames} frames) differs from torch by "
            f"{self.relative:.3g} of the peak (SNR {self.snr_db:.1f} dB), {sign} the tolerance "
            f"of {tolerance:.3g}"
        )

    def to_dict(self, tolerance: float) -> dict[str, Any]:
        """JSON-able: JSON has no infinity and no nan, so those become null."""
        values = asdict(self) | {"passed": self.passed(tolerance)}
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in values.items()
        }


def compare(runtime: str, case: Case, output: np.ndarray) -> Parity:
    """The distance of ``output`` from the case's reference; a wrong length is infinitely far."""
    frames = case.mel.shape[2]
    if output.shape != case.reference.shape:
        return Parity(runtime, case.name, frames, math.inf, math.inf, -math.inf)
    reference = case.reference.astype(np.float64)
    error = output.astype(np.float64) - reference
    peak, max_abs = float(np.abs(reference).max()), float(np.abs(error).max())
    noise, signal = float((error**2).sum()), float((reference**2).sum())
    if math.isnan(noise) or math.isnan(signal):
        return Parity(runtime, case.name, frames, math.nan, math.nan, math.nan)
    snr = 10 * math.log10(signal / noise) if signal and noise else math.inf
    relative = max_abs / peak if peak else (math.inf if max_abs else 0.0)
    return Parity(runtime, case.name, frames, max_abs, relative, snr if signal else -math.inf)


def make_cases(
    model_dir: Path,
    frames: tuple[int, int, int],
    mels: Sequence[np.ndarray] | None,
    seed: int = 0,
) -> list[Case]:
    """Inputs with their references: a speech-like signal at three lengths, then real mels.

    frames  (min, opt, max) of the export. The lengths tried are the shortest, and two odd ones
            within the range that nothing was traced with.
    mels    held-out mels (n_mels, F) in nats; cut to the longest the export takes.

    z has the sigma the model was trained with. Raises :class:`UserError` for mels of another
    shape.
    """
    model, meta = load_model(model_dir)
    sigma = float(meta.get("sigma", 1.0))
    config = MelConfig(**meta["mel"])
    low, _, high = frames
    lengths = sorted({low, min(max(37, low), high), min(max(101, low), high)})
    inputs = [(f"pulses-{n}", _pulse_mel(config, n)) for n in lengths]
    for i, mel in enumerate(mels or []):
        if mel.ndim != 2 or mel.shape[0] != model.config.n_mels or mel.shape[1] < low:
            raise UserError(
                f"held-out mel {i} has the shape {mel.shape}; parity needs "
                f"({model.config.n_mels}, frames) with at least {low} frames."
            )
        inputs.append((f"held-out-{i}", mel[:, :high]))
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for name, values in inputs:
        frames_in = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None]
        z = model.noise(1, frames_in.shape[2], generator)
        with torch.inference_mode():
            reference = model.excite(frames_in, sigma, z=z)
        cases.append(Case(name, frames_in.numpy(), (sigma * z).numpy(), reference.numpy()))
    return cases


def onnx_runner(model: bytes) -> Runner:
    """onnxruntime on one CPU thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model, sess_options=options, providers=["CPUExecutionProvider"]
    )

    def run(mel: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(["audio"], {"mel": mel, "z": z})[0])

    return run


def measure(runtime: str, run: Runner, cases: Sequence[Case]) -> list[Parity]:
    """One comparison with PyTorch for each case; ``runtime`` names what ``run`` runs."""
    return [compare(runtime, case, run(case.mel, case.z)) for case in cases]


def _pulse_mel(config: MelConfig, frames: int) -> np.ndarray:
    """Mel (n_mels, frames) of a gliding pulse train in noise: in a vocoder's range of values,
    where mels of independent random numbers are not."""
    n = (frames - 1) * config.hop_length + 1
    t = np.arange(n) / config.sampling_rate
    cycles = np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * t)) / config.sampling_rate
    audio = 0.3 * (np.diff(np.floor(cycles), prepend=0.0) > 0)
    audio += 0.003 * np.random.default_rng(frames).standard_normal(n)
    with torch.inference_mode():
        mel = MelSpectrogram(config)(torch.from_numpy(audio.astype(np.float32))[None])
    return mel[0].numpy()
