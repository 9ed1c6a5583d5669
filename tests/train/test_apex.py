"""NVIDIA's apex: told from its namesake on disk, every kind of release, and what is asked of it.

apex cannot be built here. Folders that look like its releases stand for it; what their
optimizers are given is looked at, and their mathematics is torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from wg.errors import UserError
from wg.plan import Base, StrategyConflict
from wg.strategies import make_plan
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("release", "sentence"),
    [
        ("none", "which no package index has: build it from its source"),
        ("namesake", "is an unrelated package of that name: pip uninstall apex"),
        ("no kernels", "was built without: build it again"),
    ],
)
def test_what_is_not_apex_is_refused_by_name(
    release: str, sentence: str, install: Callable[[str], None], tiny_config: Config
) -> None:
    install(release)
    with pytest.raises(UserError) as e:
        Settings.from_config(tiny_config(strategy={"apex": {}})).plan()
    assert str(e.value).startswith("strategy 'apex' needs")
    assert sentence in str(e.value)


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, torch.nn.Parameter]]:
    """Parameters that pass for a GPU's."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    shapes = {
        "WN.0.start.weight_v": (4, 2, 1),
        "WN.0.start.bias": (4,),
        "convinv.0.conv.weight": (2, 2, 1),
    }
    return [(n, torch.nn.Parameter(torch.ones(s))) for n, s in shapes.items()]


def optimizer(weights: list[tuple[str, torch.nn.Parameter]], **settings: Any) -> Any:
    build = make_plan(Base(), {"apex": settings}).optimizer
    assert build is not None
    return build(weights)


@pytest.mark.parametrize("release", ["25.05", "25.07"])
def test_each_optimizer_is_asked_for_what_its_name_says(
    release: str, install: Callable[[str], None], weights: Any, tiny_config: Config
) -> None:
    install(release)
    Settings.from_config(tiny_config(strategy={"apex": {}})).plan()
    adam = optimizer(weights)
    assert type(adam).__name__ == "FusedAdam"
    assert adam.asked == {"adam_w_mode": False}
    # The published recipe's.
    reference = torch.optim.Adam([p for _, p in weights], lr=1e-4)
    for group in adam.param_groups:
        for key in ("lr", "betas", "eps", "weight_decay"):
            assert group[key] == reference.param_groups[0][key]
    adamw = optimizer(weights, optimizer="adamw", weight_decay=0.1, lr=1e-3)
    assert adamw.asked == {"adam_w_mode": True}
    assert [g["weight_decay"] for g in adamw.param_groups] == [0.1, 0.0]
    assert [len(g["params"]) for g in adamw.param_groups] == [1, 2]
    lamb = optimizer(weights, optimizer="lamb", weight_decay=0.01, beta2=0.99)
    assert type(lamb).__name__ == "FusedLAMB"
    # It would clip at a norm of 1 by itself, whatever the recipe says.
    assert lamb.asked == {"max_grad_norm": float("inf"), "betas": (0.9, 0.99), "eps": 1e-8}


def test_what_it_cannot_do_is_refused(install: Callable[[str], None]) -> None:
    install("25.07")
    build = make_plan(Base(), {"apex": {}}).optimizer
    assert build is not None
    with pytest.raises(UserError, match="strategy 'apex' needs a GPU"):
        build([("a.bias", torch.nn.Parameter(torch.ones(2)))])
    with pytest.raises(UserError, match="positive weight_decay"):
        make_plan(Base(), {"apex": {"optimizer": "lamb"}})
    for other in ("fused_optimizer", "adamw"):
        with pytest.raises(StrategyConflict, match=other):
            make_plan(Base(), {"apex": {}, other: {}})
    with pytest.raises(StrategyConflict, match="bf16"):
        make_plan(Base(), {"apex": {"amp": "O1"}, "bf16": {}})
