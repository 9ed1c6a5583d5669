"""ONNX -> engine, by TensorRT (needs a GPU to build) or TensorRT for RTX (does not).

Both speak the same Python API; what only one of them has is looked up, not assumed. Networks
are strongly typed: the precision is the one written in the ONNX graph.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from wg.errors import UserError, nearest
from wg.export.onnx import OnnxModel

Prefer = Literal["auto", "tensorrt", "rtx"]
Flavour = Literal["tensorrt", "rtx"]
Say = Callable[[str], None]

_MODULES: dict[Flavour, str] = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
_SAY_EVERY = 5.0  # seconds between progress lines


@dataclass(frozen=True)
class Backend:
    """An importable flavour of TensorRT. ``trt`` is its module."""

    flavour: Flavour
    version: str
    trt: Any

    @property
    def name(self) -> str:
        """The Python module: tensorrt or tensorrt_rtx."""
        return _MODULES[self.flavour]

    def targets(self) -> list[str]:
        """Compute capabilities that an engine is built for: every one RTX knows, or this
        machine's GPU alone for full TensorRT."""
        known = getattr(self.trt, "ComputeCapability", None)
        if self.flavour == "rtx" and known is not None:
            return [name for name in known.__members__ if name.startswith("SM")]
        major, minor = torch.cuda.get_device_capability()
        return [f"SM{major}{minor}"]


class NotRunnable(Exception):
    """An engine that cannot be executed on this machine; the message says why."""


def find_backend(prefer: Prefer = "auto") -> Backend:
    """Full TensorRT where it is installed and has a GPU to build on, else TensorRT for RTX.

    Raises :class:`UserError` naming the extra to install.
    """
    if prefer not in get_args(Prefer):
        raise UserError(f"backend={prefer} is unknown: {nearest(prefer, get_args(Prefer))}")
    has_gpu = torch.cuda.is_available()
    if prefer == "tensorrt" and not has_gpu:
        raise UserError(
            "backend=tensorrt builds engines only on a machine with an NVIDIA GPU and none is "
            "visible here; use backend=rtx (pip install 'wg[rtx]'), which builds without one."
        )
    candidates: list[Flavour] = ["tensorrt", "rtx"] if prefer == "auto" else [prefer]
    for flavour in candidates:
        if flavour == "tensorrt" and not has_gpu:
            continue
        try:
            trt = importlib.import_module(_MODULES[flavour])
        except (ImportError, OSError) as error:
            if not isinstance(error, ModuleNotFoundError) and prefer != "auto":
                raise UserError(
                    f"{_MODULES[flavour]} is installed but does not load ({error}); reinstall it "
                    f"with pip install --force-reinstall 'wg[{flavour}]'."
                ) from None
            continue
        return Backend(flavour, str(trt.__version__), trt)
    extras = {
        "tensorrt": "pip install 'wg[tensorrt]'",
        "rtx": "pip install 'wg[rtx]'",
        "auto": "pip install 'wg[rtx]' (builds with or without a GPU) or "
        "pip install 'wg[tensorrt]' (needs one)",
    }
    what = "TensorRT" if prefer == "auto" else _MODULES[prefer]
    raise UserError(f"no engine can be built: {what} is not installed; {extras[prefer]}.")


def build_engine(
    model: OnnxModel, backend: Backend, frames: tuple[int, int, int], say: Say = print
) -> bytes:
    """A serialised engine for ``frames`` = (min, opt, max) mel frames, tuned for opt.

    Raises :class:`UserError` with what the parser or the builder had to say.
    """
    trt = backend.trt
    logger = _logger(trt)
    builder = trt.Builder(logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.data):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise _failed(backend, "does not accept the ONNX graph", errors + logger.errors)
    config = builder.create_builder_config()
    # TF32 keeps 11 bits of a product's factors; fp32 in the graph means fp32.
    config.clear_flag(trt.BuilderFlag.TF32)
    monitor = _monitor(trt, say)
    if monitor is not None and hasattr(config, "progress_monitor"):
        config.progress_monitor = monitor
    else:
        say("building the engine; this version of TensorRT does not report progress")
    if backend.flavour == "rtx" and hasattr(config, "set_compute_capability"):
        targets = backend.targets()
        config.num_compute_capabilities = len(targets)
        for i, name in enumerate(targets):
            config.set_compute_capability(trt.ComputeCapability.__members__[name], i)
    profile = builder.create_optimization_profile()
    size = model.config
    groups = size.upsample_stride // size.n_group
    profile.set_shape("mel", *[(1, size.n_mels, n) for n in frames])
    profile.set_shape("z", *[(1, size.n_group, n * groups) for n in frames])
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.interrupted:
        raise KeyboardInterrupt
    if engine is None:
        raise _failed(backend, "could not build the engine", logger.errors)
    return bytes(engine)


def engine_runner(engine: bytes, backend: Backend) -> Callable[[np.ndarray, np.ndarray], Any]:
    """Deserialise and execute on this machine's GPU: (mel, z) -> audio, as fp32 arrays.

    Raises :class:`NotRunnable` when there is no GPU, or none that the engine was built for.
    """
    trt = backend.trt
    if not torch.cuda.is_available():
        raise NotRunnable("no GPU on the machine that exported")
    logger = _logger(trt)
    runtime = trt.Runtime(logger)
    loaded = runtime.deserialize_cuda_engine(engine)
    context = loaded.create_execution_context() if loaded is not None else None
    if context is None:
        gpu = torch.cuda.get_device_name()
        raise NotRunnable(f"{gpu} cannot load it: {'; '.join(logger.errors) or 'no reason given'}")

    def run(mel: np.ndarray, z: np.ndarray) -> np.ndarray:
        # The closure keeps logger, runtime and engine alive as long as the context.
        assert loaded is not None
        assert runtime is not None
        buffers = {"mel": torch.from_numpy(mel).cuda(), "z": torch.from_numpy(z).cuda()}
        for name, tensor in buffers.items():
            if not context.set_input_shape(name, tuple(tensor.shape)):
                raise RuntimeError(f"{name} {tuple(tensor.shape)} is outside the engine's range")
        buffers["audio"] = torch.empty(tuple(context.get_tensor_shape("audio")), device="cuda")
        for name, tensor in buffers.items():
            context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        done = context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        if not done:
            raise RuntimeError(f"the engine failed to run: {'; '.join(logger.errors)}")
        return buffers["audio"].cpu().numpy()

    return run


def _failed(backend: Backend, what: str, errors: list[str]) -> UserError:
    told = "; ".join(" ".join(e.split()) for e in dict.fromkeys(errors)) or "it gave no reason"
    return UserError(f"{backend.name} {backend.version} {what}: {told[:600]}.")


def _logger(trt: Any) -> Any:
    """A TensorRT logger that prints nothing and keeps the errors."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()


def _monitor(trt: Any, say: Say) -> Any:
    """An IProgressMonitor that says the phase at hand every few seconds; None without one."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False
            self._steps: dict[str, int] = {}
            self._said = time.monotonic()

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._steps[name] = steps

        def step_complete(self, name: str, step: int) -> bool:
            # An exception must not unwind through the builder; False makes it stop by itself.
            try:
                if time.monotonic() - self._said >= _SAY_EVERY:
                    self._said = time.monotonic()
                    say(f"building the engine: {name}, {step + 1} of {self._steps.get(name, 0)}")
            except KeyboardInterrupt:
                self.interrupted = True
            return not self.interrupted

        def phase_finish(self, name: str) -> None:
            self._steps.pop(name, None)

    return Monitor()
