"""Checkpoints of every age and house are read, and speak as they did."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from checkpoint_files import (
    MEL,
    META,
    SWAPPED,
    TINY,
    Age,
    Weights,
    as_parametrizations,
    audio,
    of_age,
    same,
    save,
    save_pickled,
    skeleton,
    throwaway_module,
)
from safetensors.torch import save_file
from tests_helpers import trained_looking

from wg.checkpoint.convert import convert, read_checkpoint
from wg.checkpoint.weights import load_model, read_weights, save_weights
from wg.errors import UserError
from wg.files import read_json, sha256_file
from wg.flow import FlowConfig, WaveGlow


@pytest.fixture
def model() -> WaveGlow:
    return trained_looking(TINY)


@pytest.fixture
def weights(model: WaveGlow) -> Weights:
    return dict(model.state_dict())


# -- NVIDIA's pickled modules -------------------------------------------------------------


@pytest.mark.parametrize("format", ["legacy", "zip"])
@pytest.mark.parametrize("norm", ["weight norm", "weight norm folded"])
@pytest.mark.parametrize("module", ["glow", "glow_old"])
@pytest.mark.parametrize("age", get_args(Age))
def test_pickled_modules_of_every_age_give_the_same_audio(
    tmp_path: Path, age: Age, module: str, norm: str, format: str
) -> None:
    """The complaints "No module named 'glow'" and "KeyError: 'iteration'"."""
    source = trained_looking(SWAPPED if module == "glow_old" else TINY)
    if norm == "weight norm folded":
        source.remove_weight_norm()
    path = tmp_path / "published.pt"  # holds a model and no iteration
    save_pickled(of_age(dict(source.state_dict()), age), path, module, format)
    said = convert(path, tmp_path / "model")
    got, meta = load_model(tmp_path / "model")
    assert torch.equal(audio(got), audio(source))
    assert got.config == source.config
    assert meta["layout"].startswith(f"pickled {module}.WaveGlow: ")
    assert meta["layout"].endswith(norm)
    assert "iteration" not in meta
    assert module not in sys.modules
    assert ("halves swapped" in said) == (module == "glow_old")


def test_a_training_checkpoint_tells_how_far_it_is(tmp_path: Path, weights: Weights) -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(3))], lr=1e-4)
    path = save_pickled(
        of_age(weights, "cond_layers"), tmp_path / "waveglow_580000",
        iteration=580000, optimizer=optimizer.state_dict(), learning_rate=np.float64(1e-4),
    )  # fmt: skip
    meta = read_checkpoint(path).meta
    assert (meta["iteration"], meta["learning_rate"]) == (580000, 1e-4)
    assert meta["source"] == "waveglow_580000"
    assert meta["source_sha256"] == sha256_file(path)
    said = convert(path, tmp_path / "model")
    assert "5 flows, 4 channels" in said
    assert "iteration 580000" in said
    assert read_json(tmp_path / "model/model.json")["iteration"] == 580000


def test_a_fork_with_other_dilations_is_refused(tmp_path: Path, weights: Weights) -> None:
    """Its shapes are those of WaveGlow: it would load, and give noise."""
    path = tmp_path / "fork.pt"
    with throwaway_module("glow") as classes:
        module = skeleton(weights, classes, TINY)
        module.WN[2].in_layers[1].dilation = (3,)
        save({"model": module}, path)
    with pytest.raises(UserError, match=r"WN\.2\.in_layers\.1\.dilation is \(3,\), and \(2,\)"):
        read_checkpoint(path)


def test_a_fresh_process_needs_no_class_of_the_file(tmp_path: Path, model: WaveGlow) -> None:
    path = save_pickled(dict(model.state_dict()), tmp_path / "a.pt")
    code = (
        "import sys, torch; from pathlib import Path; from wg.checkpoint.weights import load_model;"
        f"model, _ = load_model(Path({str(path)!r}));"
        "total = float(sum(p.detach().double().sum() for p in model.parameters()));"
        "print(total, 'glow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    total = float(sum(p.detach().double().sum() for p in model.parameters()))
    assert done.stdout.split() == [str(total), "False"], done.stderr


# -- state dicts --------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["legacy", "zip", "safetensors"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_give_the_same_audio(
    tmp_path: Path, model: WaveGlow, weights: Weights, prefix: str, format: str
) -> None:
    raw = {prefix + k: v.contiguous() for k, v in of_age(weights, "cond_layers").items()}
    path = tmp_path / "a.bin"
    if format == "safetensors":
        save_file(raw, path)
    else:
        save({"state_dict": raw}, path, format)
    got, meta = load_model(path)
    assert torch.equal(audio(got), audio(model))
    assert "cond_layers" in meta["layout"]
    assert f"upsample_stride={TINY.upsample_stride}" in meta["assumed"]
    assert "coupling=glow" in meta["assumed"]


def test_a_state_dict_of_glow_old_needs_to_be_told(tmp_path: Path) -> None:
    """Its keys are those of the other models of its time."""
    model = trained_looking(SWAPPED)
    path = save(of_age(dict(model.state_dict()), "cond_layers"), tmp_path / "a.pt")
    assert read_checkpoint(path).config == TINY
    got = read_checkpoint(path, "glow_old")
    assert got.config == SWAPPED
    assert "coupling=glow" not in got.meta["assumed"]
    convert(path, tmp_path / "model", coupling="glow_old")
    assert torch.equal(audio(load_model(tmp_path / "model")[0]), audio(model))
    # A pickled module that says glow_old can be overruled, and a model of wg's own cannot.
    pickled = save_pickled(of_age(dict(model.state_dict()), "fused"), tmp_path / "b.pt", "glow_old")
    assert read_checkpoint(pickled, "glow").config == TINY
    with pytest.raises(UserError, match="swap_odd_halves=True, which is not coupling=glow"):
        read_checkpoint(tmp_path / "model", "glow")
    with pytest.raises(UserError, match="did you mean 'glow_old'"):
        read_checkpoint(path, "glow-old")  # type: ignore[arg-type]


def test_the_config_of_deeplearningexamples_is_used(tmp_path: Path) -> None:
    """What shapes do not tell: three flows of a model whose first early output is at four."""
    config = FlowConfig(**{**TINY.to_dict(), "n_flows": 3, "n_early_every": 4})
    model = trained_looking(config)
    arguments = {
        "n_mel_channels": 4, "n_flows": 3, "n_group": 8, "n_early_every": 4, "n_early_size": 2,
        "WN_config": {"n_layers": 3, "kernel_size": 3, "n_channels": 4},
    }  # fmt: skip
    raw = {f"module.{k}": v for k, v in of_age(dict(model.state_dict()), "cond_layers").items()}
    path = save({"state_dict": raw, "config": arguments, "epoch": 1500}, tmp_path / "checkpoint.pt")
    got = read_checkpoint(path)
    assert got.config == config
    assert got.meta["epoch"] == 1500


@pytest.mark.parametrize("n_channels", [256, 512])
def test_deeplearningexamples_two_sizes(tmp_path: Path, n_channels: int) -> None:
    config = FlowConfig(**{**TINY.to_dict(), "n_channels": n_channels, "n_layers": 2, "n_flows": 1})
    model = trained_looking(config)
    raw = {f"module.{k}": v for k, v in of_age(model.state_dict(), "cond_layers", 2).items()}
    got, _ = load_model(save({"state_dict": raw}, tmp_path / "a.pt"))
    assert got.config.n_channels == n_channels
    assert torch.equal(audio(got), audio(model))


def test_fp16_checkpoints_are_read_as_fp32(tmp_path: Path, model: WaveGlow) -> None:
    halved = model.half().float()  # what an fp16 file can hold
    for name, save_one in (("module", save_pickled), ("dict", save)):
        path = tmp_path / f"{name}.pt"
        save_one({k: v.half() for k, v in halved.state_dict().items()}, path)
        got, meta = load_model(path)
        assert torch.equal(audio(got), audio(halved))
        assert meta["layout"].endswith("float16")


def test_new_weight_norm_is_read(tmp_path: Path, model: WaveGlow, weights: Weights) -> None:
    path = save(as_parametrizations(weights), tmp_path / "a.pt")
    got, meta = load_model(path)
    assert torch.equal(audio(got), audio(model))
    assert "weight norm as a parametrization" in meta["layout"]


# -- wg's own -----------------------------------------------------------------------------


def test_own_folders_and_runs(tmp_path: Path, model: WaveGlow, weights: Weights) -> None:
    run = tmp_path / "run"
    save_weights(run / "final", weights, TINY, META)
    for path in (run, run / "final", run / "final/model.json", run / "final/model.safetensors"):
        got, meta = load_model(path)
        assert torch.equal(audio(got), audio(model))
        assert {k: meta[k] for k in META} == META
    assert same(read_weights(run / "final")[1], weights)
    with pytest.raises(UserError, match=r"without a model.*final/model\.json"):
        read_checkpoint(tmp_path)
    with pytest.raises(UserError, match="No such file"):
        read_checkpoint(tmp_path / "nowhere")


def test_own_weights_that_do_not_fit_their_size(tmp_path: Path, weights: Weights) -> None:
    save_weights(tmp_path, weights, FlowConfig(**{**TINY.to_dict(), "n_channels": 6}), META)
    with pytest.raises(UserError, match=r"WN\.0\.start\.bias is \(4,\) and should be \(6,\)"):
        load_model(tmp_path)


def test_a_damaged_safetensors_file(tmp_path: Path, weights: Weights) -> None:
    path = tmp_path / "a.safetensors"
    save_file({k: v.contiguous() for k, v in weights.items()}, path)
    data = path.read_bytes()
    for length in (4, 9, 500, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"a\.safetensors"):
            read_checkpoint(path)
    path.write_bytes(struct.pack("<Q", 40) + b"{" + b"x" * 60)
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(path)


# -- what wg leaves in its files is checked like everything else --------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"mel": None}, {"mel": {"n_fft": 1024}}, {"sampling_rate": "22050"}, {"sigma": [1.0]},
        {"recipe": torch.ones(1)}, {"assumed": [{}]}, {"sampling_rate": float("inf")},
        {"model": {**TINY.to_dict(), "n_flows": "five"}}, {"model": {"gates": 3}},
        {"model": {**TINY.to_dict(), "n_group": 10**5000}}, {"mel": {**MEL, "n_fft": 1024.5}},
    ],
)  # fmt: skip
def test_facts_that_were_changed_are_refused(
    tmp_path: Path, weights: Weights, change: dict[str, Any]
) -> None:
    save_weights(tmp_path / "own", weights, TINY, META)
    convert(tmp_path / "own", tmp_path / "out.pt", "nvidia")
    tree = torch.load(tmp_path / "out.pt", weights_only=True)
    tree["wg"].update(change)
    save(tree, tmp_path / "changed.pt")
    with pytest.raises(UserError, match="beside the weights"):
        read_checkpoint(tmp_path / "changed.pt")


def test_progress_that_is_no_number_is_left_out(tmp_path: Path, weights: Weights) -> None:
    for value in ("many", float("nan"), 10**400, [1], True):
        path = save({"state_dict": weights, "iteration": value}, tmp_path / "a.pt")
        assert "iteration" not in read_checkpoint(path).meta


OWN_FACTS: dict[str, tuple[dict[str, Any], str]] = {
    "no rate": ({"sampling_rate": None}, "does not say its sampling_rate"),
    "no mel": ({"mel": None}, "does not say its mel"),
    "rate is text": ({"sampling_rate": "a"}, "sampling_rate='a' must be a whole number"),
    "other rate": ({"sampling_rate": 8000}, "mel.sampling_rate=16000 must be the model's 8000"),
    "sigma is text": ({"sigma": "x"}, "sigma='x' must be a number"),
    "sigma is a list": ({"sigma": []}, r"sigma=\[\] must be a number"),
    "sigma below 0": ({"sigma": -1}, "sigma=-1 must be a number above 0"),
    "sigma not finite": ({"sigma": float("nan")}, "sigma=nan must be"),
    "mel is a list": ({"mel": [1]}, r"mel=\[1\] must be a group of settings"),
    "mel is unknown": ({"mel": {**MEL, "hop": 1}}, "no setting 'mel.hop'; known"),
    "other bands": ({"mel": {**MEL, "n_mels": 5}}, "mel.n_mels=5 must be the model's 4"),
    "other hop": ({"mel": {**MEL, "hop_length": 32}}, "hop_length=32 must be the model's 16"),
    "mel is too large": ({"mel": {**MEL, "n_fft": 10**12}}, "mel.n_fft=1e.12 is too large"),
    "size is a number": ({"model": 5}, "its model is no group of settings"),
}


@pytest.mark.parametrize("name", OWN_FACTS)
def test_a_changed_model_json_is_refused(tmp_path: Path, weights: Weights, name: str) -> None:
    changes, words = OWN_FACTS[name]
    meta = {k: v for k, v in {**META, **changes}.items() if v is not None}
    save_weights(tmp_path, weights, TINY, meta)
    with pytest.raises(UserError, match=rf"model\.json is damaged.*{words}"):
        load_model(tmp_path)


def test_snapshots_of_before_sigma_was_kept_are_read(tmp_path: Path, weights: Weights) -> None:
    mel = {k: v for k, v in MEL.items() if k != "win_length"}
    save_weights(tmp_path, weights, TINY, {"sampling_rate": 16000, "mel": mel})
    meta = load_model(tmp_path)[1]
    assert (meta["sigma"], meta["mel"]) == (1.0, MEL)
