"""Schedule-free AdamW: the average is judged, and looking at it changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wg.checkpoint.weights import read_weights
from wg.errors import UserError
from wg.plan import Base, StrategyConflict
from wg.strategies import make_plan
from wg.sweep.rundir import prepare
from wg.train.build import build
from wg.train.run import _run
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]


def test_judged_weights_are_what_the_package_evaluates_with(tiny_config: Config) -> None:
    torch.manual_seed(0)
    job = build(Settings.from_config(tiny_config(strategy={"schedule_free": {}})))
    module, make = job.module, job.plan.eval_weights
    assert make is not None
    optimizer = module.configure_optimizers()
    average = make(module.model)
    fresh = average.weights(module.model)
    assert all(torch.equal(fresh[k], w) for k, w in module.model.state_dict().items())
    for batch in [job.data.train_dataloader().dataset.batch(k, 4096, 2) for k in range(5)]:
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
    trained = {k: v.clone() for k, v in module.model.state_dict().items()}
    judged = average.weights(module.model)
    assert all(torch.equal(w, trained[k]) for k, w in module.model.state_dict().items())
    twin_model, twin = copy.deepcopy((module.model, optimizer))
    twin.eval()
    assert all(torch.equal(judged[k], w) for k, w in twin_model.state_dict().items())
    assert not torch.equal(judged["upsample.weight"], trained["upsample.weight"])


def test_snapshots_do_not_change_the_run(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    ended = []
    for every in (0.6, 4.0):
        config = tiny_config(
            strategy={"schedule_free": {"warmup_steps": 3}}, snapshots={"every": every}
        )
        run_dir = prepare({**config, "out": str(tmp_path / str(every))}, [])
        assert _run(run_dir, 0) == 0
        ended.append(read_weights(run_dir / "final")[1])
    assert all(torch.equal(w, ended[1][k]) for k, w in ended[0].items())


@pytest.mark.parametrize("other", ["lr_schedule", "ema", "swa", "adamw", "soap", "fused_optimizer"])
def test_what_contradicts_it_is_refused_by_name(other: str) -> None:
    with pytest.raises(StrategyConflict, match=rf"schedule_free.*{other}|{other}.*schedule_free"):
        make_plan(Base(), {other: {}, "schedule_free": {}})


@pytest.mark.parametrize(
    ("name", "package"), [("schedule_free", "schedulefree"), ("soap", "pytorch-optimizer")]
)
def test_a_missing_package_is_named_with_its_command(
    name: str, package: str, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"wg.strategies.{name}.find_spec", lambda name: None)
    with pytest.raises(UserError) as e:
        Settings.from_config(tiny_config(strategy={name: {}})).plan()
    assert f"strategy '{name}' needs the package {package}: pip install" in str(e.value)
    make_plan(Base(), {name: {}})  # a recipe can still be read where it cannot be trained
