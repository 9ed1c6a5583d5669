"""Two real ranks: how gradients travel, and how they add up over parts of a batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wg.checkpoint.weights import read_weights
from wg.errors import UserError
from wg.measure.record import read_events
from wg.plan import Ranks
from wg.sweep.launch import launch
from wg.sweep.rundir import prepare
from wg.train import recorder
from wg.train.ranks import ddp_strategy
from wg.train.recorder import Recorder
from wg.train.run import _run

ROOT = Path(__file__).resolve().parents[2]
Config = Callable[..., dict[str, Any]]
Trained = Callable[..., torch.Tensor]
DDP = {"ranks": 2}


@pytest.fixture
def trained(tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """All weights in a row after two steps of 4 segments: ``trained(strategy={...})``."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    out = iter(range(100))

    def train(strategy: dict[str, Any], ranks: int = 2) -> torch.Tensor:
        config = tiny_config(
            strategy={"adamw": {"lr": 3e-3}, **strategy},
            batch_size=4,
            budget={"audio_seconds": 2.0},
            snapshots={"every": 2.0},
            evaluation={"grid_seconds": 0.5},
            out=str(tmp_path / str(next(out))),
        )
        run_dir = prepare(config, [])
        assert launch(run_dir, "two", 0, ranks, 1).result == "finished"
        found = read_weights(run_dir / "final")[1]
        return torch.cat([found[k].flatten() for k in sorted(found)])

    return train


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / a.norm())


def test_parts_buckets_and_compression(trained: Trained) -> None:
    plain = trained({"ddp": DDP})
    parts = trained({"ddp": {**DDP, "bucket_mb": 0.001}, "accumulate": {"segments": 1}})
    assert distance(plain, parts) < 1e-5
    rounded = trained({"ddp": {**DDP, "compressed": "fp16"}})
    assert 1e-5 < distance(plain, rounded) < 0.01


def test_parts_on_two_ranks_with_flows_asleep(trained: Trained) -> None:
    """DDP must find which parameters have no gradient, through what the parts carry along."""
    growth = {"grow_flows": {"n_flows": [2, 4], "until": [0.5]}}
    whole = trained(growth, ranks=1)
    parts = trained({**growth, "ddp": DDP, "accumulate": {"segments": 1}})
    assert distance(whole, parts) < 1e-4


def test_bf16_compression_needs_nccl() -> None:
    with pytest.raises(UserError, match="compressed=bf16 needs backend nccl"):
        ddp_strategy(Ranks(2, "auto", compressed="bf16"), torch.device("cpu"), find_unused=False)


def test_ranks_meet_where_rank_0_keeps_books(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the clock of what it writes. The others would wait for it in their next step, and the
    maximum over ranks would call that training."""
    met = []
    made: list[Recorder] = []
    begin = Recorder.__init__

    def remember(self: Recorder, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        begin(self, *args, **kwargs)

    monkeypatch.setattr(Recorder, "__init__", remember)
    monkeypatch.setattr(recorder, "meet", lambda job: met.append(made[-1].clock.reading()[0]))
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    run_dir = prepare(tiny_config(), [])
    assert _run(run_dir, 0) == 0
    events = [e["event"] for e in read_events(run_dir)]
    assert met.count("log") == events.count("train") > 1
    assert met.count("checkpoint") == events.count("snapshot") > 1
    assert len(met) == met.count("log") + met.count("checkpoint")
