"""Checkpoints: exact, without pickle, and never half or silently wrong."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
import torch

from wg.errors import UserError
from wg.train.checkpoint import CorruptCheckpoint, SafeCheckpointIO, newest, prune, step_path


def sample() -> dict:
    shared = torch.arange(6.0)
    return {
        "a": shared.view(2, 3),
        "b": shared[:2],  # shares memory
        "bits": torch.tensor([1, 0], dtype=torch.uint8),
        "optimizer": {0: {"step": torch.tensor(3.0)}, "groups": [{"betas": (0.9, 0.999)}]},
        "floats": [0.1, float("inf"), float("-inf")],
        "none": None,
        "flag": True,
        "tensor": "a key that is also a tag",
    }


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


def test_round_trip_is_exact(tmp_path: Path) -> None:
    path = step_path(tmp_path, 7)
    io = SafeCheckpointIO()
    io.save_checkpoint(sample(), path)
    assert equal(io.load_checkpoint(path), sample())
    assert newest(tmp_path) == path
    assert sorted(p.name for p in path.iterdir()) == ["checkpoint.json", "tensors.safetensors"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("file", ["checkpoint.json", "tensors.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_told(tmp_path: Path, file: str, damage: str) -> None:
    path = step_path(tmp_path, 7)
    SafeCheckpointIO().save_checkpoint(sample(), path)
    target = path / file
    data = bytearray(target.read_bytes())
    if damage == "flip":
        data[-3] ^= 1
        target.write_bytes(data)
    elif damage == "cut":
        target.write_bytes(data[: len(data) // 2])
    else:
        target.unlink()
    with pytest.raises(CorruptCheckpoint, match="is corrupt"):
        SafeCheckpointIO().load_checkpoint(path)


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
def test_a_failure_that_may_pass_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = step_path(tmp_path, 7)
    SafeCheckpointIO().save_checkpoint(sample(), path)

    def failing(path: Path) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("wg.train.checkpoint.sha256_file", failing)
    with pytest.raises(UserError, match=re.escape(f"cannot be read ({os.strerror(number)})")) as e:
        SafeCheckpointIO().load_checkpoint(path)
    assert not isinstance(e.value, CorruptCheckpoint)


def test_a_failed_write_leaves_the_old_one(tmp_path: Path) -> None:
    path = step_path(tmp_path, 7)
    io = SafeCheckpointIO()
    io.save_checkpoint(sample(), path)
    with pytest.raises(TypeError, match="cannot hold"):
        io.save_checkpoint({"object": object()}, path)
    assert equal(io.load_checkpoint(path), sample())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        (tmp_path / f"step-{step:09d}").mkdir()
    (tmp_path / ".step-000000031.99").mkdir()
    prune(tmp_path, keep=2)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-000000002", "step-000000030"]
