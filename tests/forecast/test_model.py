"""Seconds on named GPUs, by hand."""

from __future__ import annotations

import pytest

from wg.errors import UserError
from wg.forecast.hardware import HARDWARE, Hardware, named
from wg.forecast.memory import MemoryModel
from wg.forecast.model import (
    Assumptions,
    all_reduce_seconds,
    forecast,
    share_of_batch,
    step_time,
)
from wg.sweep.compose import configurations
from wg.train.workload import Workload, workload

# Round numbers; two in a host.
GPU = Hardware("toy", dict.fromkeys(("fp32", "tf32", "bf16", "fp16"), 1e12), 1e9, 1e11, 1e10, 100,
               "nowhere", in_host=2)  # fmt: skip
NO_LAUNCHES = Assumptions(efficiency=0.5, network=1e9, latency=1e-5, launch=0.0, price=2.0)


def of(*overrides: str) -> tuple[Workload, MemoryModel]:
    work = workload(configurations(["model=small", *overrides])[0])
    return work, MemoryModel(work)


def test_the_ring_by_hand() -> None:
    # Four ranks send 3/4 of 100 MB twice at 1 GB/s, in 6 hops of 10 us.
    assert all_reduce_seconds(4, 100e6, 1e9, 10e-6) == pytest.approx(0.15 + 60e-6)
    assert all_reduce_seconds(2, 100e6, 1e9, 10e-6) == pytest.approx(0.1 + 20e-6)
    assert all_reduce_seconds(1, 100e6, 1e9, 10e-6) == 0.0
    assert all_reduce_seconds(1024, 1.0, 1e12, 5e-6) == pytest.approx(2046 * 5e-6, rel=1e-3)


@pytest.mark.parametrize(
    ("batch", "gpus", "per_gpu", "share"),
    [(24, 1, None, 24), (24, 8, None, 3), (24, 16, None, 2), (24, 64, None, 1), (24, 64, 4, 4)],
)
def test_the_batch_is_shared_out(batch: int, gpus: int, per_gpu: int | None, share: int) -> None:
    assert share_of_batch(batch, gpus, per_gpu) == share


def test_a_step_on_one_gpu_by_hand() -> None:
    work, memory = of()
    step = step_time(work, work.longest, memory, GPU, 1, 1, NO_LAUNCHES)
    assert step.compute == pytest.approx(work.longest.flops / 0.5e12)
    # Adam reads p, g, m, v and writes p, m, v: 28 bytes; weight norm 20.
    assert step.weights == pytest.approx(48 * work.parameters / 1e11, rel=1e-3)
    assert step.traffic == pytest.approx(4 * memory.kept.a_sample * 16000 / 1e11)
    assert (step.reduce, step.exposed) == (0.0, 0.0)
    assert step.total == pytest.approx(step.compute + step.traffic + step.weights)


def test_recomputation_takes_time_and_no_model_flops() -> None:
    plain, again = of(), of("strategy=[recompute]")
    a, b = (step_time(w, w.longest, m, GPU, 1, 1, NO_LAUNCHES).compute for w, m in (plain, again))
    assert plain[0].flops == again[0].flops
    assert b == pytest.approx(4 / 3 * a)


def test_between_hosts_the_network_carries_the_ring() -> None:
    work, memory = of("batch_size=4")
    inside, outside = (
        step_time(work, work.longest, memory, GPU, n, 1, NO_LAUNCHES) for n in (2, 4)
    )
    size = 4 * work.parameters
    assert inside.reduce == pytest.approx(size / 1e10 + 2e-5)
    assert outside.reduce == pytest.approx(1.5 * size / 1e9 + 6e-5)
    # What the backward pass does not hide is waited for.
    hidden = 2 / 3 * (outside.compute + outside.traffic)
    assert outside.exposed == pytest.approx(max(outside.reduce - hidden,
                                                outside.reduce * 25 * 2**20 / size))  # fmt: skip


def test_gradients_in_16_bits_are_half_the_bytes() -> None:
    full, half = of("strategy=[ddp]", "batch_size=2"), of(
        "strategy=[ddp]", "strategy.ddp.compressed=fp16", "batch_size=2"
    )  # fmt: skip
    times = [
        step_time(w, w.longest, m, GPU, 4, 1, Assumptions(latency=0.0, network=1e9)).reduce
        for w, m in (full, half)
    ]
    assert times[0] == pytest.approx(2 * times[1])


def test_a_step_is_no_shorter_than_its_launches() -> None:
    work, memory = of()
    slow = Assumptions(launch=1.0)
    step = step_time(work, work.longest, memory, HARDWARE["h100"], 1, 1, slow)
    assert step.total == step.launches == 30 * 6 * 5  # 6 flows of 4 layers and one
    graph, kept = of("strategy=[compile]")
    assert step_time(graph, graph.longest, kept, HARDWARE["h100"], 1, 1, slow).launches == 0.0


def test_a_run_costs_what_its_steps_do() -> None:
    work, memory = of("batch_size=4", "budget.audio_seconds=600")
    one = forecast(work, memory, GPU, 1, NO_LAUNCHES)
    assert (one.steps, one.batch, one.share, one.own_batch) == (150, 4, 4, True)
    assert one.seconds == pytest.approx(150 * one.step.total)
    assert one.gpu_hours == pytest.approx(one.seconds / 3600)
    assert one.kwh == pytest.approx(one.gpu_hours * 0.1)
    assert one.money == pytest.approx(one.gpu_hours * 2)
    assert one.fits
    many = forecast(work, memory, GPU, 8, NO_LAUNCHES)
    assert (many.steps, many.batch, many.share, many.own_batch) == (75, 8, 1, False)
    assert many.gpu_hours == pytest.approx(8 * many.seconds / 3600)
    assert many.memory < one.memory


def test_what_does_not_fit_is_told() -> None:
    work = workload(configurations(["model=paper"])[0])
    found = forecast(work, MemoryModel(work), GPU, 1, NO_LAUNCHES)
    assert not found.fits
    assert found.memory > 20e9


def test_data_sheets() -> None:
    a100, h100 = named(["a100", "h100"])
    assert (a100.peak["bf16"], a100.peak["tf32"], a100.peak["fp32"]) == (312e12, 156e12, 19.5e12)
    assert h100.peak["bf16"] == pytest.approx(2 * h100.peak["tf32"])
    assert all("https://" in h.source for h in HARDWARE.values())
    assert named(["h100"], watts=350)[0].watts == 350
    with pytest.raises(UserError, match="'h101' is not known; did you mean 'h100'"):
        named(["h101"])
