"""What every strategy promises, driven by the table."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from contract import (
    Config,
    base,
    covering_recipes,
    settled,
    start_run,
    watch_gradients,
    weights,
)
from strategies_table import NAMES, REFUSED, ROWS, TRAINED, device_of

from wg.errors import UserError
from wg.flow import WaveGlow
from wg.measure.record import read_events, train_curve
from wg.plan import Plan, StrategyConflict
from wg.strategies import all_strategies, make_plan
from wg.sweep.paths import conf_dir
from wg.train import fit
from wg.train.build import build
from wg.train.checkpoint import newest
from wg.train.prepare import flow_config
from wg.train.run import _run
from wg.train.settings import Settings

PAIRS = list(itertools.combinations(ROWS, 2))


def test_the_table_names_every_strategy() -> None:
    assert sorted(ROWS) == sorted(all_strategies())


@pytest.mark.parametrize("name", ROWS)
def test_its_config_shows_its_defaults_and_its_card_its_parts(name: str) -> None:
    s = all_strategies()[name]
    text = (conf_dir() / "strategy" / f"{name}.yaml").read_text()
    # To the type: settings are compared as they are written, and 10 is not 10.0 there.
    assert json.dumps(yaml.safe_load(text)[name]) == json.dumps(s.defaults())
    assert f"wg train strategy=[{name}]" in text.splitlines()[0]
    for part in ("Why:", "Source:", "Cost:", "Fails:"):
        assert part in s.card
    assert s.sets()


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_pairs_compose_in_any_order_or_conflict_by_name(pair: tuple[str, str]) -> None:
    plans: list[dict[str, Any] | None] = []
    for names in (pair, pair[::-1]):
        conflict = ""
        try:
            plan = make_plan(base(), {n: ROWS[n] for n in names})
            plans.append(
                {slot: (who, value_of(plan, slot)) for slot, who in plan.writers().items()}
            )
        except StrategyConflict as e:
            conflict = str(e)
            plans.append(None)
        assert not conflict or all(f"'{n}'" in conflict for n in pair)
    assert plans[0] == plans[1]
    a, b = (set(all_strategies()[n].sets()) for n in pair)
    if a & b:
        assert plans[0] is None


def value_of(plan: Plan, slot: str) -> Any:
    """What a strategy wrote, so that two of them compare: a function is its code and all that it
    encloses."""
    value = getattr(plan, slot)
    if not inspect.isfunction(value):
        return value
    enclosed = [c.cell_contents for c in value.__closure__ or ()]
    return value.__code__, [c.__code__ if inspect.isfunction(c) else c for c in enclosed]


def model_of(name: str) -> dict[str, int]:
    """A compiler's time goes with the number of flows: half of them, and still an early output."""
    return {"n_flows": 2, "n_early_every": 1} if name == "compile" else {}


@pytest.mark.parametrize("name", TRAINED)
def test_trains_saves_and_resumes_exactly(
    name: str,
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped: Any,
) -> None:
    """Uninterrupted and interrupted-then-resumed end in the same bits."""
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    config = tiny_config(
        strategy=settled([name], tiny_config, tmp_path / "donor"),
        device=device_of([name]),
        model=model_of(name),
    )
    whole = start_run(config, tmp_path / "whole", name)
    assert _run(whole, 0) == 0
    parts = start_run(config, tmp_path / "parts", name)
    with stopped(4):
        assert _run(parts, 0) == 130
    assert newest(parts / "checkpoint") is not None
    assert _run(parts, 0) == 0
    a, b = weights(whole), weights(parts)
    assert sorted(a) == sorted(b)
    assert all(torch.equal(a[k], b[k]) for k in a)
    # It did train: some weights moved from where the seed put them.
    torch.manual_seed(0)
    fresh = build(Settings.from_config(config)).module.model.state_dict()
    assert sorted(fresh) == sorted(a), "parameter names are part of the contract"
    last = f"WN.{config['model']['n_flows'] - 1}.end.weight"
    assert not torch.equal(fresh[last], a[last])
    assert not (parts / "checkpoint").exists()


