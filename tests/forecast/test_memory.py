"""Bytes of a step: by hand, by counting, and against what has been measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wg.files import read_json
from wg.forecast.memory import Memory, MemoryModel, built, saved_bytes
from wg.sweep.compose import configurations
from wg.train.workload import workload

BENCH = Path(__file__).resolve().parents[2] / "reports" / "bench" / "step-small.json"


def of(*overrides: str) -> MemoryModel:
    return MemoryModel(workload(configurations(overrides)[0]))


def test_state_of_optimizers() -> None:
    adam, muon, soap = (of("model=tiny", f"strategy=[{s}]") for s in ("adamw", "muon", "soap"))
    P = adam.work.parameters
    assert adam.optimizer == pytest.approx(8 * P, rel=0.01)
    # Muon's momentum for the matrices of WN, Adam's two moments for the rest.
    named = dict(built(muon.work).named_parameters())
    matrices = sum(
        p.numel()
        for n, p in named.items()
        if n.startswith("WN.") and n.endswith((".weight_v", "end.weight"))
    )
    assert muon.optimizer == pytest.approx(4 * matrices + 8 * (P - matrices), rel=0.01)
    assert soap.optimizer > 8 * P
    assert (adam.notes, muon.notes, soap.notes) == ((), (), ())


def test_averaged_weights_are_one_copy() -> None:
    assert of("model=tiny").average == 0
    ema = of("model=tiny", "strategy=[ema]")
    assert ema.average == pytest.approx(4 * ema.work.parameters, rel=0.01)


def test_activations_by_hand() -> None:
    """For each group of samples WN keeps, a layer, its input, tanh, sigmoid and their product, and
    the sum of skips at the end: what is left is a coupling's few channels and the mel's."""
    memory = of("model=small")
    c = memory.work.config
    wn = c.n_flows * c.n_channels * (4 * c.n_layers + 1) * 4 / c.n_group
    mel = c.n_mels * 4
    assert wn + mel < memory.kept.a_sample < 1.05 * (wn + mel)


def test_the_line_holds_beyond_its_points() -> None:
    memory = of("model=tiny", "strategy=[fused_wn]")
    counted = saved_bytes(
        built(memory.work), memory.work, memory.work.settings.data.mel, 40 * 256
    )  # fmt: skip
    assert memory.kept.at(40 * 256) == pytest.approx(counted, rel=0.01)


def test_counting_draws_no_random_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    of("model=tiny")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("strategy", ["recompute", "reversible"])
def test_what_is_made_again_is_not_kept(strategy: str) -> None:
    plain, again = of("model=small"), of("model=small", f"strategy=[{strategy}]")
    assert again.kept.a_sample < plain.kept.a_sample / 8
    assert again.inside == pytest.approx(plain.kept.a_sample / 6, rel=0.01)
    assert again.at(64, 16000).total < plain.at(64, 16000).total / 2.5


def test_half_precision_keeps_half() -> None:
    plain, half = of("model=small"), of("model=small", "strategy=[bf16]")
    assert half.kept.a_sample == pytest.approx(plain.kept.a_sample / 2, rel=0.05)


def test_parts_of_a_batch_bound_memory() -> None:
    whole = of("model=small")
    parts = of("model=small", "strategy=[accumulate]", "strategy.accumulate.segments=2")
    assert parts.at(16, 16000).kept == whole.at(2, 16000).kept < whole.at(16, 16000).kept


def test_the_peak_is_at_one_of_two_places() -> None:
    early = Memory(10, 10, 20, 0, kept=100, passing=5, scratch=20)
    assert early.total == 10 + 20 + 105
    late = Memory(10, 10, 20, 0, kept=1, passing=5, scratch=20)
    assert late.total == 10 + 20 + 30
    assert Memory(10, 10, 20, 0, 100, 5, 20, held=True).total == 145


@pytest.mark.parametrize("name", ["plain", "fused_wn", "bf16", "recompute", "fused_optimizer"])
def test_measured_peaks_are_near(name: str) -> None:
    """Those of `wg bench step`, above the loaded model."""
    row = next(r for r in read_json(BENCH)["rows"] if r["name"] == name)
    strategies = ",".join(row["strategies"])
    memory = of("model=small", f"strategy=[{strategies}]", "data=demo", "data.short_clips=pad")
    peak = memory.at(1, 16000)
    assert peak.total - peak.parameters == pytest.approx(row["peak_bytes"], rel=0.15)
