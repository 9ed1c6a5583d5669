"""Files of ``torch.save``, read without running anything in them.

Both formats: the zip archive of torch 1.6 and later, and the older sequence of pickles and raw
storages, in which NVIDIA's published checkpoints come. The pickles are read by
:mod:`wg.checkpoint.unpickle`; storages are copied out of the file within its bounds, and an
archive's checksums are verified, which torch itself does not do.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from wg.checkpoint.picklenames import STORAGES, Global
from wg.checkpoint.unpickle import read_pickle
from wg.errors import UserError

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older format
_DAMAGE = (
    ValueError, TypeError, LookupError, EOFError, struct.error, RecursionError, MemoryError,
    OverflowError, RuntimeError, NotImplementedError, zipfile.BadZipFile,
)  # fmt: skip
# What is mistaken for a checkpoint, by its first bytes.
_MISTAKEN = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: run `git lfs pull`",
    b"\x1f\x8b": "is compressed with gzip: unpack it first",
    b"<": "is a web page, not a checkpoint: the download wanted something first; open its address "
          "in a browser and save the file itself",
}  # fmt: skip


def read_torch(path: Path) -> Any:
    """What ``torch.save`` wrote: dictionaries, lists, tuples, sets, numbers, texts, CPU tensors
    and :class:`~wg.checkpoint.picklenames.Module` stand-ins for pickled objects.

    Raises :class:`UserError` for a file that is missing, empty, cut short, damaged or no torch
    file, and for one that asks to run code; none of it is imported or called.
    """
    try:
        with open(path, "rb") as file:
            return _read(file, str(path))
    except OSError as e:
        raise UserError(f"{path} cannot be read ({os.strerror(e.errno or 0)}).") from None
    except _DAMAGE as e:
        told = ascii(str(e) or type(e).__name__)[1:-1][:120]  # it may quote the file
        raise UserError(
            f"{path} is damaged or cut short ({told}); copy or download it again."
        ) from e


def _read(file: IO[bytes], name: str) -> Any:
    head = file.read(512)
    file.seek(0)
    if not head:
        raise UserError(f"{name} is empty; copy or download it again.")
    if head.startswith(b"PK"):
        return _Archive(file, name).read()
    if head.startswith(b"\x80"):
        return _Sequence(file, name).read()
    for begin, what in _MISTAKEN.items():
        if head.lstrip().startswith(begin):
            raise UserError(f"{name} {what}.")
    if head[257:262] == b"ustar":
        raise UserError(
            f"{name} is a tar archive, torch's format before 2017 or a packed download: unpack "
            "it, or save it again with a newer torch."
        )
    raise UserError(
        f"{name} is no checkpoint that wg knows: neither torch.save nor safetensors wrote it."
    )


class _Storages:
    """Storages by their key. Together they cannot be larger than the file, so a few bytes
    cannot claim the machine's memory."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.file, self.name = file, name
        self.size = os.fstat(file.fileno()).st_size
        self.left = self.size
        self.known: dict[str, Tensor] = {}

    def new(self, kind: Any, key: Any, numel: Any) -> Tensor:
        """A storage (numel,) that the pickle names, its numbers still to be filled in."""
        if not isinstance(kind, Global) or not isinstance(key, str) or type(numel) is not int:
            raise TypeError("a storage of an unknown kind")
        dtype = STORAGES[kind.path]
        if key in self.known:
            if self.known[key].dtype != dtype or len(self.known[key]) != numel:
                raise ValueError(f"storage {key} has two sizes")
            return self.known[key]
        self.left -= numel * dtype.itemsize
        if numel < 0 or self.left < 0:
            raise ValueError(f"storage {key} is larger than the file")
        self.known[key] = torch.empty(numel, dtype=dtype)
        return self.known[key]


def _fill(storage: Tensor, content: bytes) -> None:
    if len(content) != storage.nbytes:
        raise ValueError(f"a storage of {storage.nbytes} bytes has {len(content)}")
    if content:
        numbers = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        storage.view(torch.uint8).copy_(numbers)


class _Archive(_Storages):
    """The zip format: NAME/data.pkl and NAME/data/KEY, stored without compression."""

    def read(self) -> Any:
        self.zip = zipfile.ZipFile(self.file)
        names = self.zip.namelist()
        pickles = [n for n in names if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(pickles) != 1:
            shown = ", ".join(ascii(n)[1:-1] for n in names[:3])
            raise UserError(
                f"{self.name} is a zip archive but no checkpoint (it holds {shown}): unpack it and "
                "name the file inside."
            )
        self.folder = pickles[0].removesuffix("data.pkl")
        if self.folder + "constants.pkl" in names:
            raise UserError(
                f"{self.name} is a TorchScript program, and wg runs no code from a checkpoint; "
                "save the model's state_dict() instead."
            )
        if self.folder + "byteorder" in names and self._bytes("byteorder") != b"little":
            raise UserError(f"{self.name} was written on a big-endian machine; save it on another.")
        return read_pickle(io.BytesIO(self._bytes("data.pkl")), self.name, self._storage)

    def _bytes(self, record: str) -> bytes:
        info = self.zip.getinfo(self.folder + record)
        # torch never compresses, and a small compressed entry can unpack to a huge one.
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > self.size:
            raise ValueError(f"{record} is compressed, which torch.save never does")
        return self.zip.read(info)

    def _storage(self, pid: Any) -> Tensor:
        word, kind, key, _, numel = pid
        if word != "storage":
            raise ValueError("an unknown kind of reference")
        fresh = key not in self.known
        storage = self.new(kind, key, numel)
        if fresh:
            _fill(storage, self._bytes(f"data/{key}"))
        return storage


class _Sequence(_Storages):
    """The older format: magic number, version, facts of the machine, the object, the storages'
    keys, and then every storage as its length and its numbers."""

    def read(self) -> Any:
        if read_pickle(self.file, self.name, self._storage) != _MAGIC:
            raise UserError(
                f"{self.name} is a pickle, but not one of torch.save; wg reads only the latter."
            )
        read_pickle(self.file, self.name, self._storage)  # the version: there has been only one
        machine = read_pickle(self.file, self.name, self._storage)
        if machine["little_endian"] is not True:
            raise UserError(f"{self.name} was written on a big-endian machine; save it on another.")
        tree = read_pickle(self.file, self.name, self._storage)
        keys = read_pickle(self.file, self.name, self._storage)
        if not isinstance(keys, list) or sorted(keys) != sorted(self.known):
            raise ValueError("its list of storages is not that of its tensors")
        for key in keys:
            storage = self.known[key]
            (numel,) = struct.unpack("<q", self.file.read(8))
            if numel != len(storage):
                raise ValueError(f"storage {key} has two sizes")
            _fill(storage, self.file.read(storage.nbytes))
        return tree

    def _storage(self, pid: Any) -> Any:
        # ('module', class, file, source): the class, with a copy of its code that nobody needs.
        if pid[0] == "module":
            return pid[1]
        word, kind, key, _, numel, view = pid
        if word != "storage":
            raise ValueError("an unknown kind of reference")
        storage = self.new(kind, key, numel)
        if view is None:
            return storage
        _, offset, size = view
        if min(offset, size) < 0 or offset + size > len(storage):
            raise ValueError(f"a view that leaves storage {key}")
        return storage[offset : offset + size]