@pytest.mark.parametrize("name", TRAINED)
def test_its_defaults_build_and_train_three_steps(
    name: str, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `wg train strategy=[NAME]` does, on the published segments of 16,000 samples."""
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    monkeypatch.setattr("wg.train.compile.BACKEND", "aot_eager")
    # A donor has no default, and two ranks are torchrun's to start (tests/train/test_ranks.py).
    asked = name in ("warm_start", "ddp")
    config = tiny_config(
        strategy=settled([name], tiny_config, tmp_path / "donor") if asked else {name: {}},
        device=device_of([name]),
        segment_length=16000,
        batch_size=2,
        budget={"audio_seconds": 6.0},
        snapshots={"every": 6.0},
        log_every=1,
    )
    run_dir = start_run(config, tmp_path, name)
    assert _run(run_dir, 0) == 0
    curve = train_curve(read_events(run_dir))
    assert len(curve) >= 3
    assert all(e["loss"] is not None and math.isfinite(e["loss"]) for e in curve)
    assert curve[-1]["skipped_steps"] == 0 or name == "fp16"  # whose scale has to settle


def published(name: str | None, config: Config) -> set[str]:
    """Names of a model's parameters and buffers, flows and layers as stars."""
    settings = Settings.from_config(config(strategy={} if name is None else {name: ROWS[name]}))
    plan = make_plan(settings.base(), settings.strategy)
    size = flow_config(settings.model, plan, settings.data.mel.n_fft)
    return {re.sub(r"\.\d+(?=\.)", ".*", n) for n in WaveGlow(size).state_dict()}


@pytest.mark.parametrize("name", [n for n in ROWS if n != "warm_start"])
def test_names_of_parameters_are_for_ever(name: str, tiny_config: Config) -> None:
    """Those of the published layout, but for what the table says."""
    plain, found = published(None, tiny_config), published(name, tiny_config)
    changed = {f"+{n}" for n in found - plain} | {f"-{n}" for n in plain - found}
    assert changed == NAMES.get(name, set())


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_here_is_refused_in_one_sentence(
    name: str, tiny_config: Config, tmp_path: Path
) -> None:
    """Before anything is computed, and not because of a crash."""
    with pytest.raises(UserError) as refusal:
        _run(start_run(tiny_config(strategy={name: ROWS[name]}), tmp_path, name), 0)
    assert str(refusal.value).startswith(REFUSED[name])
    assert str(refusal.value).endswith(".")


@pytest.mark.parametrize("recipe", covering_recipes(), ids="+".join)
def test_every_pair_that_composes_trains_two_steps(
    recipe: tuple[str, ...],
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hundreds of pairs in some dozens of runs: each is in a recipe that trains."""
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    # Traced and differentiated as for the compiler, without a minute of it for each recipe.
    monkeypatch.setattr("wg.train.compile.BACKEND", "aot_eager")
    judged = watch_gradients(monkeypatch)
    config = tiny_config(
        strategy=settled(recipe, tiny_config, tmp_path / "donor"),
        device=device_of(recipe),
        budget={"audio_seconds": 1.0},
        snapshots={"every": 1.0},
    )
    run_dir = start_run(config, tmp_path, "pair")
    assert _run(run_dir, 0) == 0
    assert judged
    assert not any(judged), "gradients are changed in place: none may lie in another's memory"
    assert all(w.isfinite().all() for w in weights(run_dir).values())


@pytest.mark.parametrize("name", [n for n in TRAINED if all_strategies()[n].kind == "system"])
def test_a_system_strategy_keeps_loss_and_gradients(
    name: str, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same mathematics up to rounding, at the precision that the strategy computes in."""
    tolerance = {"bf16": 0.03, "fp16": 0.01}.get(name, 1e-5)
    found = []
    for strategy in ({}, {name: ROWS[name]}):
        config = tiny_config(strategy=strategy, device=device_of([name]), model=model_of(name))
        job = build(Settings.from_config(config))
        model = job.module.to(job.device).model
        torch.manual_seed(1)
        for wn in model.WN:
            torch.nn.init.normal_(wn.end.weight, std=0.05)
        dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(job.plan.precision)
        with monkeypatch.context() as m:
            m.setattr(fit, "_fitting", lambda *a: 1)  # in parts, whatever memory there is
            fit.settle(job, tmp_path, None, nullcontext)
        batch = [t.to(job.device) for t in next(iter(job.data.train_dataloader()))]
        with torch.autocast(job.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            loss = job.module.training_step(batch, 0)
        loss.backward()
        grads = [p.grad for p in model.parameters()]
        torch._foreach_mul_(grads, 0.5)  # in place, as they are clipped and unscaled
        found.append((loss.detach(), grads))
    torch.set_float32_matmul_precision("highest")
    (loss_a, grads_a), (loss_b, grads_b) = found
    assert torch.isclose(loss_a, loss_b, rtol=tolerance)
    a = torch.cat([g.flatten() for g in grads_a])
    b = torch.cat([g.flatten() for g in grads_b])
    assert (a - b).norm() <= tolerance * a.norm()
