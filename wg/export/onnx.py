"""A trained model folder -> ONNX of the inverse, z and mel in, audio out.

The graph takes batch 1 and any number of frames F; with the batch fixed, every reshape is
static but for one axis, which is what TensorRT plans best.

    mel    (1, n_mels, F)               log-mel in nats, as ``wg.audio.mel`` makes it
    z      (1, n_group, F * hop / n_group)   Gaussian noise that is *already scaled by sigma*,
                                        in the layout of ``WaveGlow.forward``
    audio  (1, F * hop)                 in [-1, 1] but not clipped

Of a model with a signal front end the graph holds the flow and gives the excitation: the filter is
a recursion over samples, which no engine computes well and a host does in a twentieth of real time
(wg.flow.fronted). ``wg vocode`` puts it behind the graph; the property ``front`` names it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wg.checkpoint.weights import load_model
from wg.errors import UserError, nearest
from wg.flow import FlowConfig, WaveGlow
from wg.flow.layers import Invertible1x1Conv

Precision = Literal["fp32", "fp16"]

# What torch's exporter writes natively, so nothing is converted; TensorRT 10, 11 and RTX read it.
OPSET = 18
_TRACED_FRAMES = 20
_MOST_FRAMES = 1 << 16


@dataclass(frozen=True)
class OnnxModel:
    """A checked ONNX file in memory, and what it was made of.

    weights  SHA-256 of the model.safetensors it came from
    meta     model.json: sampling rate, mel settings, sigma of training, run
    """

    data: bytes
    config: FlowConfig
    weights: str
    meta: dict[str, Any]
    precision: Precision


class _FixedInverse(nn.Module):
    """W^-1 as a constant, inverted in fp64 and rounded once to fp32."""

    inverted: Tensor

    def __init__(self, conv: Invertible1x1Conv) -> None:
        super().__init__()
        W_inv = torch.linalg.inv(conv.matrix.detach().double()).float()
        self.register_buffer("inverted", W_inv[:, :, None])

    def inverse(self, x: Tensor) -> Tensor:
        """(B, C, T) -> W^-1 x."""
        return F.conv1d(x, self.inverted)


class _Half(nn.Module):
    """A WN in fp16 between fp32 neighbours; ``WaveGlow.infer`` casts its output back."""

    def __init__(self, wn: nn.Module) -> None:
        super().__init__()
        self.wn = wn.half()

    def cond_layer(self, grouped: Tensor) -> Tensor:
        return self.wn.cond_layer(grouped.half())  # type: ignore[operator]

    def forward(self, x: Tensor, projected: Tensor) -> Tensor:
        return self.wn(x.half(), projected)


class InverseFlow(nn.Module):
    """``WaveGlow.excite`` with weight norm folded and every W inverted once, for tracing.

    The model is taken over and changed in place. With ``precision='fp16'`` the WN stacks, where
    all the cost is, compute in fp16; the upsampling, the affine step and the 1x1 convolutions
    carry the signal itself and stay in fp32.
    """

    def __init__(self, model: WaveGlow, precision: Precision = "fp32") -> None:
        super().__init__()
        model.remove_weight_norm()
        for k in range(model.config.n_flows):
            conv = model.convinv[k]
            assert isinstance(conv, Invertible1x1Conv)
            model.convinv[k] = _FixedInverse(conv)
            if precision == "fp16":
                model.WN[k] = _Half(model.WN[k])
        self.model = model.eval().requires_grad_(False)

    def forward(self, mel: Tensor, z: Tensor) -> Tensor:
        """mel (1, n_mels, F), z (1, n_group, T') scaled by sigma -> audio (1, F * hop), or
        the excitation of the model's front end."""
        return self.model.excite(mel, 1.0, z=z)


def check_precision(precision: str) -> None:
    """Raises :class:`UserError` unless ``precision`` is one that can be exported."""
    if precision not in get_args(Precision):
        raise UserError(
            f"precision={precision} is unknown: {nearest(precision, get_args(Precision))}"
        )


def export_onnx(model_dir: Path, precision: Precision = "fp32") -> OnnxModel:
    """Trace, simplify and check. Raises :class:`UserError` for an unknown precision or a
    damaged model folder."""
    check_precision(precision)
    model, meta = load_model(model_dir)
    config = model.config
    program = _trace(InverseFlow(model, precision), config)
    proto = program.model_proto
    proto.producer_name = "wg"
    facts = {
        "sampling_rate": str(meta["sampling_rate"]),
        "hop_length": str(config.upsample_stride),
        "n_group": str(config.n_group),
        "n_mels": str(config.n_mels),
        "sigma": str(meta.get("sigma", 1.0)),
        "z": "already scaled by sigma",
        "front": config.front,
        "consistency": str(config.consistency),
        "precision": precision,
        "weights_sha256": str(meta["sha256"]),
        "model": json.dumps(config.to_dict()),
    }
    _strip_tracer_notes(proto)
    onnx.helper.set_model_props(proto, facts)
    data = proto.SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    return OnnxModel(data, config, str(meta["sha256"]), meta, precision)


def _trace(inverse: InverseFlow, config: FlowConfig) -> torch.onnx.ONNXProgram:
    from onnxscript import optimizer

    groups_per_frame = config.upsample_stride // config.n_group
    frames = torch.export.Dim("frames", min=2, max=_MOST_FRAMES)
    mel = torch.zeros(1, config.n_mels, _TRACED_FRAMES)
    z = torch.zeros(1, config.n_group, _TRACED_FRAMES * groups_per_frame)
    with _quiet():
        program = torch.onnx.export(
            inverse,
            (mel, z),
            dynamo=True,
            optimize=False,
            input_names=["mel", "z"],
            output_names=["audio"],
            dynamic_shapes={"mel": {2: frames}, "z": {2: groups_per_frame * frames}},
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None
        # torch's own optimize=True matches its rewrite rules first, against constants that
        # folding removes: quadratic in nodes, 47 s instead of 7 s for the paper model.
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
        program.optimize()
    return program


def _strip_tracer_notes(proto: onnx.ModelProto) -> None:
    """Drop per-node stack traces: they hold paths of the machine that exported."""
    graph = proto.graph
    for item in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")
    graph.ClearField("metadata_props")
    for node in graph.node:
        node.ClearField("doc_string")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter warns about its own insides and about packages nobody asked for."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
