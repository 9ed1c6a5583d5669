"""Second-order statistics of audio in groups, and the matrix that removes them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from wg.errors import UserError

# Half a step of 16-bit PCM, as a variance: keeps digital silence invertible.
_FLOOR = (0.5 / 32768) ** 2


def group_covariance(clips: Iterable[Tensor], n_group: int, n_samples: int) -> Tensor:
    """Second moment (n_group, n_group) of groups of consecutive samples, fp64.

    clips: audio (T,) each; at most ``n_samples`` are read. Audio has no offset worth removing:
    WaveGlow's 1x1 convolution has no bias to remove it with.
    """
    total = torch.zeros(n_group, n_group, dtype=torch.float64)
    count = 0
    for clip in clips:
        n_groups = min(len(clip), max(n_samples - count * n_group, 0)) // n_group
        groups = clip[: n_groups * n_group].double().view(-1, n_group)
        total += groups.T @ groups
        count += len(groups)
        if count * n_group >= n_samples:
            break
    if count == 0:
        raise UserError(
            f"no training clip is as long as a group of {n_group} samples: nothing to whiten."
        )
    return total / count + _FLOOR * torch.eye(n_group, dtype=torch.float64)


def whitening_rotation(covariance: Tensor, Q: Tensor) -> Tensor:
    """Q Cov^(-1/2) (C, C): white output, in the rotation Q. Symmetric (ZCA) root: of all
    whitening matrices the one that moves the samples least."""
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors @ torch.diag(values.clamp_min(_FLOOR).rsqrt()) @ vectors.T
    return (Q.double() @ root).to(Q.dtype)
