"""Checkpoints as other programs write them, made of wg's own weights: keys of every layout, and
modules pickled under class names that nobody can import afterwards."""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from tests_helpers import trained_looking
from torch import Tensor, nn

from wg.flow import FlowConfig, WaveGlow

Weights = dict[str, Tensor]
Age = Literal["separate", "cond_layers", "fused"]

# The stride is a fourth of the kernel, as NVIDIA's is: a state dict does not tell it.
TINY = FlowConfig(
    n_mels=4, n_flows=5, n_early_every=2, n_layers=3, n_channels=4, upsample_kernel=64,
    upsample_stride=16,
)  # fmt: skip


SWAPPED = FlowConfig(**{**TINY.to_dict(), "swap_odd_halves": True})
MEL = {
    "sampling_rate": 16000, "n_fft": 1024, "hop_length": 16, "win_length": 1024, "n_mels": 4,
    "f_min": 0.0, "f_max": 7600.0,
}  # fmt: skip
META = {"sampling_rate": 16000, "mel": MEL, "recipe": "nvidia", "run": "run-1", "sigma": 0.8}


def some_weights(config: FlowConfig = TINY, folded: bool = False) -> Weights:
    model = trained_looking(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("weight_g"):  # else g is |v|, and mistakes with it would not show
                p.mul_(1 + torch.rand_like(p))
    return dict((model.remove_weight_norm() if folded else model).state_dict())


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """The same names and the same bits."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def audio(model: WaveGlow) -> Tensor:
    """What the model makes of fixed noise and a fixed mel."""
    torch.manual_seed(3)
    mel, z = torch.randn(1, model.config.n_mels, 5), model.noise(1, 5)
    with torch.no_grad():
        return model.eval().infer(mel, 0.7, z=z)


def cut_cond(weights: Mapping[str, Tensor], n_layers: int) -> Weights:
    """cond_layer -> cond_layers.i: NVIDIA before 2019, and DeepLearningExamples."""
    out: Weights = {}
    for key, value in weights.items():
        if ".cond_layer." in key:
            rows = value.shape[0] // n_layers
            for i in range(n_layers):
                name = key.replace("cond_layer", f"cond_layers.{i}")
                out[name] = value[i * rows : (i + 1) * rows].clone()
        else:
            out[key] = value
    return out


def cut_res_skip(weights: Mapping[str, Tensor], n_layers: int) -> Weights:
    """res_skip_layers.i -> res_layers.i and skip_layers.i: NVIDIA's first weeks."""
    out: Weights = {}
    for key, value in weights.items():
        if ".res_skip_layers." not in key:
            out[key] = value
        elif f".res_skip_layers.{n_layers - 1}." in key:
            out[key.replace("res_skip", "skip")] = value
        else:
            rows = value.shape[0] // 2
            out[key.replace("res_skip", "res")] = value[:rows].clone()
            out[key.replace("res_skip", "skip")] = value[rows:].clone()
    return out


def of_age(weights: Mapping[str, Tensor], age: Age, n_layers: int = TINY.n_layers) -> Weights:
    if age == "fused":
        return dict(weights)
    cut = cut_cond(weights, n_layers)
    return cut_res_skip(cut, n_layers) if age == "separate" else cut


def as_parametrizations(weights: Mapping[str, Tensor]) -> Weights:
    """The spelling of torch.nn.utils.parametrizations.weight_norm."""
    new = {"weight_g": "parametrizations.weight.original0",
           "weight_v": "parametrizations.weight.original1"}  # fmt: skip
    return {
        f"{key.rpartition('.')[0]}.{new.get(key.rpartition('.')[2], key.rpartition('.')[2])}": v
        for key, v in weights.items()
    }


# -- pickled modules ----------------------------------------------------------------------


@contextmanager
def throwaway_module(name: str) -> Iterator[types.ModuleType]:
    """A module called ``name`` with WaveGlow's class names, importable inside of the block."""
    module = types.ModuleType(name)
    for cls in ("WaveGlow", "WN", "Invertible1x1Conv"):
        setattr(module, cls, type(cls, (nn.Module,), {"__module__": name}))
    sys.modules[name] = module
    try:
        yield module
    finally:
        del sys.modules[name]


def skeleton(weights: Mapping[str, Tensor], classes: Any, config: FlowConfig) -> nn.Module:
    """A module tree that holds ``weights`` under their names, in real convolutions of torch."""
    root = classes.WaveGlow()
    root.n_flows, root.n_group = config.n_flows, config.n_group
    root.n_early_every, root.n_early_size = config.n_early_every, config.n_early_size
    for path in dict.fromkeys(key.rpartition(".")[0] for key in weights):
        parent: nn.Module = root
        *above, last = path.split(".")
        for depth, name in enumerate(above):
            if name not in parent._modules:
                inner = {"WN": classes.WN, "convinv": classes.Invertible1x1Conv}
                is_item = name.isdigit() and depth == 1
                parent.add_module(name, inner[above[0]]() if is_item else nn.ModuleList())
            parent = parent._modules[name]  # type: ignore[assignment]
        own = {k.rpartition(".")[2]: v for k, v in weights.items() if k.rpartition(".")[0] == path}
        parent.add_module(last, _convolution(path, own, config))
    return root


def _convolution(path: str, own: Weights, config: FlowConfig) -> nn.Module:
    n_out, n_in, kernel = (own["weight_v"] if "weight_v" in own else own["weight"]).shape
    if path == "upsample":
        conv: nn.Module = nn.ConvTranspose1d(n_in, n_out, kernel, stride=config.upsample_stride)
    else:
        dilation = 2 ** int(path.rpartition(".")[2]) if ".in_layers." in path else 1
        padding = dilation * (kernel - 1) // 2
        conv = nn.Conv1d(
            n_in, n_out, kernel, bias="bias" in own, dilation=dilation, padding=padding
        )
    if "weight_g" in own:
        conv = torch.nn.utils.weight_norm(conv)
    conv = conv.to(next(iter(own.values())).dtype)
    conv.load_state_dict(own)
    return conv


def save(tree: Any, path: Path, format: str = "zip", **kwargs: Any) -> Path:
    """torch.save in the format of today ("zip") or of before torch 1.6 ("legacy")."""
    torch.save(tree, path, _use_new_zipfile_serialization=format == "zip", **kwargs)
    return path


def save_pickled(
    weights: Mapping[str, Tensor],
    path: Path,
    module: str = "glow",
    format: str = "legacy",
    config: FlowConfig = TINY,
    **beside: Any,
) -> Path:
    """{'model': a pickled module, ...}, after which its classes are gone."""
    with throwaway_module(module) as classes:
        save({"model": skeleton(weights, classes, config), **beside}, path, format)
    assert module not in sys.modules
    return path


# -- containers around any pickle ---------------------------------------------------------


def in_container(pickled: bytes, format: str) -> bytes:
    """The bytes of a torch file whose object is this pickle."""
    if format == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as z:
            z.writestr("archive/data.pkl", pickled)
            z.writestr("archive/byteorder", "little")
            z.writestr("archive/version", "3\n")
        return out.getvalue()
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = [pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, machine)]
    return b"".join([*head, pickled, pickle.dumps([], 2)])
