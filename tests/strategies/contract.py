"""The recipes that contract tests train, and the runs that they make of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from strategies_table import ROWS, TRAINED

from wg.checkpoint.weights import read_weights, save_weights
from wg.flow import WaveGlow
from wg.plan import Base, StrategyConflict
from wg.strategies import make_plan
from wg.sweep import rundir
from wg.train.guard import Guard, parameters
from wg.train.prepare import flow_config
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]


def base() -> Base:
    return Base(segment_length=4096, batch_size=2, n_flows=4, n_stages=2, audio_seconds=4.0)


def composes(names: Iterable[str]) -> bool:
    try:
        make_plan(base(), {n: ROWS[n] for n in names})
    except StrategyConflict:
        return False
    return True


def covering_recipes() -> list[tuple[str, ...]]:
    """Recipes that together hold every pair that composes: one after another, each begun with a
    pair that is still missing and filled up with what brings most pairs that are."""
    good = {p for p in itertools.combinations(sorted(TRAINED), 2) if composes(p)}
    missing, recipes = set(good), []
    while missing:
        recipe = list(min(missing))
        # Small enough to see what a failure is about.
        while len(recipe) < 9:
            pairs = {
                n: {(min(n, other), max(n, other)) for other in recipe}
                for n in TRAINED
                if n not in recipe
            }
            # Conflicts are between two: whatever composes pairwise composes.
            gains = {n: len(found & missing) for n, found in pairs.items() if found <= good}
            best = max(sorted(gains), key=lambda n: gains[n], default=None)
            if best is None or not gains[best]:
                break
            recipe.append(best)
        missing -= set(itertools.combinations(sorted(recipe), 2))
        recipes.append(tuple(recipe))
    return recipes


def start_run(config: dict[str, Any], out: Path, name: str) -> Path:
    """A run directory as the launcher makes it."""
    return rundir.prepare({**config, "out": str(out), "arm": name}, [])


def settled(names: Iterable[str], config: Config, folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of a recipe; a donor is a model like the one that the rest of it makes."""
    rows = {n: ROWS[n] for n in names}
    if "warm_start" in rows:
        rest = {n: row for n, row in rows.items() if n != "warm_start"}
        settings = Settings.from_config(config(strategy=rest))
        size = flow_config(settings.model, settings.plan(), settings.data.mel.n_fft)
        save_weights(folder, WaveGlow(size).state_dict(), size, {"run": "donor"})
        rows["warm_start"] = {**rows["warm_start"], "donor": str(folder)}
    return rows


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return read_weights(run_dir / "final")[1]


def share_memory(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether a number of one of them is a number of another."""
    addresses = []
    for t in tensors:
        where = np.array([t.data_ptr()])
        for n, stride in zip(t.shape, t.stride(), strict=True):
            where = (where[:, None] + np.arange(n) * stride * t.element_size()).ravel()
        addresses.append(np.unique(where))
    together = np.concatenate(addresses)
    return len(np.unique(together)) < len(together)


def watch_gradients(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every step that is judged from now on: whether its gradients share memory."""
    found: list[bool] = []
    judge = Guard.judge

    def watched(self: Guard, optimizer: torch.optim.Optimizer, *args: Any) -> Any:
        found.append(share_memory(p.grad for p in parameters(optimizer) if p.grad is not None))
        return judge(self, optimizer, *args)

    monkeypatch.setattr(Guard, "judge", watched)
    return found
