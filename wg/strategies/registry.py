"""Finding strategies, checking their hyperparameters, applying them to a Plan."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import wg.strategies
from wg.errors import UserError, nearest
from wg.fields import fit
from wg.plan import Base, Plan, StrategyConflict

Kind = Literal["system", "algorithm", "model"]
_REGISTRY: dict[str, Strategy] = {}


@dataclass(frozen=True)
class Strategy:
    """A speed-up.

    kind     system: same mathematics up to rounding; algorithm: judged by quality; model:
             changes the network
    refuses  other strategies it cannot share a recipe with, and why
    missing  what it needs and is not installed here, in words after "strategy 'x' ";
             empty when nothing is
    """

    name: str
    kind: Kind
    apply: Callable[..., None]
    refuses: Mapping[str, str] = field(default_factory=dict)
    missing: Callable[[], str] = str

    @property
    def card(self) -> str:
        return inspect.cleandoc(self.apply.__doc__ or "")

    @property
    def summary(self) -> str:
        return " ".join(self.card.split("\n\n")[0].split())

    def defaults(self) -> dict[str, Any]:
        parameters = list(inspect.signature(self.apply).parameters.values())[1:]
        return {p.name: p.default for p in parameters}

    def sets(self) -> list[str]:
        """The slots it writes with its default hyperparameters."""
        plan = Plan(Base())
        with plan.written_by(self.name):
            self.apply(plan)
        return list(plan.writers())


def strategy(
    kind: Kind, refuses: Mapping[str, str] | None = None, missing: Callable[[], str] = str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function ``name(plan, **hyperparameters)`` as the strategy ``name``."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        name = function.__name__
        assert name not in _REGISTRY, f"two strategies are named {name}"
        _REGISTRY[name] = Strategy(name, kind, function, dict(refuses or {}), missing)
        return function

    return register


@functools.cache
def _load_all() -> None:
    for module in pkgutil.iter_modules(wg.strategies.__path__):
        importlib.import_module(f"wg.strategies.{module.name}")


def all_strategies() -> dict[str, Strategy]:
    """Every strategy by name."""
    _load_all()
    return dict(sorted(_REGISTRY.items()))


def make_plan(base: Base, recipe: Mapping[str, Mapping[str, Any] | None]) -> Plan:
    """A Plan from ``{strategy: hyperparameters}``.

    Raises :class:`UserError` for an unknown strategy or hyperparameter, and
    :class:`StrategyConflict` for two writers of a slot or a refused pair.
    """
    known = {name: known_strategy(name) for name in recipe}
    plan = Plan(base)
    for name in recipe:
        for other, why in known[name].refuses.items():
            if other in recipe:
                raise StrategyConflict(
                    f"strategy '{name}' refuses '{other}': {why}; take one of them out of "
                    "the recipe."
                )
    for name, given in recipe.items():
        values = check_hyperparameters(known[name], given or {})
        with plan.written_by(name):
            try:
                known[name].apply(plan, **values)
            except StrategyConflict:
                raise
            except UserError as e:
                # Of a schedule, say, which does not know whose it is.
                said = str(e)
                raise UserError(said if name in said else f"strategy '{name}': {said}") from None
    return plan


def with_defaults(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """``given`` hyperparameters as the strategy takes them (10 as 10.0), and the rest at their
    defaults: what two recipes are compared by. Of a strategy, or of hyperparameters, that are not
    known (of other code) only what is given, as it is."""
    known = all_strategies().get(name)
    if known is None:
        return dict(given or {})
    try:
        return {**known.defaults(), **check_hyperparameters(known, given or {})}
    except UserError:
        return {**known.defaults(), **(given or {})}


def recipe_with_defaults(recipe: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Every strategy of a recipe ``with_defaults``."""
    return {name: with_defaults(name, given) for name, given in (recipe or {}).items()}


def beside_defaults(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """What of ``given`` is not as by default. Raises :class:`UserError` for an unknown strategy or
    hyperparameter."""
    known = known_strategy(name)
    checked, defaults = check_hyperparameters(known, given or {}), known.defaults()
    return {k: v for k, v in (given or {}).items() if checked[k] != defaults[k]}


def known_strategy(name: str) -> Strategy:
    """Raises :class:`UserError` with the nearest names when there is none of this."""
    known = all_strategies()
    if name not in known:
        raise UserError(f"there is no strategy '{name}'; {nearest(name, known)}")
    return known[name]


def check_installed(recipe: Iterable[str]) -> None:
    """Raises :class:`UserError` for a strategy whose package is not installed, or is another one.
    Apart from :func:`make_plan`, because a recipe can be looked at where it cannot be trained."""
    for name in recipe:
        if why := all_strategies()[name].missing():
            raise UserError(f"strategy '{name}' {why}")


def check_hyperparameters(s: Strategy, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with every type checked against the signature of the strategy."""
    hints = typing.get_type_hints(s.apply, localns={"Plan": Plan})
    known = s.defaults()
    checked = {}
    for name, value in given.items():
        if name not in known:
            raise UserError(f"strategy '{s.name}' has no setting '{name}'; {nearest(name, known)}")
        checked[name] = fit(f"strategy.{s.name}.{name}", value, hints[name])
    return checked


def gpu_missing(otherwise: str = "") -> str:
    """``missing`` of a strategy that only a GPU can have; ``otherwise``: what is without it."""
    import torch  # a registry is read by programs that need none

    if torch.cuda.is_available():
        return ""
    return (
        "needs a GPU, and this PyTorch sees none: take it out of the recipe"
        f"{otherwise} or see `wg doctor`."
    )


def require(condition: bool, sentence: str) -> None:
    """For strategies: a hyperparameter's range, told in one sentence when it is left."""
    if not condition:
        raise UserError(sentence)
