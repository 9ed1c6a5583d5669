"""Arms by the least that tells them apart."""

from __future__ import annotations

from wg.report.names import short_names


def test_what_all_arms_share_and_what_is_no_recipes_is_left_out() -> None:
    assert short_names(
        {
            "nvidia model=small data.path=x budget.audio_seconds=3000",
            "fast +[bf16] model=small data.path=x",
        }
    ) == {
        "nvidia model=small data.path=x budget.audio_seconds=3000": "nvidia",
        "fast +[bf16] model=small data.path=x": "fast +[bf16]",
    }


def test_settings_in_a_row_of_a_design_go_where_names_stay_different() -> None:
    rows = {"fast-parts", "fast-parts +[clip]", "fast-parts +[clip,adamw(lr=0.0006,beta1=0.8)]"}
    assert set(short_names(rows).values()) == {
        "fast-parts",
        "fast-parts +[clip]",
        "fast-parts +[clip,adamw]",
    }
    twice = {"fast +[adamw(lr=0.1)]", "fast +[adamw(lr=0.2)]"}
    assert short_names(twice) == {arm: arm for arm in twice}


def test_names_stay_different() -> None:
    arms = {"nvidia budget.audio_seconds=60", "nvidia budget.audio_seconds=90", "fast"}
    assert short_names(arms) == {arm: arm for arm in arms}


def test_a_single_arm_keeps_its_recipe_and_strategies() -> None:
    assert short_names({"fast +[bf16] clip.max_norm=1 data=demo"}) == {
        "fast +[bf16] clip.max_norm=1 data=demo": "fast +[bf16] clip.max_norm=1"
    }


def test_a_model_that_not_all_arms_have_is_told() -> None:
    assert set(short_names({"nvidia", "nvidia model=paper"}).values()) == {
        "nvidia",
        "nvidia model=paper",
    }
