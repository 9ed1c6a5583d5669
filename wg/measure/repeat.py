"""Whether a repetition of a study agrees with the study.

Both are a few seeds of one arm. If nothing has changed, the ratio of their geometric means differs
from 1 by chance alone, and by how much is known: Student's t of the pooled variance of the
logarithms, n + m - 2 degrees of freedom. It needs one seed of the repetition and two of the study.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Repeat:
    """ratio        geometric mean of the repetition over that of the study
    low, high    where it lies in 95% of repetitions if nothing has changed; None: not known
    agrees       whether it does; None where there is no interval
    n, m         values of the study and of the repetition
    """

    ratio: float
    low: float | None
    high: float | None
    agrees: bool | None
    n: int
    m: int


def repeated(study: Sequence[float], again: Sequence[float], level: float = 0.95) -> Repeat:
    """Of positive values, such as seconds to a target by seed.

    The interval is of the ratio under no change, so it is around 1 and not around the ratio.
    Values that are all the same, as of one seed on one machine, make one of no width.
    """
    n, m = len(study), len(again)
    assert n > 0
    assert m > 0
    a, b = np.log(np.asarray(study, float)), np.log(np.asarray(again, float))
    ratio = float(np.exp(b.mean() - a.mean()))
    freedom = n + m - 2
    if freedom < 1:
        return Repeat(ratio, None, None, None, n, m)
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    spread = math.sqrt(squares / freedom * (1 / n + 1 / m))
    half = float(student.ppf(0.5 + level / 2, freedom)) * spread
    inside = abs(math.log(ratio)) <= half + 1e-9
    return Repeat(ratio, math.exp(-half), math.exp(half), inside, n, m)
