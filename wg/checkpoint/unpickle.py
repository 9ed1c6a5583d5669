"""Pickles read as data: an interpreter that has no instruction to import or to run anything.

A pickle is a program, and Python's own reader executes it. Here ``pickletools`` of the standard
library takes the program apart and this module carries out the few instructions that build plain
values. A name in the pickle is only ever a name (see :mod:`wg.checkpoint.picklenames`).

Why not ``torch.load(weights_only=True)``: its stand-ins are registered for the whole process, it
reads pickle protocol 2 only, its reader of old files inspects the source code of classes and may
write patches of it, and it does not notice a flipped bit (tried with torch 2.13).
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from wg.checkpoint.picklenames import (
    CALLS,
    Global,
    Module,
    NumpyType,
    is_class,
    is_known,
    plain_key,
)
from wg.errors import UserError

LONGEST = 32 * 2**20  # bytes of one pickle; a WaveGlow's with its optimizer is about one MB

_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # what protocol 2 calls them

Persistent = Callable[[Any], Any]


class Readable(Protocol):
    """What ``pickletools`` reads from."""

    def read(self, n: int, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...


def read_pickle(file: Readable, name: str, persistent: Persistent) -> Any:
    """The value of the pickle at the file's position, which is then behind it.

    name: the file, for messages. persistent: what a persistent id stands for. Raises
    :class:`UserError` for whatever is not plain data; errors of a damaged pickle are ValueError,
    TypeError, LookupError or struct.error.
    """
    machine = _Machine(name, persistent)
    begin = file.tell()
    for op, arg, at in pickletools.genops(file):  # type: ignore[arg-type]
        if at is not None and at - begin > LONGEST:
            raise ValueError(f"its pickle is longer than {LONGEST} bytes")
        if op.name == "STOP":
            break
        run = _OPS.get(op.name)
        if run is None:
            raise machine.refused(f"uses pickle's instruction {op.name}")
        run(machine, arg)
    (value,) = machine.stack
    return value


class _Machine:
    """The stack machine of pickle, less what could do harm."""

    def __init__(self, name: str, persistent: Persistent) -> None:
        self.name, self.persistent = name, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def refused(self, what: str) -> UserError:
        return UserError(
            f"{self.name} {what}, which no WaveGlow needs; wg never runs code from a checkpoint "
            "and refuses this one: take it from a source that you trust, or save only the "
            "model's state_dict() where it was made."
        )

    # -- stack and memo -------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, kind: type = object) -> Any:
        value = self.stack.pop()
        if not isinstance(value, kind):
            raise TypeError(f"a {type(value).__name__} out of place")
        return value

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def last(self, n: int) -> list[Any]:
        return [self.stack.pop() for _ in range(n)][::-1]

    def put(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    # -- containers -----------------------------------------------------------------------

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, set):
            target.update(map(plain_key, items))
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise TypeError(f"items for a {type(target).__name__}")

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TypeError(f"items for a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[plain_key(key)] = value

    # -- names and objects ----------------------------------------------------------------

    def name_of(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is no text")
        path = f"{_RENAMED.get(module, module)}.{name}"
        # Dots belong to the module: in a name they would be a path of attributes.
        if not is_known(path) or "." in name:
            raise self.refused(f"asks for {ascii(path)[1:-1][:80]}")
        self.push(Global(path))

    def reduce(self) -> None:
        args, func = self.pop(tuple), self.pop()
        call = CALLS.get(func.path) if isinstance(func, Global) else None
        if call is None:
            raise self.refused(f"calls {_described(func)}")
        self.push(call(*args))

    def new(self) -> None:
        args, cls = self.pop(tuple), self.pop()
        if not isinstance(cls, Global) or not is_class(cls.path) or args:
            raise self.refused(f"makes an object of {_described(cls)}")
        self.push(Module(cls.path))

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Module):
            if not isinstance(state, dict) or not all(isinstance(k, str) for k in state):
                raise TypeError("a state that is no dictionary of attributes")
            target.state.update(state)
        # The metadata of a state dict, the hooks of an old tensor, a numpy type's byte order.
        elif not isinstance(target, (dict, Tensor, NumpyType)):
            raise self.refused(f"sets attributes of {_described(target)}")


def _described(value: Any) -> str:
    return value.path if isinstance(value, Global) else f"a {type(value).__name__}"


_OPS: dict[str, Callable[[_Machine, Any], object]] = {
    "PROTO": lambda m, arg: None,
    "FRAME": lambda m, arg: None,
    "NONE": lambda m, arg: m.push(None),
    "NEWTRUE": lambda m, arg: m.push(True),
    "NEWFALSE": lambda m, arg: m.push(False),
    "MARK": lambda m, arg: m.mark(),
    "POP": lambda m, arg: m.pop(),
    "POP_MARK": lambda m, arg: m.since_mark(),
    "BINPUT": lambda m, arg: m.put(arg),
    "LONG_BINPUT": lambda m, arg: m.put(arg),
    "MEMOIZE": lambda m, arg: m.put(None),
    "BINGET": lambda m, arg: m.push(m.memo[arg]),
    "LONG_BINGET": lambda m, arg: m.push(m.memo[arg]),
    "EMPTY_LIST": lambda m, arg: m.push([]),
    "EMPTY_DICT": lambda m, arg: m.push({}),
    "EMPTY_SET": lambda m, arg: m.push(set()),
    "EMPTY_TUPLE": lambda m, arg: m.push(()),
    "TUPLE": lambda m, arg: m.push(tuple(m.since_mark())),
    "TUPLE1": lambda m, arg: m.push(tuple(m.last(1))),
    "TUPLE2": lambda m, arg: m.push(tuple(m.last(2))),
    "TUPLE3": lambda m, arg: m.push(tuple(m.last(3))),
    "APPEND": lambda m, arg: m.extend(m.last(1)),
    "APPENDS": lambda m, arg: m.extend(m.since_mark()),
    "ADDITEMS": lambda m, arg: m.extend(m.since_mark()),
    "SETITEM": lambda m, arg: m.set_items(m.last(2)),
    "SETITEMS": lambda m, arg: m.set_items(m.since_mark()),
    "GLOBAL": lambda m, arg: m.name_of(*arg.split(" ", 1)),
    "STACK_GLOBAL": lambda m, arg: m.name_of(*m.last(2)),
    "REDUCE": lambda m, arg: m.reduce(),
    "NEWOBJ": lambda m, arg: m.new(),
    "BUILD": lambda m, arg: m.build(),
    "BINPERSID": lambda m, arg: m.push(m.persistent(m.pop())),
}
# Plain values that the instruction itself holds.
for _name in (
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING",
):  # fmt: skip
    _OPS[_name] = lambda m, arg: m.push(arg)
