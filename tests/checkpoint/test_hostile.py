"""Files that want to run code or to take the machine's memory: refused, and nothing happens."""

from __future__ import annotations

import builtins
import contextlib
import copyreg
import functools
import io
import operator
import os
import pickle
import random
import struct
import subprocess
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import in_container
from torch.nn.utils.weight_norm import WeightNorm

from wg.checkpoint.torchfile import read_torch
from wg.errors import UserError

FORMATS = ("zip", "legacy")

# -- code ---------------------------------------------------------------------------------


def _reduce(func: Any, *args: Any) -> bytes:
    class Evil:
        def __reduce__(self) -> Any:
            return func, args

    return pickle.dumps({"model": Evil()}, 2)


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _stack_global(module: str, name: str) -> bytes:
    """Protocol 4: dots in the name are attributes to follow."""
    return _text(module) + _text(name) + b"\x93"


def _chained(canary: Path) -> bytes:
    """getattr(pathlib.Path, "touch")(Path(canary)): no dangerous name but getattr."""
    path = b"cpathlib\nPath\n" + _text(str(canary)) + b"\x85R"
    return (
        b"\x80\x02c__builtin__\ngetattr\ncpathlib\nPath\n"
        + _text("touch")
        + b"\x86R"
        + (path + b"\x85R.")
    )


def _extension(canary: Path) -> bytes:
    """The number that :func:`_registered` gives to os.mkdir."""
    return b"\x80\x02\x82\xf0" + _text(str(canary)) + b"\x85R."


@pytest.fixture
def _registered() -> Iterator[None]:
    copyreg.add_extension("posix", "mkdir", 240)
    yield
    copyreg.remove_extension("posix", "mkdir", 240)
    copyreg.clear_extension_cache()


Trick = Callable[[Path], bytes]
# Pickles that make the file ``canary`` when Python's own reader meets them.
TRICKS: dict[str, Trick] = {
    "os.system": lambda c: _reduce(os.system, f"touch {c}"),
    "eval": lambda c: _reduce(builtins.eval, f"open({str(c)!r}, 'w')"),
    "exec": lambda c: _reduce(builtins.exec, f"open({str(c)!r}, 'w')"),
    "open": lambda c: _reduce(io.open, str(c), "w"),
    "subprocess": lambda c: _reduce(subprocess.check_call, ["touch", str(c)]),
    "getattr": _chained,
    "partial": lambda c: _reduce(functools.partial(os.system, f"touch {c}")),
    "methodcaller": lambda c: _reduce(operator.methodcaller("touch"), c),
    "numpy runs text": lambda c: _reduce(
        np.testing._private.utils.runstring, f"open({str(c)!r}, 'w')", {}
    ),
    "a pickle in a pickle": lambda c: _reduce(pickle.loads, _reduce(os.system, f"touch {c}")),
    "torch.load": lambda c: _reduce(_torch_load(), io.BytesIO(_reduce(os.system, f"touch {c}"))),
    "dots in a name": lambda c: (
        b"\x80\x04" + _stack_global("torch.nn.modules.module", "torch.os.system")
        + _text(f"touch {c}") + b"\x85R."
    ),
    "INST": lambda c: b"(S'touch " + str(c).encode() + b"'\niposix\nsystem\n.",
    "OBJ": lambda c: b"(cposix\nsystem\nS'touch " + str(c).encode() + b"'\no.",
    "text pickle": lambda c: b"cposix\nsystem\n(S'touch " + str(c).encode() + b"'\ntR.",
    "extension code": _extension,
    "new object": lambda c: (
        b"\x80\x04" + _stack_global("subprocess", "Popen") + b"]" + _text("touch") + b"a"
        + _text(str(c)) + b"a\x85R."
    ),
}  # fmt: skip


