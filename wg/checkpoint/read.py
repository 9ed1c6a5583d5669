"""Reading any WaveGlow checkpoint: wg's folders, safetensors, and files of ``torch.save``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from wg.checkpoint.facts import checked_facts
from wg.checkpoint.folder import is_ours, parse_safetensors, read_weights
from wg.checkpoint.layouts import Found, Translated, find_state, translate
from wg.checkpoint.shapes import check_attributes, check_fit, infer_config
from wg.checkpoint.torchfile import read_torch
from wg.errors import UserError, nearest
from wg.files import sha256_file
from wg.flow.config import FlowConfig

Coupling = Literal["auto", "glow", "glow_old"]

# How NVIDIA's config.json computes mels, in the words of wg.audio.mel.MelConfig.
_SAMPLING_RATE = 22050
_MEL = {"n_fft": 1024, "win_length": 1024, "f_min": 0.0, "f_max": 8000.0}
# A constructor's argument of NVIDIA's -> wg's setting.
_NVIDIA_SETTINGS = ("n_flows", "n_group", "n_early_every", "n_early_size")


@dataclass(frozen=True)
class Checkpoint:
    """A model's size and weights (fp32, wg's names), and what is known of it.

    meta: sampling_rate, mel, sigma, recipe and run; for a checkpoint that wg did not train also
    ``layout`` in words, ``source`` and ``source_sha256``, iteration, epoch and learning_rate where
    the file tells them, and ``assumed``: what it does not tell.
    """

    config: FlowConfig
    weights: dict[str, Tensor]
    meta: dict[str, Any]


def read_checkpoint(path: Path, coupling: Coupling = "auto") -> Checkpoint:
    """A model folder or a finished run's directory of wg's, a safetensors file, or a file of
    ``torch.save``: a pickled module or a state dict, in any layout of :mod:`wg.checkpoint.layouts`.

    coupling: "glow_old" for a model of NVIDIA's glow_old.py, whose odd flows swap their halves.
    A pickled module says so itself; a state dict cannot, and "auto" then takes "glow".

    Raises :class:`UserError` for what cannot be read, is damaged, asks to run code, or is no
    WaveGlow, then naming the first keys that differ.
    """
    if coupling not in get_args(Coupling):
        raise UserError(
            f"coupling={coupling} is unknown: {nearest(str(coupling), get_args(Coupling))}"
        )
    folder = own_folder(path)
    if folder is not None:
        return _read_own(folder, coupling)
    if os.path.isdir(path):
        raise UserError(
            f"{path} is a folder without a model: a model folder has model.json, a finished run "
            "final/model.json; for another checkpoint name its file."
        )
    return _read_foreign(path, coupling)


def own_folder(path: Path) -> Path | None:
    """The folder of wg's own two files that ``path`` means: itself, a run's final/, or the
    folder that one of the files is in."""
    inside = path.parent if path.name in ("model.json", "model.safetensors") else path
    for folder in (path / "final", inside):
        if os.path.isfile(folder / "model.json"):  # False too where a name is too long to exist
            return folder
    return None


def _read_own(folder: Path, coupling: Coupling) -> Checkpoint:
    config, weights, meta = read_weights(folder)
    if coupling != "auto" and config.swap_odd_halves != (coupling == "glow_old"):
        raise UserError(
            f"{folder / 'model.json'} says swap_odd_halves={config.swap_odd_halves}, which is not "
            f"coupling={coupling}; leave the coupling out, or convert the original file again."
        )
    check_fit(config, weights, str(folder))
    return Checkpoint(config, weights, checked_facts(meta, config, str(folder / "model.json")))


def _read_foreign(path: Path, coupling: Coupling) -> Checkpoint:
    name = str(path)
    if _is_safetensors(path):
        tree: Any = parse_safetensors(path.read_bytes(), path)
        kind = "safetensors"
    else:
        tree = read_torch(path)
        kind = "state dict"
    found = find_state(tree, name)
    translated = translate(found.weights, name)
    own = _own_facts(tree, name)
    hints = _hints(tree, found, translated.prefix) | own.get("model", {})
    if coupling != "auto":
        hints["swap_odd_halves"] = coupling == "glow_old"
    config = infer_config(translated.weights, hints, name)
    check_fit(config, translated.weights, name)
    inner = {k.removeprefix(translated.prefix): v for k, v in found.attributes.items()}
    check_attributes(config, inner, name)

    kind = f"pickled {found.class_name}" if found.class_name else kind
    meta = {
        "sampling_rate": own.get("sampling_rate", _SAMPLING_RATE),
        "mel": own.get("mel") or nvidia_mel(config, _SAMPLING_RATE),
        "sigma": own.get("sigma", 1.0),
        "recipe": own.get("recipe"),
        "run": own.get("run"),
        "layout": f"{kind}: {', '.join(translated.words)}",
        **_progress(tree),
        "source": path.name,
        "source_sha256": sha256_file(path),
        "assumed": own.get("assumed") or [],
    }
    if own:
        meta = checked_facts(meta, config, name)
    else:
        meta["assumed"] = _assumed(config, hints, found, translated, coupling)
    return Checkpoint(config, translated.weights, meta)


def nvidia_mel(config: FlowConfig, sampling_rate: int) -> dict[str, Any]:
    """The mel settings that NVIDIA's code would use for this model, as fields of
    :class:`wg.audio.mel.MelConfig`."""
    return {
        "sampling_rate": sampling_rate,
        "hop_length": config.upsample_stride,
        "n_mels": config.n_mels,
        **_MEL,
        "f_max": min(_MEL["f_max"], sampling_rate / 2),
    }


def _is_safetensors(path: Path) -> bool:
    """By its content: the length of a header, and a header that begins with a brace."""
    try:
        with open(path, "rb") as f:
            head = f.read(9)
            size = os.fstat(f.fileno()).st_size
    except OSError as e:
        raise UserError(f"{path} cannot be read ({os.strerror(e.errno or 0)}).") from None
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < size


def _hints(tree: Any, found: Found, prefix: str) -> dict[str, Any]:
    """What a file says of a model's size beside its shapes: a module's attributes, or the
    constructor's arguments that DeepLearningExamples keeps under ``config``."""
    hints: dict[str, Any] = {}
    config = tree.get("config") if isinstance(tree, dict) else None
    arguments = config if isinstance(config, dict) else {}
    for name in _NVIDIA_SETTINGS:
        value = found.attributes.get(prefix + name, arguments.get(name))
        if _is_whole(value):
            hints[name] = value
    stride = found.attributes.get(f"{prefix}upsample.stride")
    if isinstance(stride, tuple) and len(stride) == 1:
        hints["upsample_stride"] = stride[0]
    if found.class_name:
        hints["swap_odd_halves"] = found.class_name.split(".")[-2] == "glow_old"
    return hints


