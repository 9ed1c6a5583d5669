"""What is compared follows from the registry and from what the user adds."""

from __future__ import annotations

from pathlib import Path

import pytest

from wg.bench.run import choose
from wg.bench.variants import (
    Sizes,
    combination,
    compose_config,
    kind_of,
    parse_strategies,
)
from wg.errors import UserError
from wg.plan import Plan
from wg.strategies import all_strategies, registry, strategy
from wg.train.settings import Settings

TINY = Sizes("tiny", 2, 2048, 1, "cpu")


def test_every_system_strategy_is_there_and_no_other() -> None:
    names = [v.name for v in choose(TINY)]
    assert names == ["plain", *(n for n, s in all_strategies().items() if s.kind == "system")]


def test_a_new_strategy_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    all_strategies()  # loaded, so that the copy holds them
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @strategy(kind="system")
    def quicker_still(plan: Plan) -> None:
        """A new one."""
        plan.cudnn_benchmark = True

    assert "quicker_still" in [v.name for v in choose(TINY)]


def test_sizes_reach_the_settings() -> None:
    settings = Settings.from_config(compose_config(TINY, "nvidia"))
    assert (settings.batch_size, settings.segment_length, settings.threads) == (2, 2048, 1)
    assert settings.model.n_channels == 8
    paper = Settings.from_config(compose_config(Sizes("paper"), "nvidia"))
    assert (paper.batch_size, paper.segment_length) == (24, 16000)
    # A recipe's own segment length, unless the user says another.
    assert compose_config(Sizes("tiny"), "fast")["segment_length"] == 4000
    assert compose_config(TINY, "fast")["segment_length"] == 2048


def test_combinations_are_of_the_kind_that_changes_most() -> None:
    both = combination(TINY, "[bf16, fused_optimizer]")
    assert (both.name, both.kind, both.same_mathematics) == ("bf16+fused_optimizer", "system", True)
    other = combination(TINY, "{adamw: {lr: 0.002}, bf16: {}}")
    assert (other.name, other.kind) == ("adamw(lr=0.002)+bf16", "algorithm")
    assert not other.same_mathematics
    assert other.config["strategy"] == {"adamw": {"lr": 0.002}, "bf16": {}}
    models = [n for n, s in all_strategies().items() if s.kind == "model"]
    for name in models:
        assert kind_of([name, "adamw", "bf16"]) == "model"  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["[a,b]", "[a, b]", "a,b", " a , b"])
def test_lists_of_strategies(text: str) -> None:
    assert parse_strategies(text) == {"a": {}, "b": {}}


@pytest.mark.parametrize("text", ["[a", "[]", "3", "[[a]]", "{a: 3}", ""])
def test_what_is_no_list_of_strategies(text: str) -> None:
    with pytest.raises(UserError, match=r"is no list of strategies: write '\[a,b\]'"):
        parse_strategies(text)


def test_names_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no strategy 'bf61'; did you mean 'bf16'"):
        choose(TINY, ["[bf61]"])
    with pytest.raises(UserError, match="no recipe 'fats'; did you mean 'fast'"):
        choose(TINY, recipes=["fats"])
    with pytest.raises(UserError, match="no model 'smal'; did you mean 'small'"):
        choose(Sizes("smal"))
    with pytest.raises(UserError, match=r"has no glow\.py: name a checkout"):
        choose(TINY, peer=tmp_path)


def test_only_and_twice() -> None:
    assert [v.name for v in choose(TINY, ["[bf16]"], only=True)] == ["plain", "bf16"]
    names = [v.name for v in choose(TINY, ["bf16"])]
    assert names.count("bf16") == 1


def test_against_a_peer(tmp_path: Path) -> None:
    (tmp_path / "glow.py").touch()
    chosen = choose(TINY, ["[bf16]"], peer=tmp_path, only=True, against_peer=True)
    assert [v.name for v in chosen] == ["NVIDIA/waveglow", "plain", "bf16"]
