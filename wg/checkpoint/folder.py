"""wg's own model on disk: ``model.safetensors`` (weights) and ``model.json`` (what they mean)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from wg.errors import UserError
from wg.files import read_json, sha256_bytes, write_atomic, write_json
from wg.flow.config import FlowConfig

FORMAT = "wg-waveglow-1"


def is_ours(info: Any) -> TypeGuard[dict[str, Any]]:
    """Whether wg wrote this: a model.json, or what ``wg convert`` leaves under ``wg`` in a file."""
    return isinstance(info, dict) and info.get("format") == FORMAT


def save_weights(
    folder: Path, weights: Mapping[str, Tensor], config: FlowConfig, meta: Mapping[str, Any]
) -> str:
    """Write the two files atomically, weights first; returns the SHA-256 of the weights.

    meta: JSON-able facts kept beside the weights: sampling rate, mel settings, where from.
    """
    data = save_safetensors({k: v.detach().cpu().contiguous() for k, v in weights.items()})
    digest = sha256_bytes(data)
    write_atomic(folder / "model.safetensors", data)
    write_json(
        folder / "model.json",
        {"format": FORMAT, "sha256": digest, "model": config.to_dict(), **meta},
    )
    return digest


def read_weights(folder: Path) -> tuple[FlowConfig, dict[str, Tensor], dict[str, Any]]:
    """(size, weights, meta). Raises :class:`UserError` when damaged or not a model of wg's."""
    info = read_json(folder / "model.json")
    if not is_ours(info):
        raise UserError(f"{folder / 'model.json'} does not describe a model of this version of wg.")
    path = folder / "model.safetensors"
    try:
        data = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path} cannot be read ({os.strerror(e.errno or 0)}).") from None
    if sha256_bytes(data) != info.get("sha256"):
        raise UserError(
            f"{path} is corrupt: its hash is not the one in model.json; take it from a copy or "
            "train again."
        )
    size = info.get("model", {})
    if not isinstance(size, dict):
        raise UserError(f"{folder / 'model.json'} is damaged: its model is no group of settings.")
    return FlowConfig.from_dict(size), parse_safetensors(data, path), info


def parse_safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises :class:`UserError` when it is damaged."""
    try:
        return load_safetensors(data)
    except (SafetensorError, ValueError, LookupError, RuntimeError) as e:
        raise UserError(
            f"{path} is damaged or cut short ({e}); copy or download it again."
        ) from None
