"""Every layout of keys that WaveGlow checkpoints have had is the same model."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest
import torch
from checkpoint_files import (
    TINY,
    Age,
    Weights,
    as_parametrizations,
    of_age,
    same,
    skeleton,
    throwaway_module,
)
from checkpoint_files import some_weights as weights
from tests_helpers import trained_looking
from torch import Tensor

from wg.checkpoint.layouts import find_state, is_folded, per_layer_cond, shown, translate, unfold
from wg.checkpoint.picklenames import Module
from wg.checkpoint.shapes import check_fit, infer_config
from wg.checkpoint.weights import build_model
from wg.errors import UserError
from wg.flow import FlowConfig

NAME = "some.pt"


def read(raw: Weights, hints: dict[str, Any] | None = None) -> tuple[FlowConfig, Weights]:
    got = translate(raw, NAME).weights
    config = infer_config(got, hints or {}, NAME)
    check_fit(config, got, NAME)
    return config, got


@pytest.mark.parametrize(
    "prefix", ["", "module.", "module.module.", "model.waveglow.", "module.1."]
)
@pytest.mark.parametrize("norm", ["g and v", "parametrizations", "folded"])
@pytest.mark.parametrize("age", get_args(Age))
def test_every_layout_is_the_same_model(age: Age, norm: str, prefix: str) -> None:
    """The complaints about cond_layers, module. prefixes and removed weight norm; bit for bit."""
    ours = weights(folded=norm == "folded")
    raw = of_age(ours, age)
    if norm == "parametrizations":
        raw = as_parametrizations(raw)
    config, got = read({prefix + k: v for k, v in raw.items()})
    assert config == TINY
    assert same(got, ours)


def test_a_layer_that_is_joined_computes_the_same() -> None:
    """Not only the same numbers as what was cut: the layers that NVIDIA had, each with its own
    weight norm, run one by one."""
    raw = of_age(weights(), "separate")
    config, got = read(raw)
    model = build_model(config, got)
    x = torch.randn(2, TINY.n_channels, 7)
    mel = torch.randn(2, TINY.n_mels * TINY.n_group, 7)

    def conv(name: str, x: Tensor) -> Tensor:
        w = torch._weight_norm(raw[f"{name}.weight_v"], raw[f"{name}.weight_g"], 0)
        return torch.nn.functional.conv1d(x, w, raw[f"{name}.bias"])

    with torch.no_grad():
        cond = torch.cat([conv(f"WN.1.cond_layers.{i}", mel) for i in range(3)], dim=1)
        assert torch.allclose(model.WN[1].cond_layer(mel), cond, atol=1e-6)
        both = torch.cat([conv("WN.1.res_layers.0", x), conv("WN.1.skip_layers.0", x)], dim=1)
        assert torch.allclose(model.WN[1].res_skip_layers[0](x), both, atol=1e-6)


def test_skip_layers_beside_res_skip_layers_are_unused() -> None:
    """NVIDIA's commit 8a5d43f (and what its convert_model.py made of it)."""
    ours = weights()
    dead = {
        k.replace("res_skip", "skip"): torch.randn_like(v)
        for k, v in ours.items() if "res_skip" in k
    }  # fmt: skip
    got = translate({**of_age(ours, "cond_layers"), **dead}, NAME)
    assert same(got.weights, ours)
    assert "unused skip_layers" in ", ".join(got.words)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_halves_become_fp32(dtype: torch.dtype) -> None:
    """The complaint about fp16 checkpoints: every half is a float exactly."""
    ours = weights()
    _, got = read({k: v.to(dtype) for k, v in ours.items()})
    assert all(v.dtype == torch.float32 for v in got.values())
    assert same(got, {k: v.to(dtype).float() for k, v in ours.items()})
    words = translate({k: v.to(dtype) for k, v in ours.items()}, NAME).words
    assert str(dtype).removeprefix("torch.") in words


def test_wrappers_inside_of_a_model_are_left_out() -> None:
    raw = {k.replace("WN.1.", "WN.1.module."): v for k, v in weights().items()}
    assert same(read(raw)[1], weights())


def test_what_is_computed_from_weights_is_left_out() -> None:
    extra = {
        "convinv.0.W_inverse": torch.eye(8), "stft.forward_basis": torch.ones(2),
        "convinv_rev.0.conv.weight": torch.eye(8), "denoiser.bias_spec": torch.ones(3),
    }  # fmt: skip
    assert same(read({**weights(), **extra})[1], weights())


def test_tensors_outside_of_the_prefix_belong_to_something_else() -> None:
    raw = {f"waveglow.{k}": v for k, v in weights().items()} | {"tacotron2.x": torch.ones(1)}
    got = translate(raw, NAME)
    assert same(got.weights, weights())
    assert "without 1 tensors outside of the prefix" in got.words


def test_weights_of_odd_strides_become_ordinary() -> None:
    """qr leaves its matrix transposed in memory; so does every old convinv."""
    raw = {k: v.transpose(0, 1).contiguous().transpose(0, 1) if v.dim() == 3 else v
           for k, v in weights().items()}  # fmt: skip
    assert not raw["convinv.0.conv.weight"].is_contiguous()
    got = read(raw)[1]
    assert same(got, weights())
    assert all(v.is_contiguous() for v in got.values())


def test_names_are_safe_to_print() -> None:
    assert shown(["a\x1b[2J", "b"]) == "a\\x1b[2J, b"
    assert shown("abcdefg") == "a, b, c, d, e and 2 more"


# -- where a model is in a file -----------------------------------------------------------


