"""``wg convert``: any WaveGlow checkpoint in; wg's folder, NVIDIA's or DeepLearningExamples'
state dict out. Exact both ways: not a bit of a weight changes, except halves that become fp32.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from wg.checkpoint.folder import FORMAT, is_ours, save_weights
from wg.checkpoint.layouts import is_folded, per_layer_cond
from wg.checkpoint.read import Checkpoint, Coupling, nvidia_mel, own_folder, read_checkpoint
from wg.checkpoint.shapes import expected_shapes
from wg.checkpoint.torchfile import read_torch
from wg.errors import UserError, nearest
from wg.files import read_json, write_atomic
from wg.flow.config import EXTENSIONS, FlowConfig

__all__ = ["Checkpoint", "Layout", "convert", "read_checkpoint"]

Layout = Literal["wg", "nvidia", "deeplearningexamples"]

# Beside model.json's own fields these describe a model; a converted file carries them along.
_FACTS = (
    "sampling_rate", "mel", "sigma", "recipe", "run", "layout", "iteration", "epoch",
    "learning_rate", "source", "source_sha256", "assumed",
)  # fmt: skip

_PROGRESS = ("iteration", "epoch", "learning_rate")
_WRITTEN = {"state_dict", "config", "wg", *_PROGRESS}  # the keys of a torch.save file


def convert(
    source: Path,
    out: Path,
    to: Layout = "wg",
    coupling: Coupling = "auto",
    sampling_rate: int | None = None,
) -> str:
    """Write the checkpoint ``source`` to ``out`` in another layout; returns one sentence that
    says what was read, written and assumed.

    to: "wg", a folder of model.safetensors and model.json; "nvidia", a ``torch.save`` file whose
    ``state_dict`` today's NVIDIA/waveglow loads (or its glow_old.py, where the halves are
    swapped); "deeplearningexamples", the same with cond_layers.i. Both files have the
    constructor's arguments under ``config`` and hold tensors and plain values only.

    coupling: see :func:`~wg.checkpoint.read.read_checkpoint`. sampling_rate (Hz): of the model's
    audio, when the checkpoint does not say and it is not 22,050.

    Raises :class:`UserError` for a source that cannot be read, an ``out`` that is in the way and
    was not written by this function, and a layout that cannot hold the model.
    """
    if to not in get_args(Layout):
        raise UserError(f"--to {to} is unknown: {nearest(str(to), get_args(Layout))}")
    _check_place(source, out, to)
    checkpoint = read_checkpoint(source, coupling)
    meta = _facts(checkpoint, source, sampling_rate)
    notes: list[str] = []
    try:
        if to == "wg":
            save_weights(out, checkpoint.weights, checkpoint.config, meta)
        else:
            data, notes = _torch_file(checkpoint, meta, to)
            write_atomic(out, data)
    except OSError as e:
        why = os.strerror(e.errno) if e.errno else str(e)
        raise UserError(f"{out} cannot be written ({why}); name another place.") from None
    return _sentence(source, out, to, checkpoint, meta, notes)


def _facts(checkpoint: Checkpoint, source: Path, sampling_rate: int | None) -> dict[str, Any]:
    """What to keep beside the weights, with the user's sampling rate in it."""
    old = checkpoint.meta
    meta = {k: old[k] for k in _FACTS if k in old}
    # A model of wg's own has no other source than itself.
    meta.setdefault("source", source.name)
    meta.setdefault("source_sha256", old.get("sha256"))
    if sampling_rate is not None:
        if sampling_rate < 1:
            raise UserError(f"sampling_rate={sampling_rate} must be at least 1 Hz.")
        assumed = meta.get("assumed", [])
        told = old.get("sampling_rate")
        if told != sampling_rate and not any("sampling_rate" in a for a in assumed):
            raise UserError(
                f"{source} says that its sampling rate is {told} Hz; leave "
                f"--sampling-rate {sampling_rate} out."
            )
        meta["sampling_rate"] = sampling_rate
        if assumed:
            meta["mel"] = nvidia_mel(checkpoint.config, sampling_rate)
            meta["assumed"] = [a for a in assumed if not a.startswith("sampling_rate")]
    return meta


def _torch_file(
    checkpoint: Checkpoint, meta: Mapping[str, Any], to: Layout
) -> tuple[bytes, list[str]]:
    """The bytes of a ``torch.save`` file, and what its reader should know."""
    config, notes = checkpoint.config, []
    ours = {k: v for k, v in config.to_dict().items() if k in EXTENSIONS}
    if ours:
        what = ", ".join(f"{k}={v}" for k, v in ours.items())
        raise UserError(
            f"this model has {what}, which NVIDIA's classes do not know: convert it to wg, or "
            "train without the strategies that set it."
        )
    # In one order: safetensors gives another at every reading.
    shapes = expected_shapes(config, lambda name: f"{name}.weight" in checkpoint.weights)
    weights = {k: checkpoint.weights[k] for k in shapes}
    if config.swap_odd_halves and to == "deeplearningexamples":
        raise UserError(
            "DeepLearningExamples' WaveGlow cannot swap halves on odd flows as this model of "
            "glow_old.py does; convert it to nvidia or wg."
        )
    if config.swap_odd_halves:
        notes.append("for glow_old.py, NVIDIA's only class with swapped halves")
    if config.swap_odd_halves or to == "deeplearningexamples":
        weights = per_layer_cond(weights, config.n_layers)
    if is_folded(weights):
        notes.append("without weight norm, as it was: load it after remove_weightnorm")
    if (config.upsample_kernel, config.upsample_stride) != (1024, 256):
        notes.append(
            "NVIDIA's classes build an upsampling of 1024 / 256 only, and this one is "
            f"{config.upsample_kernel} / {config.upsample_stride}"
        )
    told = {k: meta[k] for k in _PROGRESS if k in meta}
    tree = {
        "state_dict": {k: v.detach().cpu().contiguous() for k, v in weights.items()},
        "config": nvidia_arguments(config),
        **told,
        "wg": {"format": FORMAT, "model": config.to_dict(), **meta},
    }
    data = io.BytesIO()
    torch.save(tree, data)
    return data.getvalue(), notes