def _torch_load() -> Any:
    return functools.partial(torch.load, weights_only=False)


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("trick", TRICKS)
def test_the_tricks_are_real(tmp_path: Path, trick: str) -> None:
    """Else a test that nothing happens would show nothing."""
    canary = tmp_path / "canary"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = pickle.loads(TRICKS[trick](canary))
        except Exception:  # after the deed
            value = None
    if isinstance(value, subprocess.Popen):
        value.wait()
    assert canary.exists()


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("where", [*FORMATS, "bare pickle"])
@pytest.mark.parametrize("trick", TRICKS)
def test_hostile_files_are_refused(tmp_path: Path, trick: str, where: str) -> None:
    canary, path = tmp_path / "canary", tmp_path / "evil.pt"
    pickled = TRICKS[trick](canary)
    path.write_bytes(pickled if where == "bare pickle" else in_container(pickled, where))
    with pytest.raises(UserError) as error:
        read_torch(path)
    assert not canary.exists()
    assert str(path) in str(error.value)
    if pickled.startswith(b"\x80") or where != "bare pickle":
        assert "never runs code" in str(error.value)


def test_dots_belong_to_modules(tmp_path: Path) -> None:
    """Even where the whole is a known class: in a name they would follow attributes."""
    path = tmp_path / "dots.pt"
    for module, name in (("torch.nn.modules.conv", "Conv1d"), ("torch.nn", "modules.conv.Conv1d")):
        pickled = b"\x80\x04" + _stack_global(module, name) + b")\x81."
        path.write_bytes(in_container(pickled, "zip"))
        if "." not in name:
            assert read_torch(path).path == "torch.nn.modules.conv.Conv1d"
        else:
            with pytest.raises(UserError, match="asks for torch"):
                read_torch(path)


def test_classes_are_not_poisoned(tmp_path: Path) -> None:
    """BUILD sets attributes of whatever is below it: of PyTorch's own class, in Python."""
    state = b"N}" + _text("wg_poisoned") + b"\x88s\x86b."
    pickled = b"\x80\x02ctorch.nn.utils.weight_norm\nWeightNorm\n" + state
    pickle.loads(pickled)
    assert WeightNorm.wg_poisoned  # type: ignore[attr-defined]
    del WeightNorm.wg_poisoned  # type: ignore[attr-defined]
    path = tmp_path / "poison.pt"
    for format in FORMATS:
        path.write_bytes(in_container(pickled, format))
        with pytest.raises(
            UserError, match=r"sets attributes of torch\.nn\.utils\.weight_norm\.WeightNorm"
        ):
            read_torch(path)
    assert not hasattr(WeightNorm, "wg_poisoned")


