"""Arguments of the Python interface: a sentence for each that does not fit."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from torch import Tensor

from wg.errors import UserError

Size = int | str  # a number, or the letter of a size that is free


def check_tensor(
    name: str, value: Any, shape: tuple[Size, ...], like: Tensor, any_float: bool = False
) -> None:
    """Raises :class:`UserError` unless ``value`` is a tensor of this shape with no size of 0, on
    the device and of the dtype of ``like``; of any floating dtype with ``any_float``."""
    wanted = "(" + ", ".join(map(str, shape)) + ")"
    if not isinstance(value, Tensor):
        raise UserError(
            f"{name} is a {type(value).__name__} and must be a torch tensor {wanted}: make it one "
            "with torch.as_tensor."
        )
    fits = len(value.shape) == len(shape) and all(
        n > 0 and (isinstance(size, str) or n == size)
        for n, size in zip(value.shape, shape, strict=True)
    )
    if not fits:
        raise UserError(f"{name} of shape {tuple(value.shape)} must be {wanted}, without a 0.")
    if value.dtype != like.dtype and not (any_float and value.is_floating_point()):
        wish = "a floating dtype" if any_float else str(like.dtype)
        raise UserError(f"{name} of {value.dtype} must be of {wish}: convert it with {name}.to.")
    if value.device != like.device:
        raise UserError(
            f"{name} is on {value.device} and the model on {like.device}: move one to the other."
        )


def check_scale(name: str, value: Any) -> None:
    """Raises :class:`UserError` unless ``value`` is a finite number that is not negative."""
    if not (isinstance(value, Real) and 0 <= float(value) < math.inf):
        raise UserError(f"{name}={value!r} must be a finite number of at least 0.")