@pytest.mark.parametrize("place", ["state_dict", "model_state_dict", "model", "generator"])
def test_a_state_dict_is_found(place: str) -> None:
    tree = {"epoch": 3, "optimizer": {"state": {}}, place: weights(), "scaler": {"scale": 1.0}}
    assert same(find_state(tree, NAME).weights, weights())
    assert same(find_state({"model": {"state_dict": weights()}}, NAME).weights, weights())
    assert same(find_state(weights(), NAME).weights, weights())


def _stand_in(module: torch.nn.Module) -> Module:
    """What the reader of torch files makes of a module, without a file between."""
    cls = type(module)
    this = Module(f"{cls.__module__}.{cls.__qualname__}", dict(module.__dict__))
    this.state["_parameters"] = {
        k: None if v is None else v.detach() for k, v in module._parameters.items()
    }
    this.state["_modules"] = {k: _stand_in(m) for k, m in module._modules.items() if m is not None}
    return this


def test_a_pickled_module_tells_its_weights_and_its_settings() -> None:
    with throwaway_module("glow_old") as classes:
        module = _stand_in(skeleton(weights(), classes, TINY))
    wrapped = Module(
        "torch.nn.parallel.data_parallel.DataParallel", {"_modules": {"module": module}}
    )
    for tree, prefix in (({"model": module}, ""), (module, ""), (wrapped, "module.")):
        found = find_state(tree, NAME)
        assert found.class_name == "glow_old.WaveGlow"
        assert same(found.weights, {prefix + k: v for k, v in weights().items()})
        assert found.attributes[f"{prefix}upsample.stride"] == (16,)
        assert found.attributes[f"{prefix}n_early_every"] == 2
        assert found.attributes[f"{prefix}WN.0.in_layers.2.dilation"] == (4,)


def test_settings_of_absurd_size_are_no_settings() -> None:
    """Python refuses to print a number of 5,000 digits."""
    module = Module("glow.WaveGlow", {"n_flows": 10**5000, "stride": (1, 10**5000), "n_group": 8})
    module.state["_parameters"] = {"upsample.weight": torch.ones(1)}
    assert find_state(module, NAME).attributes == {"n_group": 8}
    with pytest.raises(UserError, match="it is a dictionary of a, and"):
        find_state({10**5000: 1, "a": 2}, NAME)


def test_modules_in_a_circle_end() -> None:
    module = Module("glow.WaveGlow")
    module.state["_modules"] = {"a": module, "b": module}
    with pytest.raises(UserError, match="without end"):
        find_state(module, NAME)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"state_dict": {"encoder.weight": torch.ones(1)}}, "a dictionary of state_dict"),
        ([1, 2], "a list"),
        (Module("torch.nn.modules.linear.Linear"), r"a torch\.nn\.modules\.linear\.Linear"),
        (torch.ones(3), "a Tensor"),
    ],
)
def test_a_file_without_a_waveglow_says_what_it_holds(tree: Any, words: str) -> None:
    with pytest.raises(UserError, match=rf"holds no WaveGlow: it is {words}"):
        find_state(tree, NAME)


# -- the way back -------------------------------------------------------------------------


def test_cutting_the_conditioning_is_the_inverse_of_joining_it() -> None:
    cut = per_layer_cond(weights(), TINY.n_layers)
    assert same(cut, of_age(weights(), "cond_layers"))
    assert same(translate(cut, NAME).weights, weights())


def test_folded_weights_stay_folded_and_can_be_unfolded() -> None:
    model = trained_looking(TINY)
    plain = copy.deepcopy(model).remove_weight_norm()
    assert is_folded(plain.state_dict())
    assert not is_folded(model.state_dict())
    mel, z = torch.randn(1, TINY.n_mels, 3), model.noise(1, 3)
    again = build_model(TINY, plain.state_dict())
    trainable = build_model(TINY, unfold(plain.state_dict()))
    assert unfold(plain.state_dict()).keys() == model.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(again.infer(mel, z=z), plain.infer(mel, z=z))
        assert torch.allclose(trainable.infer(mel, z=z), plain.infer(mel, z=z), atol=1e-5)


def test_a_model_may_be_folded_in_part() -> None:
    model = trained_looking(TINY)
    mixed = dict(model.state_dict())
    conv = model.WN[0].start.folded()
    for key in ("weight_g", "weight_v"):
        del mixed[f"WN.0.start.{key}"]
    mixed["WN.0.start.weight"] = conv.weight.detach()
    config, got = read(mixed)
    mel, z = torch.randn(1, TINY.n_mels, 3), model.noise(1, 3)
    with torch.no_grad():
        audio = build_model(config, got).infer(mel, z=z)
        assert torch.allclose(audio, model.infer(mel, z=z), atol=1e-6)


def test_a_channel_of_zeros_unfolds_to_zeros_that_can_learn() -> None:
    plain = {"WN.0.start.weight": torch.randn(3, 4, 1), "WN.0.start.bias": torch.zeros(3)}
    plain["WN.0.start.weight"][1] = 0
    got = unfold(plain)
    g, v = (got[f"WN.0.start.weight_{x}"].requires_grad_() for x in "gv")
    weight = torch._weight_norm(v, g, 0)
    assert torch.allclose(weight, plain["WN.0.start.weight"], atol=1e-7)
    assert torch.equal(weight[1], torch.zeros(4, 1))
    weight.sum().backward()
    assert g.grad is not None
    assert torch.isfinite(g.grad).all()
    assert g.grad[1].abs() > 0.1
    nan = {"WN.0.start.weight": torch.full((1, 2, 1), torch.nan)}
    assert unfold(nan)["WN.0.start.weight_v"].isnan().all()
