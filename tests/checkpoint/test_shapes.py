"""Sizes are read off the shapes of the weights, and what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checkpoint_files import (
    TINY,
    Weights,
    as_parametrizations,
    cut_cond,
    of_age,
)
from checkpoint_files import some_weights as weights

from wg.checkpoint.layouts import translate
from wg.checkpoint.shapes import check_attributes, check_fit, expected_shapes, infer_config
from wg.errors import UserError
from wg.flow import FlowConfig, WaveGlow

NAME = "some.pt"


def read(raw: Weights, hints: dict[str, Any] | None = None) -> tuple[FlowConfig, Weights]:
    got = translate(raw, NAME).weights
    config = infer_config(got, hints or {}, NAME)
    check_fit(config, got, NAME)
    return config, got


@pytest.mark.parametrize(
    "changes",
    [
        {"n_flows": 1},
        {"n_layers": 1},
        {"n_channels": 6, "kernel_size": 5},
        {"n_group": 16, "n_early_size": 4, "upsample_stride": 32, "upsample_kernel": 128},
        {"n_flows": 6, "n_early_every": 3},
        {"n_mels": 1},
    ],
)
def test_sizes_are_read_off_the_shapes(changes: dict[str, int]) -> None:
    config = FlowConfig(**{**TINY.to_dict(), **changes})
    got, _ = read(weights(config))
    if config.n_flows <= config.n_early_every:  # no early output: its place is anyone's guess
        got = FlowConfig(**{**got.to_dict(), "n_early_every": config.n_early_every})
    assert got == config


def test_without_an_early_output_none_is_invented() -> None:
    config = FlowConfig(**{**TINY.to_dict(), "n_flows": 3, "n_early_every": 4})
    got, _ = read(weights(config))
    assert [got.channels(k) for k in range(3)] == [8, 8, 8]
    assert not any(got.has_early_output(k) for k in range(3))
    assert read(weights(config), {"n_early_every": 4, "n_early_size": 2})[0] == config


def test_hints_fill_in_and_never_overrule() -> None:
    hints = {"n_early_every": 3, "n_early_size": 2, "upsample_stride": 32, "n_flows": 99}
    config, _ = read(weights(), hints)
    assert config == FlowConfig(**{**TINY.to_dict(), "upsample_stride": 32})


@pytest.mark.parametrize("folded", [False, True])
def test_expected_shapes_are_those_of_the_model(folded: bool) -> None:
    for config in (TINY, FlowConfig(n_flows=9, n_layers=2, n_channels=2, kernel_size=5)):
        model = WaveGlow(config)
        real = (model.remove_weight_norm() if folded else model).state_dict()
        expected = expected_shapes(config, lambda name: folded)
        assert expected == {k: tuple(v.shape) for k, v in real.items()}


# -- mismatches ---------------------------------------------------------------------------

Change = Callable[[Weights], object]


def _shape(w: Weights) -> None:
    w["WN.1.start.weight_v"] = torch.ones(4, 2, 1)


def _two(w: Weights) -> None:
    w.update({f"ema.{k}": v for k, v in list(w.items())})


def _lost_cond(w: Weights) -> None:
    cut = cut_cond(w, 3)
    w.clear()
    w.update({k: v for k, v in cut.items() if k != "WN.2.cond_layers.1.weight_g"})


def _fewer_cond(w: Weights) -> None:
    cut = cut_cond(w, 3)
    w.clear()
    w.update({k: v for k, v in cut.items() if ".cond_layers.2." not in k})


def _lost_skip(w: Weights) -> None:
    cut = of_age(w, "separate")
    w.clear()
    w.update({k: v for k, v in cut.items() if k != "WN.0.skip_layers.0.bias"})


def _odd_parts(w: Weights) -> None:
    cut = cut_cond(w, 3)
    w.clear()
    w.update(cut)
    w["WN.0.cond_layers.1.weight_v"] = torch.ones(8, 31, 1)


def _many(w: Weights) -> None:
    for i in range(8):
        del w[f"WN.{i % 5}.end.{'weight' if i < 5 else 'bias'}"]


def _odd_mels(w: Weights) -> None:
    w["upsample.weight"], w["upsample.bias"] = torch.ones(5, 5, 64), torch.ones(5)


MISMATCHES: dict[str, tuple[Change, str]] = {
    "missing": (lambda w: w.pop("WN.3.end.bias"), r"missing WN\.3\.end\.bias"),
    "first of many": (_many, r"missing WN\.0\.end\.weight, WN\.0\.end\.bias,.* and 3 more"),
    "unexpected": (
        lambda w: w.update({"WN.0.gate.weight": torch.ones(1)}), r"unexpected WN\.0\.gate\.weight"
    ),
    "shape": (
        _shape, r"WN\.1\.start\.weight_v is \(4, 2, 1\) and should be \(4, 4, 1\)"
    ),
    "no convinv": (lambda w: w.pop("convinv.0.conv.weight"), r"lacks convinv\.0\.conv\.weight"),
    "no cond": (lambda w: w.pop("WN.0.cond_layer.weight_v"), r"lacks WN\.0\.cond_layer\.weight"),
    "one of the cond_layers": (_lost_cond, r"lacks WN\.2\.cond_layers\.1\.weight_g"),
    "fewer cond_layers": (_fewer_cond, r"cond_layer\.bias is \(16,\) and should be \(24,\)"),
    "no skip": (_lost_skip, r"lacks WN\.0\.skip_layers\.0\.bias"),
    "parts of two sizes": (_odd_parts, r"cond_layers\.1\.weight_v is \(8, 31, 1\)"),
    "two models": (_two, r"2 WaveGlows, under the prefixes '', 'ema\.'"),
    "other mels": (_odd_mels, "no multiple of the 5 mel bands"),
    "two spellings": (
        lambda w: w.update(as_parametrizations({"WN.0.start.weight_g": torch.ones(4, 1, 1)})),
        r"WN\.0\.start\.weight_g twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_mismatch_names_the_first_keys_that_differ(name: str) -> None:
    change, words = MISMATCHES[name]
    raw = weights()
    change(raw)
    with pytest.raises(UserError, match=words) as error:
        read(raw)
    assert str(error.value).startswith(NAME)


def test_a_mismatch_tells_the_layouts_that_were_tried() -> None:
    raw = weights()
    del raw["WN.0.end.bias"]
    with pytest.raises(
        UserError, match=r"cond_layer or cond_layers.*DeepLearningExamples'.*folded"
    ):
        read(raw)


def test_few_numbers_cannot_claim_to_be_many() -> None:
    raw = weights()
    one = torch.ones(1)
    raw.update({f"WN.0.in_layers.{i}.weight_v": one.expand(10**6) for i in range(3, 9)})
    with pytest.raises(UserError, match="same numbers"):
        read(raw)
    raw = weights()
    many = {f"convinv.{i}.x": torch.ones(1) for i in range(2000)}
    many |= {f"WN.0.in_layers.{i}.x": torch.ones(1) for i in range(2000)}
    with pytest.raises(UserError, match="2000 flows and 2000 layers"):
        read({**raw, **many})


def test_a_variant_that_wg_cannot_compute_is_refused() -> None:
    """Shapes do not tell a dilation: a fork that changed it would load and give noise."""
    told = {"WN.0.in_layers.2.dilation": (4,), "upsample.padding": (0,)}
    check_attributes(TINY, told, NAME)
    with pytest.raises(UserError, match=r"WN\.0\.in_layers\.2\.dilation is \(9,\), and \(4,\)"):
        check_attributes(TINY, {**told, "WN.0.in_layers.2.dilation": (9,)}, NAME)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    raw = weights()
    raw["WN.1.end.bias"][1] = value
    with pytest.raises(UserError, match=r"some\.pt: WN\.1\.end\.bias holds values that are not"):
        read(raw)


def test_a_flow_without_an_inverse_is_named() -> None:
    raw = weights()
    for singular in (0.0, 1.0):
        raw["convinv.2.conv.weight"][:] = singular
        with pytest.raises(UserError, match=r"matrix of flow 2 \(convinv\.2.*has no inverse"):
            read(raw)


def test_a_size_that_the_weights_cannot_have_is_refused_at_once() -> None:
    huge = FlowConfig(**{**TINY.to_dict(), "n_early_every": 10**9, "n_flows": 10**9})
    with pytest.raises(UserError, match=r"claims 1000000000 flows.*most of them are missing"):
        check_fit(huge, weights(), NAME)
