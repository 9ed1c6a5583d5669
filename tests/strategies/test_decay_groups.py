"""Weight decay is for directions, not for what the likelihood sets the scale of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wg.strategies.adamw import decay_groups
from wg.train.build import build
from wg.train.settings import Settings


@pytest.mark.parametrize("strategy", [{}, {"actnorm": {}}])
def test_what_decays(strategy: dict[str, Any], tiny_config: Callable[..., dict[str, Any]]) -> None:
    model = build(Settings.from_config(tiny_config(strategy=strategy))).module.model
    decayed, spared = decay_groups(model.named_parameters(), 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    names = {p: name for name, p in model.named_parameters()}
    assert len(decayed["params"]) + len(spared["params"]) == len(names)
    ends = {names[p].rsplit(".", 1)[1] for p in decayed["params"]}
    assert ends == {"weight_v", "weight"}
    assert {names[p].split(".")[0] for p in decayed["params"]} == {"upsample", "WN"}
    assert any(names[p].startswith("actnorm.") for p in spared["params"]) == ("actnorm" in strategy)
