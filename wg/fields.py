"""Filling dataclasses and hyperparameters from plain values, with every type checked.

Configurations arrive as YAML. What does not fit its annotation is the user's mistake and gets a
sentence that names the setting; what fits is returned in the annotated type.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from wg.errors import UserError, nearest

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def fill(cls: type, values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Keyword arguments for the dataclass ``cls`` from ``values``; ``prefix`` names the group
    ("" at the top).

    A field that is itself a dataclass is filled from a mapping. Raises :class:`UserError` for an
    unknown or missing setting (with the nearest names) or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    inside = f"{prefix}." if prefix else ""
    for key in values:
        if key not in known:
            raise UserError(f"there is no setting '{inside}{key}'; {nearest(str(key), known)}")
    filled = {}
    for name, field in known.items():
        if name in values:
            filled[name] = fit(inside + name, values[name], hints[name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{inside}{name} is missing: set it in the config.")
    return filled


def fit(name: str, value: Any, hint: Any) -> Any:
    """``value`` as the annotation ``hint`` has it: whole numbers pass as numbers, lists as
    tuples, mappings as dataclasses. Raises :class:`UserError` naming ``name`` otherwise."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    options = typing.get_args(hint) if union else (hint,)
    # The exact type first, so that int | float keeps a whole number whole.
    for option in sorted(options, key=lambda o: o is not type(value)):
        fitted = _as(name, value, option)
        if fitted is not _UNFIT:
            return fitted
    raise UserError(f"{name}={value!r} must be {_wanted(options, value)}")


_UNFIT = object()


def _as(name: str, value: Any, option: Any) -> Any:
    """``value`` as one type, or ``_UNFIT``."""
    origin = typing.get_origin(option)
    result = _UNFIT
    if origin is Literal:
        result = value if value in typing.get_args(option) else _UNFIT
    elif origin is tuple and isinstance(value, (list, tuple)):
        item = typing.get_args(option)[0]
        result = tuple(fit(f"{name}[{i}]", v, item) for i, v in enumerate(value))
    elif collections.abc.Mapping in (origin, option) and isinstance(value, Mapping):
        result = dict(value)
    elif dataclasses.is_dataclass(option) and isinstance(value, Mapping):
        assert isinstance(option, type)
        result = option(**fill(option, value, name))
    elif option is float and type(value) in (int, float):
        if not math.isfinite(value):
            raise UserError(f"{name}={value!r} must be a finite number")
        result = float(value)
    # Exactly: True is an int to Python, and never a number that a user meant.
    elif type(value) is option:
        result = value
    return result


def _wanted(options: tuple[Any, ...], value: Any) -> str:
    words: list[str] = []
    hint = ""
    for option in options:
        if typing.get_origin(option) is Literal:
            known = typing.get_args(option)
            words += [repr(v) for v in known]
            hint = f"; {nearest(str(value), known)}" if _is_near(value, known) else ""
        elif option is type(None):
            words.append("null")
        elif typing.get_origin(option) is tuple:
            words.append("a list")
        elif option is not int or float not in options:
            words.append(_WORDS.get(option, "a group of settings"))
    return " or ".join(words) + (hint or ".")


def _is_near(value: Any, known: tuple[str, ...]) -> bool:
    return bool(difflib.get_close_matches(str(value), known, n=1, cutoff=0.5))
