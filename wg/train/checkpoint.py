"""Checkpoints to resume from: safetensors plus JSON with hashes, no pickle.

A checkpoint is a folder ``step-N`` of two files. It is written under another name and renamed
when both are on disk, so that a crash leaves no half of one; its hashes are checked before it
is used, because a flipped bit would train on silently.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wg.errors import UserError
from wg.files import fsync_dir, sha256_bytes, sha256_file, write_atomic

_TENSORS, _TREE = "tensors.safetensors", "checkpoint.json"


class CorruptCheckpoint(UserError):
    """A checkpoint that is proven bad: a file is missing or does not match its hash. Any other
    failure to read one may pass, and says nothing of the checkpoint."""


class SafeCheckpointIO(CheckpointIO):
    """Lightning's checkpoint dictionary as safetensors + JSON."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None
    ) -> None:
        path = Path(path)
        tensors: dict[str, torch.Tensor] = {}
        tree = json.dumps(_encode(checkpoint, tensors), separators=(",", ":"))
        tmp = path.parent / f".{path.name}.{os.getpid()}"
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(parents=True)
        try:
            save_file(tensors, tmp / _TENSORS)
            _fsync_file(tmp / _TENSORS)
            head = {
                "format": 1,
                "tensors_sha256": sha256_file(tmp / _TENSORS),
                "tree_sha256": sha256_bytes(tree.encode()),
                "tree": tree,
            }
            write_atomic(tmp / _TREE, json.dumps(head).encode())
            shutil.rmtree(path, ignore_errors=True)
            os.replace(tmp, path)
        except BaseException:
            shutil.rmtree(tmp, ignore_errors=True)
            raise
        fsync_dir(path.parent)

    def load_checkpoint(
        self,
        path: str | os.PathLike,
        map_location: Callable | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        path = Path(path)
        mend = f"delete {path} to resume from the one before it, or from the start"
        try:
            head = json.loads((path / _TREE).read_bytes())
            tree, wanted = head["tree"], head["tensors_sha256"]
            sound = sha256_bytes(tree.encode()) == head["tree_sha256"]
            sound = sound and sha256_file(path / _TENSORS) == wanted
            tensors = load_file(path / _TENSORS) if sound else {}
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            sound = False
        except (OSError, SafetensorError) as e:
            # The disk, or too many open files: the checkpoint itself may be good.
            why = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
            raise UserError(
                f"checkpoint {path} cannot be read ({why}); mend that and try again, or {mend}."
            ) from None
        except (ValueError, KeyError, AttributeError, TypeError):
            sound = False
        if not sound:
            raise CorruptCheckpoint(
                f"checkpoint {path} is corrupt (its hash does not match); {mend}."
            )
        loaded = _decode(json.loads(tree), tensors)
        assert isinstance(loaded, dict)
        return loaded

    def remove_checkpoint(self, path: str | os.PathLike) -> None:
        shutil.rmtree(path, ignore_errors=True)


def step_path(folder: Path, step: int) -> Path:
    """Where the state after ``step`` lies; names sort as steps do."""
    return folder / f"step-{step:09d}"


def newest(folder: Path) -> Path | None:
    """The checkpoint of the highest step, if any."""
    found = sorted(folder.glob("step-*"))
    return found[-1] if found else None


def prune(folder: Path, keep: int) -> None:
    """Drop all but the newest ``keep`` and the leftovers of killed writers."""
    for old in sorted(folder.glob("step-*"))[: -keep or None]:
        shutil.rmtree(old, ignore_errors=True)
    for half in folder.glob(".step-*"):
        shutil.rmtree(half, ignore_errors=True)


def _encode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """JSON for ``value``; tensors go into ``tensors`` and leave a reference. Lists and numbers
    are themselves; everything else is a tagged object."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}  # exact, and has infinities
    if isinstance(value, torch.Tensor):
        key = str(len(tensors))
        # A copy: safetensors refuses tensors that share memory.
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(value, list):
        return [_encode(v, tensors) for v in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(v, tensors) for v in value]}
    if isinstance(value, dict):
        # Pairs, because keys may be numbers (optimizer state).
        return {"dict": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}: {value!r}")


def _decode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    ((tag, inner),) = value.items()
    if tag == "float":
        return float.fromhex(inner)
    if tag == "tensor":
        return tensors[inner]
    if tag == "tuple":
        return tuple(_decode(v, tensors) for v in inner)
    assert tag == "dict", tag
    return {_decode(k, tensors): _decode(v, tensors) for k, v in inner}


def _fsync_file(path: Path) -> None:
    with open(path, "rb") as f:
        os.fsync(f.fileno())
