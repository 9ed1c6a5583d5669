"""Steps and shapes of a run, from its plan."""

from __future__ import annotations

import pytest

from wg.flow.flops import step_flops
from wg.sweep.compose import configurations
from wg.train.workload import Workload, workload


def of(*overrides: str) -> Workload:
    return workload(configurations(overrides)[0])


def test_the_paper_model() -> None:
    work = of("model=paper", "budget.audio_seconds=600")
    assert work.parameters == 87_879_272
    (phase,) = work.phases
    assert (phase.shape.batch, phase.shape.samples) == (24, 16000)
    # 600 s of 16 kHz in steps of 24 s.
    assert work.steps == phase.steps == 25
    assert work.flops == 25 * step_flops(work.config, 24, 16000)
    assert work.flops / work.samples == pytest.approx(60.9e6, rel=0.01)


def test_a_last_step_that_is_not_full_counts() -> None:
    assert of("model=small", "budget.audio_seconds=61.5", "snapshots.every=10").steps == 62


def test_growth_and_curriculum_are_phases() -> None:
    work = of("model=small", "strategy=[grow_flows,curriculum]", "budget.audio_seconds=120")
    shapes = [(p.shape.samples, p.shape.batch, p.shape.flows) for p in work.phases]
    assert shapes == [(4000, 4, (2, 3, 5)), (8000, 2, None), (16000, 1, None)]
    assert [p.steps for p in work.phases] == [40, 40, 40]
    first, second, third = (p.flops for p in work.phases)
    assert 2.2 * first > third > 1.8 * first
    assert second == pytest.approx(third, rel=0.01)  # but for the frames at the ends
    assert work.longest == work.phases[1] or work.longest == work.phases[2]


def test_width_grows_in_whole_groups_of_8() -> None:
    work = of("model=small", "strategy=[grow_width]")
    widths = [p.shape.width for p in work.phases]
    assert widths[-1] is None
    assert all(w % 8 == 0 and w < 64 for w in widths[:-1] if w is not None)


@pytest.mark.parametrize(
    ("strategy", "arithmetic"),
    [("", "fp32"), ("tf32", "tf32"), ("bf16", "bf16"), ("fp16", "fp16")],
)
def test_arithmetic(strategy: str, arithmetic: str) -> None:
    assert of("model=tiny", f"strategy=[{strategy}]").arithmetic == arithmetic


def test_a_changed_network_is_what_is_counted() -> None:
    assert of("model=small", "strategy=[interpolated_mel]").flops < of("model=small").flops
    assert of("model=small", "strategy=[recompute]").flops == of("model=small").flops
    assert of("model=small", "strategy=[recompute]").repeated == pytest.approx(4 / 3)
