"""Measuring: times that follow the work, memory that follows the batch, mistakes that show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch

from wg.bench import measure, run
from wg.bench.gauge import seconds
from wg.bench.measure import compare
from wg.bench.rows import row_of
from wg.bench.show import cells
from wg.bench.step import OwnStep, settings_of
from wg.bench.variants import Sizes, Variant, combination, plain
from wg.errors import UserError
from wg.strategies import all_strategies
from wg.train.module import WaveGlowModule

TINY = Sizes("tiny", 2, 2048, 1, "cpu")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def switches() -> Any:
    """Variants set them for their process, which is here the tests'."""
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def compared(variant: Variant, repeats: int = 2) -> dict[str, Any]:
    return compare(plain(TINY), variant, repeats, lambda done: None)


def row(variant: Variant, timed: dict[str, Any]) -> dict[str, Any]:
    return asdict(row_of(variant, timed, {"peak_bytes": 1_000_000, "of": "tests"}))


def test_a_comparison() -> None:
    variant = combination(TINY, "[fused_optimizer]")
    found = compared(variant, repeats=3)
    assert found["agreement"]["same"] is True
    assert found["clock"] == "cpu"
    assert {len(times) for times in found["times"].values()} == {3}
    assert found["samples"] == {"base": 4096, "variant": 4096}
    assert found["flops"]["base"] == found["flops"]["variant"] > 1e8
    told = row(variant, found)
    assert told["verdict"] == "same"
    assert 0 < told["gemm_share"] < 1
    assert told["ratio"]["n"] == 3
    step = sorted(t["cpu"] for t in found["times"]["variant"])[1] / found["steps_per_repetition"]
    assert told["samples_per_second"] == pytest.approx(4096 / step)


def test_the_ratio_follows_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variant that does everything twice is half as fast, and is not thanked for its FLOPs."""
    backward, twice = OwnStep.backward, {}

    def slower(self: OwnStep) -> torch.Tensor:
        if self.job.plan.fused:
            twice[id(self)] = True
            backward(self)
        return backward(self)

    monkeypatch.setattr(OwnStep, "backward", slower)
    variant = combination(TINY, "[fused_optimizer]")
    told = row(variant, compared(variant, repeats=5))
    assert twice
    assert told["verdict"] == "same"
    assert 0.35 < told["ratio"]["median"] < 0.85


def test_a_wrong_step_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    training_step = WaveGlowModule.training_step

    def forgetful(self: WaveGlowModule, batch: Any, batch_idx: int) -> torch.Tensor:
        mel, audio = batch
        half = len(audio) // 2 if self.plan.fused else len(audio)
        return training_step(self, (mel[:half], audio[:half]), batch_idx)

    monkeypatch.setattr(WaveGlowModule, "training_step", forgetful)
    variant = combination(TINY, "[fused_optimizer]")
    told = row(variant, compared(variant))
    assert told["verdict"] == "WRONG"
    assert cells(told)[2] == "-"
    assert cells(told)[-1].startswith("NO: loss")


def test_other_mathematics_is_marked_and_its_flops_counted() -> None:
    variant = combination(TINY, "{grow_flows: {n_flows: [2, 3], until: [0.5]}, bf16: {}}")
    found = compared(variant, repeats=1)
    assert found["agreement"]["same"] is None
    assert found["flops"]["variant"] < found["flops"]["base"]
    told = row(variant, found)
    assert told["verdict"] == "other"
    assert "other mathematics" in cells(told)[-1]


def test_what_a_step_here_cannot_show_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="2 processes share a step"):
        compared(combination(TINY, "{ddp: {ranks: 2}}"))
    with pytest.raises(UserError, match="no part of a step that has its batch"):
        compared(combination(TINY, "[cached_mel]"))


@pytest.mark.parametrize("name", [n for n, s in all_strategies().items() if s.kind == "system"])
def test_every_system_strategy_steps_here_or_says_why_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Traced and differentiated as for the compiler, whose minute is the contract tests'.
    monkeypatch.setattr("wg.train.compile.BACKEND", "aot_eager")
    try:
        settings = settings_of(combination(TINY, name).config)
        step = OwnStep(settings, measure.batch_of(settings))
    except UserError as error:
        why = str(error)
    else:
        why = ""
    if why:
        assert " " in why
        return
    step.use()
    step.settle()
    before = step.weights()
    losses = []
    for _ in range(3):
        losses.append(float(step.backward()))
        step.update()
    assert losses[2] < losses[0]
    assert all(w.isfinite().all() for w in step.weights().values())
    assert any(not torch.equal(w, before[n]) for n, w in step.weights().items())
    step.load(before)
    assert float(step.backward()) == pytest.approx(losses[0], abs=1e-3)


def test_memory_follows_the_batch() -> None:
    """In processes of their own: one that has trained before keeps memory to reuse."""
    peaks = []
    for batch in (1, 64):
        task = {"what": "memory", "variant": asdict(plain(Sizes("tiny", batch, 4096, 1, "cpu")))}
        found = run._in_a_process(task, run.LateBar(1, "memory", wanted=False))
        assert found["of"] == "resident set above the loaded model"
        peaks.append(found["peak_bytes"])
    # 63 more segments of 4,096 samples: one fp32 copy of the grouped mel alone is 82 MB more.
    assert peaks[1] - peaks[0] > 63 * 80 * 4096 * 4
    assert peaks[0] > 3 * 13e6  # gradients and Adam's two moments of 13 MB of weights


def test_a_failing_process_is_a_finding() -> None:
    task = {"what": "memory", "variant": asdict(plain(TINY))}
    task["variant"]["config"] = {**task["variant"]["config"], "threads": "many"}  # type: ignore[index]
    found = run._in_a_process(task, run.LateBar(1, "memory", wanted=False))
    assert found["refused"].startswith("failed: RuntimeError: set_num_threads")


def test_seconds_are_those_of_the_work() -> None:
    a = torch.randn(300, 300)

    def some(n: int) -> Callable[[], None]:
        return lambda: [torch.mm(a, a) for _ in range(n)] and None

    some(10)()
    assert seconds(some(200), CPU).cpu > 2 * seconds(some(20), CPU).cpu