def _own_facts(tree: Any, name: str) -> dict[str, Any]:
    """What ``wg convert`` left in a file that it wrote, checked; {} for any other file."""
    own = tree.get("wg") if isinstance(tree, dict) else None
    if not is_ours(own):
        return {}
    model, mel = own.get("model"), own.get("mel")
    texts = (own.get("recipe"), own.get("run"), *_list(own.get("assumed")))
    frequencies = ("f_min", "f_max")
    if (
        not isinstance(model, dict)
        or not isinstance(mel, dict)
        or not set(model) <= set(FlowConfig().to_dict())
        or set(mel) != {*_MEL, "sampling_rate", "hop_length", "n_mels"}
        or not all(_is_whole(v) or type(v) is bool for v in model.values())
        or not all(_is_number(v) if k in frequencies else _is_whole(v) for k, v in mel.items())
        or not _is_whole(own.get("sampling_rate"))
        or not _is_number(own.get("sigma"))
        or not all(isinstance(t, (str, type(None))) for t in texts)
    ):
        raise UserError(f"{name} is damaged: what wg wrote beside the weights is not whole.")
    return {**own, "model": FlowConfig.from_dict(model).to_dict()}


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**31


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2**53  # not infinite, not NaN


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _progress(tree: Any) -> dict[str, Any]:
    """How far the file says that it was trained."""
    told = tree if isinstance(tree, dict) else {}
    names = ("iteration", "epoch", "learning_rate")
    return {name: told[name] for name in names if _is_number(told.get(name))}


def _assumed(
    config: FlowConfig,
    hints: Mapping[str, Any],
    found: Found,
    translated: Translated,
    coupling: Coupling,
) -> list[str]:
    """What a foreign file does not tell and wg took from NVIDIA's configuration."""
    mel = nvidia_mel(config, _SAMPLING_RATE)
    assumed = [f"sampling_rate={_SAMPLING_RATE}"]
    assumed.append("mel " + ", ".join(f"{k}={mel[k]:g}" for k in _MEL))
    if "upsample_stride" not in hints:
        assumed.append(f"upsample_stride={config.upsample_stride}")
    if coupling == "auto" and "swap_odd_halves" not in hints and "cond_layers" in translated.words:
        assumed.append("coupling=glow")
    return assumed
