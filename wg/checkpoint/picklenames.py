"""The names that a checkpoint's pickle may mention, and what this program makes of them.

A name is never imported. Those in :data:`CALLS` rebuild tensors and containers by the functions
below; those of :func:`is_class` make :class:`Module` stand-ins; :data:`STORAGES` tell how the
numbers of a storage are written; every other name is refused by :mod:`wg.checkpoint.unpickle`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
# WaveGlow's own classes may live in any module: glow, glow_old, waveglow.model, or wherever
# their user put the file.
_CLASS = re.compile(
    rf"torch\.nn\.modules\.{_IDENTIFIER}\.[A-Z][A-Za-z0-9_]*"
    r"|torch\.nn\.utils\.weight_norm\.WeightNorm"
    r"|torch\.nn\.parallel\.(data_parallel\.DataParallel|distributed\.DistributedDataParallel)"
    r"|apex\.parallel\.distributed\.DistributedDataParallel"
    rf"|({_IDENTIFIER}\.)+(WaveGlow|WaveGlowLoss|WN|Invertible1x1Conv)"
)
_DTYPES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16,
    "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
    "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool,
}  # fmt: skip
STORAGES = {f"torch.{gpu}{n}Storage": t for gpu in ("", "cuda.") for n, t in _DTYPES.items()}
STORAGES["torch.storage.UntypedStorage"] = torch.uint8
# Mentioned, and of no consequence.
_IDLE = {*map(str, _DTYPES.values()), "builtins.object"}


@dataclass(eq=False, repr=False)
class Module:
    """Stand-in for a pickled object: its class's dotted path and its attributes, nothing more."""

    path: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Global:
    """A name that the pickle mentions; it stands for itself and is never looked up."""

    path: str


class NumpyType(str):
    """A numpy scalar's type, such as ``f8``."""


def is_class(path: str) -> bool:
    """Whether an object of this class is read as a stand-in."""
    return _CLASS.fullmatch(path) is not None


def is_known(path: str) -> bool:
    """Whether a pickle may mention this name at all."""
    return path in CALLS or path in STORAGES or path in _IDLE or is_class(path)


def plain_key(value: Any) -> Any:
    """``value`` as a dictionary key: a deeply nested tuple's hash would overflow C's stack."""
    if value is not None and type(value) not in (str, int, float, bool, bytes):
        raise TypeError(f"a {type(value).__name__} as a key")
    return value


def _tensor(
    storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any
) -> Tensor:
    """A strided view of a storage, which it may not leave nor repeat."""
    for n in (offset, *size, *stride):
        if type(n) is not int or not 0 <= n < 2**48:
            raise ValueError("a tensor of impossible size")
    negated = rest[2] if len(rest) > 2 else None  # what follows requires_grad and hooks
    if not isinstance(storage, Tensor) or len(size) != len(stride) or len(size) > 8 or negated:
        raise ValueError("a tensor of an unknown kind")
    if prod(size) == 0:
        return storage.new_empty(size)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if last >= storage.numel() or prod(size) > storage.numel():
        raise ValueError(f"a tensor of {prod(size)} numbers in a storage of {storage.numel()}")
    # An old storage may be a view of another, and as_strided counts from the whole one's begin.
    return storage.as_strided(size, stride, int(storage.storage_offset()) + offset)


def _first(data: Any, *_: Any) -> Tensor:
    """A parameter is its data: what else it carries (requires_grad, hooks) is for training."""
    if not isinstance(data, Tensor):
        raise TypeError("a parameter without data")
    return data


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    return {plain_key(k): v for k, v in items}


def _set(items: Any = ()) -> set[Any]:
    return {plain_key(i) for i in items}


def _device(kind: Any, index: Any = None) -> str:
    if not isinstance(kind, str) or type(index) not in (int, type(None)):
        raise TypeError("a device of an unknown kind")
    return kind if index is None else f"{kind}:{index}"


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes, as protocol 2 spells them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise TypeError("bytes in an unknown encoding")
    return text.encode("latin1")


def _numpy_type(code: Any, *_: Any) -> NumpyType:
    if not isinstance(code, str):
        raise TypeError("a numpy type of an unknown kind")
    return NumpyType(code)


def _scalar(dtype: Any, data: bytes) -> float:
    """A numpy number, little-endian."""
    code = {"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i"}[dtype]
    return struct.unpack(code, data)[0]


def _reconstructor(cls: Any, base: Any, state: Any) -> Module:
    if not isinstance(cls, Global) or not is_class(cls.path) or state is not None:
        raise TypeError("an object of an unknown kind")
    return Module(cls.path)


CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,  # torch 0.3 and 0.4
    "torch.autograd.variable.Variable": _first,
    # An attribute of every module until torch 1.4.
    "torch.nn.backends.thnn._get_thnn_function_backend": lambda: None,
    "torch.Size": tuple,
    "torch.device": _device,
    "collections.OrderedDict": _ordered_dict,
    "builtins.set": _set,
    "copyreg._reconstructor": _reconstructor,
    "_codecs.encode": _encode,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
}
