"""The ``evidence`` of results.json: how sure the comparison is, and what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wg.report.compare import Comparison
from wg.report.curves import profile_of, survival_of
from wg.report.data import Sweep
from wg.report.parts import attribution_of, how_to_attribute
from wg.report.sure import ALPHA, good_enough_of, seeds_needed, sooner_of


def evidence_of(
    sweep: Sweep, comparisons: Sequence[Comparison], winner: str
) -> dict[str, Any] | None:
    """As the docstring of wg.report.results lists it, of the first comparison (the headline's);
    None without a target."""
    if not comparisons:
        return None
    main = comparisons[0]
    attribution = attribution_of(sweep, main)
    tell = attribution is None and any(a.strategies for a in sweep.arms.values())
    return {
        "alpha": ALPHA,
        "sooner": sooner_of(sweep, main),
        "good_enough": good_enough_of(sweep, main),
        "seeds_needed": seeds_needed(main),
        "survival": survival_of(sweep, main),
        "profile": profile_of(comparisons),
        "attribution": attribution,
        "how_to_attribute": how_to_attribute(sweep, winner) if tell else None,
    }
