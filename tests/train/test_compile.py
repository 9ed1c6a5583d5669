"""torch.compile of the loss: all of it before the first step, on its clock, and nothing touched."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from wg.errors import UserError
from wg.measure.record import read_events
from wg.plan import StrategyConflict
from wg.sweep.rundir import prepare
from wg.train import compile as compiling
from wg.train.build import build
from wg.train.compile import check_compiled, occurring, warm_up
from wg.train.run import EXIT_INTERRUPTED, _run
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]
# Segments of two lengths, two stages of growth (the second within the second length), parts.
STAGES: dict[str, Any] = {
    "curriculum": {"segment_lengths": [2048, 4096], "until": [0.3]},
    "grow_flows": {"n_flows": [2, 4], "until": [0.6]},
    "accumulate": {"segments": 2},
}


class Compiler:
    """A backend that leaves what it is given as it is, and keeps count."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.graphs, self.seconds = 0, seconds

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        self.graphs += 1
        time.sleep(self.seconds)
        return graph.forward


def staged(tiny_config: Config, **changes: Any) -> dict[str, Any]:
    """One layer a WN: tracing is what takes the time here."""
    return tiny_config(strategy={**STAGES, "compile": {}}, model={"n_layers": 1}, **changes)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    torch.compiler.reset()  # what another test compiled would be taken again
    made = Compiler()
    monkeypatch.setattr(compiling, "BACKEND", made)
    return made


def test_everything_that_occurs_is_compiled_before_the_first_step(
    tiny_config: Config, compiler: Compiler
) -> None:
    job = build(Settings.from_config(staged(tiny_config, batch_size=3)))
    assert [(length, sum(flows)) for length, _, flows in occurring(job)] == [
        (2048, 2), (4096, 2), (4096, 4)
    ]  # fmt: skip
    # In parts of two of the longest: 6 segments of 2048 are 4 and 2; 3 of 4096 are 2 and 1, twice.
    assert warm_up(job, nullcontext) == 6
    assert compiler.graphs == 6  # whole graphs: a break would make more of one
    seen = set()
    for batch in job.data.stream():
        job.module._grow(int(job.plan.n_active_flows(job.data.progress)))  # type: ignore[misc]
        job.module.training_step(batch, 0).backward()
        job.data.advance(batch[1].numel())
        seen.add((tuple(batch[1].shape), sum(job.module.model.active)))
    assert len(seen) == 3
    assert compiler.graphs == 6


def test_a_resumed_run_compiles_what_is_left(tiny_config: Config, compiler: Compiler) -> None:
    job = build(Settings.from_config(staged(tiny_config)))
    job.data.samples_seen = round(0.7 * 4.0 * 16000)
    assert [(length, sum(flows)) for length, _, flows in occurring(job)] == [(4096, 4)]


def test_warming_up_leaves_everything_as_it_was(tiny_config: Config, compiler: Compiler) -> None:
    job = build(Settings.from_config(staged(tiny_config)))
    model = job.module.model
    weights = {k: w.clone() for k, w in model.state_dict().items()}
    random, active = torch.get_rng_state(), list(model.active)
    assert warm_up(job, nullcontext) > 0
    assert sorted(weights) == sorted(model.state_dict())
    assert all(torch.equal(weights[k], w) for k, w in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert (model.active, job.data.step, job.data.samples_seen) == (active, 0, 0)


def test_without_the_strategy_nothing_is_compiled(tiny_config: Config, compiler: Compiler) -> None:
    job = build(Settings.from_config(tiny_config()))
    assert warm_up(job, nullcontext) == 0
    job.module.training_step(next(iter(job.data.stream())), 0)
    assert compiler.graphs == 0


def test_its_time_is_on_its_clock(
    tiny_config: Config, tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    compiler.seconds = 2.0
    small = {"n_layers": 1, "n_flows": 2}
    config = tiny_config(strategy={"compile": {}}, budget={"audio_seconds": 2.0}, model=small)
    run_dir = prepare({**config, "out": str(tmp_path)}, [])
    assert _run(run_dir, 0) == 0
    totals = read_events(run_dir)[-1]["clock"]
    assert compiler.graphs == 1
    assert totals["compile"]["wall"] >= 2.0
    assert totals["train"]["wall"] < 2.0


def test_a_machine_that_cannot_compile_is_told_so_in_one_sentence(
    tiny_config: Config, tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        raise RuntimeError("No working C++ compiler found\nin any of many places")

    monkeypatch.setattr(compiling, "BACKEND", none_here)
    run_dir = prepare({**tiny_config(strategy={"compile": {}}), "out": str(tmp_path)}, [])
    with pytest.raises(UserError) as refusal:
        _run(run_dir, 0)
    sentence = str(refusal.value)
    assert sentence.startswith("strategy 'compile' cannot compile on this machine (")
    assert "No working C++ compiler found" in sentence
    assert "\n" not in sentence
    assert read_events(run_dir)[-1]["status"] == "refused"


def test_a_compiler_that_was_interrupted_is_not_missing(
    tiny_config: Config, tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C reaches the compiler's own process too, which fails of it."""

    def killed(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError("C++ compile error")

    monkeypatch.setattr(compiling, "BACKEND", killed)
    run_dir = prepare({**tiny_config(strategy={"compile": {}}), "out": str(tmp_path)}, [])
    assert _run(run_dir, 0) == EXIT_INTERRUPTED
    assert read_events(run_dir)[-1]["status"] == "interrupted"


@pytest.mark.parametrize("mode", ["reduce-overhead", "default"])
def test_a_step_that_cannot_be_recorded_is_told_in_one_sentence(
    tiny_config: Config, compiler: Compiler, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Without a graph an error of the device is what it is."""

    def refuse(*_: Any) -> None:
        raise torch.AcceleratorError("CUDA error: operation not permitted when capturing\nmore")

    job = build(Settings.from_config(tiny_config(strategy={"compile": {"mode": mode}})))
    monkeypatch.setattr(compiling, "_pass", refuse)
    expected = UserError if mode == "reduce-overhead" else torch.AcceleratorError
    with pytest.raises(expected) as refusal:
        warm_up(job, nullcontext)
    if mode == "reduce-overhead":
        assert str(refusal.value) == (
            "strategy 'compile' cannot record this recipe's step as a CUDA graph (CUDA error: "
            "operation not permitted when capturing): take it out of the recipe, or set "
            "strategy.compile.mode=default where it is 'compile'."
        )


@pytest.mark.parametrize("other", ["accumulate", "micro_batch"])
def test_cuda_graphs_and_parts_are_refused_by_name(other: str, tiny_config: Config) -> None:
    recipe: dict[str, Any] = {"compile": {"mode": "reduce-overhead"}, other: {}}
    plan = Settings.from_config(tiny_config(strategy=recipe)).plan()
    with pytest.raises(StrategyConflict, match=f"'compile' and '{other}'"):
        check_compiled(plan)
    recipe["compile"] = {}
    check_compiled(Settings.from_config(tiny_config(strategy=recipe)).plan())
