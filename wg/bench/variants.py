"""What is compared: plain training, every system strategy, and what the user adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from wg.errors import UserError
from wg.strategies import all_strategies, known_strategy
from wg.sweep.compose import configurations

PLAIN = "plain"
PEER = "peer"


@dataclass(frozen=True)
class Variant:
    """kind: that of its strategies: system when all are, model when one is, else algorithm;
    ``plain`` and ``peer`` are kinds of their own. config: a whole resolved configuration, of plain
    training for a peer. peer: the folder with its glow.py."""

    name: str
    kind: str
    config: Mapping[str, Any]
    peer: str | None = None

    @property
    def same_mathematics(self) -> bool:
        return self.kind in (PLAIN, PEER, "system")


@dataclass(frozen=True)
class Sizes:
    """What every variant is measured with; None: as the model's or the recipe's configuration
    says."""

    model: str = "small"
    batch: int | None = None
    segment: int | None = None
    threads: int = 1
    device: str = "auto"


def plain(sizes: Sizes) -> Variant:
    """Training as published, which every ratio is relative to."""
    return Variant(PLAIN, PLAIN, compose_config(sizes, "nvidia"))


def system_variants(sizes: Sizes) -> list[Variant]:
    """Every registered strategy of kind system, with its default hyperparameters."""
    base = compose_config(sizes, "nvidia")
    return [
        Variant(s.name, s.kind, {**base, "strategy": {s.name: {}}})
        for s in all_strategies().values()
        if s.kind == "system"
    ]


def combination(sizes: Sizes, text: str) -> Variant:
    """``[a,b]``, ``a,b`` or ``{a: {lr: 0.002}, b: {}}`` as a recipe of its own.

    Errors: UserError for what cannot be read, or names no strategy.
    """
    strategies = parse_strategies(text)
    for name in strategies:
        known_strategy(name)
    config = {**compose_config(sizes, "nvidia"), "strategy": strategies}
    words = [
        name + (f"({', '.join(f'{k}={v}' for k, v in given.items())})" if given else "")
        for name, given in strategies.items()
    ]
    return Variant("+".join(words), kind_of(strategies), config)


def recipe(sizes: Sizes, name: str) -> Variant:
    """A recipe of ``conf/recipe``, with the segment length that it sets unless the user did.

    Errors: UserError when there is none of that name.
    """
    config = compose_config(sizes, name)
    return Variant(f"recipe {name}", kind_of(config["strategy"]), config)


def kind_of(strategies: Mapping[str, Any]) -> str:
    """The kind of a list of strategies: that of the member that changes most."""
    kinds = {all_strategies()[name].kind for name in strategies}
    return next((k for k in ("model", "algorithm") if k in kinds), "system")


def parse_strategies(text: str) -> dict[str, dict[str, Any]]:
    """Strategy -> hyperparameters. Errors: UserError when ``text`` is no list of names."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        value = {name: {} for name in value}
    if not isinstance(value, dict) or not all(isinstance(v or {}, dict) for v in value.values()):
        raise UserError(
            f"--strategy={text} is no list of strategies: write '[a,b]', or "
            "'{a: {hyperparameter: value}, b: {}}'"
        )
    return {str(name): dict(given or {}) for name, given in value.items()}


def compose_config(sizes: Sizes, recipe: str) -> dict[str, Any]:
    """The configuration of ``wg train model=... recipe=...``, as Hydra composes it. The corpus is
    the packaged one, which no step reads: batches are made (:mod:`wg.bench.batch`).

    Errors: UserError for a model or a recipe that does not exist.
    """
    overrides = [f"model={sizes.model}", "data=demo", f"recipe={recipe}", "logger=none"]
    overrides += ["data.short_clips=pad", f"threads={sizes.threads}", f"device={sizes.device}"]
    if sizes.batch is not None:
        overrides.append(f"batch_size={sizes.batch}")
    if sizes.segment is not None:
        overrides.append(f"segment_length={sizes.segment}")
    return configurations(overrides)[0]


def names(variants: Sequence[Variant]) -> list[str]:
    """Of each, in order."""
    return [v.name for v in variants]