@pytest.mark.parametrize("part", [0, 1, 2, 4])
def test_every_pickle_of_an_old_file_is_guarded(tmp_path: Path, part: int) -> None:
    """The magic number, the version, the machine's facts and the list of storages, too."""
    canary, path = tmp_path / "canary", tmp_path / "evil.pt"
    parts = [pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [pickle.dumps({}, 2), pickle.dumps([], 2)]
    parts[part] = TRICKS["os.system"](canary)
    path.write_bytes(b"".join(parts))
    with pytest.raises(UserError, match=r"asks for posix\.system, which"):
        read_torch(path)
    assert not canary.exists()


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scripted.pt"
    data = io.BytesIO(in_container(pickle.dumps({}, 2), "zip"))
    with zipfile.ZipFile(data, "a") as z:
        z.writestr("archive/constants.pkl", pickle.dumps((), 2))
        z.writestr("archive/code/__torch__.py", "def forward(self): ...")
    path.write_bytes(data.getvalue())
    with pytest.raises(UserError, match="TorchScript"):
        read_torch(path)


# -- memory -------------------------------------------------------------------------------


def _tensor(numel: int, size: int, stride: int, view: bytes = b"") -> bytes:
    """The pickle of a tensor with storage "0"; ``view`` is a sixth part of old storages."""

    pid = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu")
    pid += _number(numel) + view + b"tQ"
    shape = b"K\0" + _number(size) + b"\x85" + _number(stride) + b"\x85"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + pid + shape + b"\x89}tR."


def _number(n: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", n)


@pytest.mark.parametrize(
    ("numel", "size", "stride", "words"),
    [
        (2**40, 2**40, 1, "storage 0 is larger than the file"),
        (400, 4, 1, "storage 0 is larger than the file"),
        (-4, 1, 1, "storage 0 is larger than the file"),
        (5, 4, 1, "a storage of 20 bytes has 16"),
        (4, 2**40, 1, "numbers in a storage of 4"),
        (4, 2**40, 0, "numbers in a storage of 4"),
        (4, 2, 100, "a tensor of 2 numbers in a storage of 4"),
        (4, -1, 1, "impossible size"),
    ],
)
def test_sizes_that_the_file_does_not_hold(
    tmp_path: Path, numel: int, size: int, stride: int, words: str
) -> None:
    path = tmp_path / "huge.pt"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("archive/data.pkl", _tensor(numel, size, stride))
        z.writestr("archive/data/0", b"\0" * 16)
    with pytest.raises(UserError, match=f"damaged.*{words}"):
        read_torch(path)


def _old_file(path: Path, pickled: bytes, keys: list[str], length: int = 4) -> Path:
    """A file of torch before 1.6 with one storage of 0, 1, 2, 3."""
    empty = in_container(pickled, "legacy").removesuffix(pickle.dumps([], 2))
    numbers = struct.pack("<q4f", length, 0, 1, 2, 3)
    path.write_bytes(empty + pickle.dumps(keys, 2) + numbers)
    return path


def test_storages_of_an_old_file_are_all_filled(tmp_path: Path) -> None:
    """A storage that the file leaves out would be whatever the memory held before."""
    path, whole = tmp_path / "old.pt", _tensor(4, 4, 1, view=b"N")
    assert read_torch(_old_file(path, whole, ["0"])).tolist() == [0, 1, 2, 3]
    for keys, length, words in (
        ([], 4, "its list of storages"), (["0", "0"], 4, "its list of storages"),
        (["1"], 4, "its list of storages"), (["0"], 3, "storage 0 has two sizes"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            read_torch(_old_file(path, whole, keys, length))


def test_views_of_old_storages_stay_inside(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"

    def view(offset: int, size: int) -> bytes:
        return _text("1") + _number(offset) + _number(size) + b"\x87"

    inside = _tensor(4, 2, 1, view(1, 2))
    assert read_torch(_old_file(path, inside, ["0"])).tolist() == [1, 2]
    for offset, size in ((3, 2), (-1, 2), (0, 5)):
        with pytest.raises(UserError, match="leaves storage 0"):
            read_torch(_old_file(path, _tensor(4, 1, 1, view(offset, size)), ["0"]))


def test_a_small_entry_may_not_unpack_to_a_huge_one(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as z:
        z.writestr("archive/data.pkl", _tensor(10**6, 4, 1))
        z.writestr("archive/data/0", b"\0" * 4 * 10**6)
    with pytest.raises(UserError, match="compressed"):
        read_torch(path)


DEEP = 200_000
PICKLE_BOMBS = {
    "memo index": b"\x80\x02}r\xff\xff\xff\xff.",
    "nested lists": b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "nested tuple as a key": b"\x80\x02})" + b"\x85" * DEEP + b"Ns.",
    "nested device": b"\x80\x02ctorch\ndevice\n)" + b"\x85" * DEEP + b"\x85R.",
    "long text": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
    "long number": b"\x80\x02\x8b\xff\xff\xff\x7f.",
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("bomb", PICKLE_BOMBS)
def test_pickles_that_exhaust_python(tmp_path: Path, bomb: str, format: str) -> None:
    """Plain values of odd shapes may be read, but nothing crashes."""
    path = tmp_path / "bomb.pt"
    path.write_bytes(in_container(PICKLE_BOMBS[bomb], format))
    if bomb in ("memo index", "nested lists"):
        assert isinstance(read_torch(path), (dict, list))
    else:
        with pytest.raises(UserError, match="damaged"):
            read_torch(path)


@pytest.mark.parametrize("format", FORMATS)
def test_files_at_random_are_refused(tmp_path: Path, format: str) -> None:
    """Pickles whose instructions are random: an error of ours, never another's."""
    path = tmp_path / "noise.pt"
    for seed in range(300):
        rng = random.Random(seed)
        opcodes = b"})]\x85\x86\x87(tNuesabRQ\x81\x940" + b"K\x01q\x01h\x01U\x01x"
        noise = bytes(rng.choice(opcodes) for _ in range(40))
        path.write_bytes(in_container(b"\x80\x02" + noise + b".", format))
        with contextlib.suppress(UserError):
            read_torch(path)
