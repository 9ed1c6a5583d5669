"""Reading torch.save's files: all their values, or a sentence that says what is wrong."""

from __future__ import annotations

import collections
import pickle
import random
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import TINY, save, save_pickled
from tests_helpers import trained_looking

from wg.checkpoint.picklenames import Module
from wg.checkpoint.torchfile import read_torch
from wg.errors import UserError

FORMATS = ("zip", "legacy")

# -- what is read -------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("format", FORMATS)
def test_plain_values_and_tensors(tmp_path: Path, format: str, protocol: int) -> None:
    base = torch.arange(12.0)
    tree = {
        "list": [1, -2, 2**70, 1.5, None, True, "é", b"\x00\xff"],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "set": {1, 2},
        "ordered": collections.OrderedDict(a=1, b=[2]),
        3: torch.Size([2, 3]),
        "numpy": [np.float64(1e-4), np.float32(0.5), np.int64(-7)],
        "half": torch.ones(3).half(),
        "bfloat16": torch.ones(3).bfloat16(),
        "long": torch.arange(3),
        "bool": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(2.5),
        "transposed": base.view(3, 4).t(),
        "view": base[5:8],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "device": torch.device("cuda:1"),
    }
    got = read_torch(save(tree, tmp_path / "a.pt", format, pickle_protocol=protocol))
    assert got.pop("device") == "cuda:1"
    assert list(got) == [k for k in tree if k != "device"]
    for key, value in got.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == tree[key].dtype
            assert torch.equal(value, tree[key])
            assert type(value) is torch.Tensor
        else:
            assert value == tree[key]


@pytest.mark.parametrize("format", FORMATS)
def test_a_pickled_module_needs_no_import(tmp_path: Path, format: str) -> None:
    """The complaint "No module named 'glow'"."""
    weights = trained_looking(TINY).state_dict()
    path = save_pickled(weights, tmp_path / "waveglow_1000", format=format)
    with pytest.raises(ModuleNotFoundError, match="glow"):
        torch.load(path, weights_only=False)  # what people see
    model = read_torch(path)["model"]
    assert isinstance(model, Module)
    assert model.path == "glow.WaveGlow"
    start = model.state["_modules"]["WN"].state["_modules"]["0"].state["_modules"]["start"]
    assert start.path == "torch.nn.modules.conv.Conv1d"
    assert torch.equal(start.state["_parameters"]["weight_v"], weights["WN.0.start.weight_v"])
    assert "glow" not in sys.modules


def test_what_old_torch_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 0.3 to 1.4: a backend in every module, parameters by their class, the first
    rebuilder of tensors, storages on a GPU."""
    thnn = types.ModuleType("torch.nn.backends.thnn")

    def _get_thnn_function_backend() -> None: ...

    _get_thnn_function_backend.__module__ = thnn.__name__
    _get_thnn_function_backend.__qualname__ = "_get_thnn_function_backend"
    thnn._get_thnn_function_backend = _get_thnn_function_backend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.nn.backends", types.ModuleType("torch.nn.backends"))
    monkeypatch.setitem(sys.modules, thnn.__name__, thnn)

    class Call:
        def __init__(self, func: Callable[..., Any], *args: Any) -> None:
            self.call = (func, args)

        def __reduce__(self) -> Any:
            return self.call

    data = torch.arange(6.0)
    old = Call(torch._utils._rebuild_tensor, data.storage(), 0, (2, 3), (3, 1))
    tree = {
        "_backend": Call(_get_thnn_function_backend),
        "v1": old,
        "0.3": Call(torch.nn.Parameter, old),
        "0.4": Call(torch.nn.Parameter, data, True),
    }
    path = save(tree, tmp_path / "old.pt", "legacy")
    on_gpu = path.read_bytes().replace(b"ctorch\nFloatStorage\n", b"ctorch.cuda\nFloatStorage\n")
    assert on_gpu.count(b"torch.cuda") == 1
    path.write_bytes(on_gpu.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0"))
    monkeypatch.undo()
    got = read_torch(path)
    assert got["_backend"] is None
    assert torch.equal(got["v1"], data.view(2, 3))
    assert torch.equal(got["0.3"], data.view(2, 3))
    assert torch.equal(got["0.4"], data)


# -- what is damaged ----------------------------------------------------------------------


def _small(tmp_path: Path, format: str) -> Path:
    tree = {"a": torch.arange(40.0), "b": [torch.ones(3).half(), {"c": 1.5}], "d": "text"}
    return save(tree, tmp_path / "whole.pt", format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_cut_short_anywhere(tmp_path: Path, format: str) -> None:
    data = _small(tmp_path, format).read_bytes()
    path = tmp_path / "cut.pt"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"cut\.pt"):
            read_torch(path)


@pytest.mark.parametrize("format", FORMATS)
def test_a_flipped_bit_is_at_most_a_refusal(tmp_path: Path, format: str) -> None:
    data = _small(tmp_path, format).read_bytes()
    path = tmp_path / "flipped.pt"
    refused = 0
    for at in range(len(data)):
        bits = bytearray(data)
        bits[at] ^= 1 << random.Random(at).randrange(8)
        path.write_bytes(bits)
        try:
            read_torch(path)
        except UserError:
            refused += 1
    assert refused > len(data) // 10


def test_a_flipped_bit_of_a_number_is_noticed(tmp_path: Path) -> None:
    """torch.load reads it and says nothing."""
    path = _small(tmp_path, "zip")
    data = bytearray(path.read_bytes())
    at = data.index(torch.arange(40.0).numpy().tobytes()) + 6
    data[at] ^= 64
    path.write_bytes(data)
    assert not torch.equal(torch.load(path, weights_only=True)["a"], torch.arange(40.0))
    with pytest.raises(UserError, match="damaged"):
        read_torch(path)


_HTML = b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title></html>"
_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 351\n"
MISTAKEN = {
    "empty": (b"", "is empty"),
    "web page": (_HTML, "web page"),
    "git lfs": (_LFS, "git lfs pull"),
    "gzip": (b"\x1f\x8b\x08\0", "gzip"),
    "tar": (b"x" * 257 + b"ustar\x0000" + b"\0" * 300, "tar archive"),
    "text": (b"hello", "no checkpoint that wg knows"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt ", "no checkpoint that wg knows"),
    "bare pickle": (pickle.dumps({"a": 1}, 2), "not one of torch.save"),
}


@pytest.mark.parametrize("name", MISTAKEN)
def test_what_is_mistaken_for_a_checkpoint(tmp_path: Path, name: str) -> None:
    data, words = MISTAKEN[name]
    path = tmp_path / "download.pt"
    path.write_bytes(data)
    with pytest.raises(UserError, match=words):
        read_torch(path)


def test_places_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_torch(tmp_path / "nowhere.pt")
    with pytest.raises(UserError, match="Is a directory"):
        read_torch(tmp_path)


def test_a_zip_around_a_checkpoint_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "waveglow_ljs_256channels_3.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("waveglow_256channels.pt", b"...")
    with pytest.raises(UserError, match=r"it holds waveglow_256channels\.pt"):
        read_torch(path)
