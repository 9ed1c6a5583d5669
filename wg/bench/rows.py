"""One row of the table: what was measured of a variant, and what follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from wg.bench.variants import Variant
from wg.measure.ratio import paired_ratio

FORMAT = "wg-bench-step/2"


@dataclass(frozen=True)
class Row:
    """ratio: the base's (plain's or a peer's) seconds a sample over the variant's, so above 1 the
    variant is faster, with median, low, high, coverage, n. samples_per_second by the clock that is
    named. gemm_share: model FLOPs a second as a share of the rate of a large fp32 matrix product
    measured in between. verdict: "same", "WRONG" (it promises plain's mathematics and does not keep
    it), "other" (it promises none), or "refused". raw: all times and sizes.
    """

    name: str
    kind: str
    strategies: dict[str, Any]
    verdict: str
    note: str = ""
    ratio: dict[str, Any] | None = None
    samples_per_second: float | None = None
    gemm_share: float | None = None
    peak_bytes: int | None = None
    peak_of: str = ""
    agreement: dict[str, Any] | None = None
    tolerance: dict[str, Any] | None = None
    raw: dict[str, Any] | None = None


def failed_row(variant: Variant, sentence: str) -> Row:
    """Of a variant that could not be timed, and why."""
    return Row(variant.name, variant.kind, _strategies(variant), "refused", sentence)


def row_of(variant: Variant, timed: dict[str, Any], kept: dict[str, Any]) -> Row:
    """From what :func:`wg.bench.measure.compare` and :func:`wg.bench.measure.memory` found."""
    clock, samples = timed["clock"], timed["samples"]
    times = {name: [t[clock] for t in ts] for name, ts in timed["times"].items()}
    a_sample = {name: [t / samples[name] for t in times[name]] for name in ("base", "variant")}
    ratio = paired_ratio(a_sample["base"], a_sample["variant"])
    step = median(times["variant"]) / timed["steps_per_repetition"]
    gemm_rate = timed["gemm"]["flops"] / median(times["gemm"])
    same = timed["agreement"]["same"]
    notes = [kept["refused"]] if "refused" in kept else []
    if not timed["finite"]:
        notes.append("its loss was not finite at the end of the timing")
    return Row(
        name=variant.name,
        kind=variant.kind,
        strategies=_strategies(variant),
        verdict="other" if same is None else "same" if same else "WRONG",
        note="; ".join(notes),
        ratio=asdict(ratio),
        samples_per_second=samples["variant"] / step,
        gemm_share=timed["flops"]["variant"] / step / gemm_rate,
        peak_bytes=kept.get("peak_bytes"),
        peak_of=kept.get("of", ""),
        agreement=timed["agreement"],
        tolerance=timed["tolerance"],
        raw=timed,
    )


def _strategies(variant: Variant) -> dict[str, Any]:
    return {} if variant.peer else dict(variant.config["strategy"])