def nvidia_arguments(config: FlowConfig) -> dict[str, Any]:
    """The arguments of NVIDIA's WaveGlow constructor, as in its config.json."""
    return {
        "n_mel_channels": config.n_mels,
        "n_flows": config.n_flows,
        "n_group": config.n_group,
        "n_early_every": config.n_early_every,
        "n_early_size": config.n_early_size,
        "WN_config": {
            "n_layers": config.n_layers,
            "n_channels": config.n_channels,
            "kernel_size": config.kernel_size,
        },
    }


def _check_place(source: Path, out: Path, to: Layout) -> None:
    """``out`` must be free, or something that :func:`convert` wrote and may write again."""
    # os.path's questions say no, and raise nothing, where a name is too long or not to be seen.
    for place in (out, out / "final"):
        both = os.path.exists(source) and os.path.exists(place)
        if both and place.samefile(own_folder(source) or source):
            raise UserError(f"{out} would overwrite the checkpoint that is read; name another.")
    there = os.path.exists(out)
    if os.path.islink(out) and not there:
        raise UserError(f"{out} is a link that leads nowhere; remove it or name another place.")
    if to == "wg":
        if out.suffix.lower() in (".pt", ".pth", ".ckpt", ".bin", ".safetensors"):
            raise UserError(f"{out} names a file and wg's layout is a folder; name a folder.")
        if there and not out.is_dir():
            raise UserError(f"{out} is a file, and wg's layout is a folder; name another place.")
        if there and any(_entries(out)) and not _is_own_folder(out):
            raise UserError(
                f"{out} is not empty and `wg convert` did not write it; name another folder."
            )
    elif out.suffix.lower() == ".safetensors":
        raise UserError(
            f"{out} names a safetensors file and --to {to} writes one of torch.save; name it "
            f"{out.with_suffix('.pt').name}."
        )
    elif os.path.isdir(out):
        raise UserError(
            f"{out} is a folder, and this layout is one file; name it, as {out}/{to}.pt."
        )
    elif there and not _is_own_file(out):
        raise UserError(f"{out} exists and `wg convert` did not write it; name another file.")


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as e:
        why = os.strerror(e.errno or 0)
        raise UserError(f"{folder} cannot be read ({why}); name another folder.") from None


def _is_own_folder(folder: Path) -> bool:
    # `wg export` writes into the folder by default; it stays, and knows which weights it is of.
    if {*_entries(folder)} - {"model.json", "model.safetensors", "export"}:
        return False
    place = folder / "model.json"
    info = read_json(place) if os.path.isfile(place) else None
    return is_ours(info) and "source_sha256" in info


def _is_own_file(path: Path) -> bool:
    """With nothing in it that :func:`convert` does not write: a training script that goes on from
    such a file may carry its ``wg`` along."""
    try:
        tree = read_torch(path) if path.is_file() else None  # a pipe would be waited for
    except UserError:
        return False
    return isinstance(tree, dict) and is_ours(tree.get("wg")) and set(tree) <= _WRITTEN


def _sentence(
    source: Path,
    out: Path,
    to: Layout,
    checkpoint: Checkpoint,
    meta: Mapping[str, Any],
    notes: list[str],
) -> str:
    c = checkpoint.config
    count = sum(v.numel() for v in checkpoint.weights.values())
    size = f"{count / 1e6:.1f} M" if count >= 1e5 else str(count)
    facts = [f"{c.n_flows} flows", f"{c.n_channels} channels", f"{size} parameters"]
    facts += ["halves swapped on odd flows"] if c.swap_odd_halves else []
    facts += [f"{k} {meta[k]}" for k in ("iteration", "epoch") if k in meta]
    layout = {"wg": "wg's folder", "nvidia": "NVIDIA's state dict"}.get(
        to, "DeepLearningExamples' state dict"
    )
    read = "wg's folder" if own_folder(source) else meta["layout"]
    parts = [
        f"read {source} ({read}; {', '.join(facts)})",
        f"wrote {out} ({'; '.join([layout, *notes])})",
    ]
    if meta.get("assumed"):
        parts.append(f"assumed, because the checkpoint does not say: {'; '.join(meta['assumed'])}")
    sentence = ", ".join(parts) + "."
    if "coupling=glow" in meta.get("assumed", ()):
        # The one assumption that, wrong, makes noise of speech.
        sentence += (
            "\nIf this is NVIDIA's first published model (waveglow_old.pt) or was trained with "
            "glow_old.py, convert it again with --coupling glow_old: its keys cannot tell."
        )
    if to == "nvidia":
        sentence += (
            "\nTo load it: d = torch.load(path); model = WaveGlow(**d['config']); "
            "model.load_state_dict(d['state_dict'])."
        )
    return sentence
