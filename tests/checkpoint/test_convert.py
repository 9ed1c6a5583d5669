"""Checkpoints out: into other layouts and back to the same bits, over nothing of the user's."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import (
    META,
    SWAPPED,
    TINY,
    Weights,
    in_container,
    of_age,
    same,
    save,
    save_pickled,
)
from tests_helpers import trained_looking

from wg.audio.mel import MelConfig
from wg.checkpoint.convert import convert, read_checkpoint
from wg.checkpoint.layouts import per_layer_cond
from wg.checkpoint.weights import read_weights, save_weights
from wg.errors import UserError
from wg.files import read_json
from wg.flow import WaveGlow


@pytest.fixture
def model() -> WaveGlow:
    return trained_looking(TINY)


@pytest.fixture
def weights(model: WaveGlow) -> Weights:
    return dict(model.state_dict())


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("to", ["nvidia", "deeplearningexamples"])
def test_there_and_back_is_exact(tmp_path: Path, model: WaveGlow, to: Any, folded: bool) -> None:
    if folded:
        model.remove_weight_norm()
    save_weights(tmp_path / "own", model.state_dict(), TINY, META)
    convert(tmp_path / "own", tmp_path / "there.pt", to)
    convert(tmp_path / "there.pt", tmp_path / "back")
    own, back = tmp_path / "own", tmp_path / "back"
    assert (back / "model.safetensors").read_bytes() == (own / "model.safetensors").read_bytes()
    config, weights, meta = read_weights(back)
    assert config == TINY
    assert same(weights, dict(model.state_dict()))
    assert {k: meta[k] for k in META} == META  # nothing of it had to be assumed
    assert meta["assumed"] == []


def test_a_foreign_state_dict_returns_bit_for_bit(tmp_path: Path, weights: Weights) -> None:
    for age, to in (("cond_layers", "deeplearningexamples"), ("fused", "nvidia")):
        raw = of_age(weights, age)
        convert(save(raw, tmp_path / "in.pt"), tmp_path / age)
        convert(tmp_path / age, tmp_path / f"{age}.pt", to)
        got = torch.load(tmp_path / f"{age}.pt", weights_only=True)
        assert same(got["state_dict"], raw)


def test_what_is_written_is_tensors_and_plain_values(tmp_path: Path, weights: Weights) -> None:
    save_weights(tmp_path / "own", weights, TINY, META)
    said = convert(tmp_path / "own", tmp_path / "out.pt", "nvidia")
    tree = torch.load(tmp_path / "out.pt", weights_only=True)
    assert same(tree["state_dict"], weights)
    assert tree["config"] == {
        "n_mel_channels": 4, "n_flows": 5, "n_group": 8, "n_early_every": 2, "n_early_size": 2,
        "WN_config": {"n_layers": 3, "n_channels": 4, "kernel_size": 3},
    }  # fmt: skip
    json.dumps({k: v for k, v in tree.items() if k != "state_dict"})
    assert "1024 / 256 only, and this one is 64 / 16" in said
    first = (tmp_path / "out.pt").read_bytes()
    convert(tmp_path / "own", tmp_path / "out.pt", "nvidia")  # its own output: written again
    assert (tmp_path / "out.pt").read_bytes() == first


def test_swapped_halves_leave_only_as_glow_old(tmp_path: Path) -> None:
    weights = dict(trained_looking(SWAPPED).state_dict())
    save_weights(tmp_path / "own", weights, SWAPPED, META)
    said = convert(tmp_path / "own", tmp_path / "old.pt", "nvidia")
    assert "glow_old.py" in said
    tree = torch.load(tmp_path / "old.pt", weights_only=True)
    assert same(tree["state_dict"], of_age(weights, "cond_layers"))  # what that class has
    convert(tmp_path / "old.pt", tmp_path / "back")
    assert read_weights(tmp_path / "back")[0] == SWAPPED
    with pytest.raises(UserError, match="cannot swap halves"):
        convert(tmp_path / "own", tmp_path / "dle.pt", "deeplearningexamples")
    assert not (tmp_path / "dle.pt").exists()


def test_assumptions_are_said_and_can_be_replaced(tmp_path: Path, weights: Weights) -> None:
    path = save_pickled(weights, tmp_path / "a.pt")
    said = convert(path, tmp_path / "assumed")
    meta = read_json(tmp_path / "assumed/model.json")
    assert meta["sampling_rate"] == 22050
    assert MelConfig(**meta["mel"]) == MelConfig(n_mels=4, hop_length=16)
    assert (meta["sigma"], meta["recipe"], meta["run"]) == (1.0, None, None)
    assert "assumed, because the checkpoint does not say: sampling_rate=22050; mel n_fft=1" in said
    said = convert(path, tmp_path / "told", sampling_rate=8000)
    meta = read_json(tmp_path / "told/model.json")
    assert MelConfig(**meta["mel"]) == MelConfig(8000, hop_length=16, n_mels=4, f_max=4000.0)
    assert "sampling_rate=" not in said
    # What was assumed once stays so, through another layout too.
    convert(tmp_path / "assumed", tmp_path / "b.pt", "nvidia")
    assert (
        read_checkpoint(tmp_path / "b.pt").meta["assumed"]
        == read_json(tmp_path / "assumed/model.json")["assumed"]
    )
    with pytest.raises(UserError, match="says that its sampling rate is 8000 Hz"):
        convert(tmp_path / "told", tmp_path / "x", sampling_rate=16000)
    with pytest.raises(UserError, match="at least 1 Hz"):
        convert(path, tmp_path / "x", sampling_rate=0)


def test_nothing_of_the_users_is_overwritten(tmp_path: Path, weights: Weights) -> None:
    path = save_pickled(weights, tmp_path / "a.pt")
    run = tmp_path / "run"
    save_weights(run / "final", weights, TINY, META)
    (tmp_path / "notes.txt").write_text("mine")
    user = save({"wg": {"mine": 1}, "x": torch.ones(2)}, tmp_path / "user.pt")
    convert(path, tmp_path / "trained.pt", "nvidia")
    # A script that goes on from a converted file, and keeps what it does not know.
    tree = torch.load(tmp_path / "trained.pt", weights_only=True)
    trained = save({**tree, "optimizer": {"step": 5}}, tmp_path / "trained.pt")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for source, out, to, words in (
        (path, path, "nvidia", "overwrite the checkpoint that is read"),
        (run, run / "final", "wg", "overwrite the checkpoint that is read"),
        (run, run, "wg", "overwrite the checkpoint that is read"),
        (path, run / "final", "wg", "did not write it"),
        (path, run, "wg", "did not write it"),
        (path, tmp_path, "wg", "did not write it"),
        (path, tmp_path / "notes.txt", "wg", "is a file"),
        (path, tmp_path / "notes.txt", "nvidia", "did not write it"),
        (path, tmp_path, "nvidia", "is a folder"),
        (path, tmp_path / "new.pt", "wg", "name a folder"),
        (path, tmp_path / "new.safetensors", "nvidia", r"name it new\.pt"),
        (path, user, "nvidia", "did not write it"),
        (path, trained, "nvidia", "did not write it"),
        (path, tmp_path / "new", "nvidea", "did you mean 'nvidia'"),
    ):
        with pytest.raises(UserError, match=words):
            convert(source, out, to)  # type: ignore[arg-type]
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    convert(path, tmp_path / "new")
    convert(path, tmp_path / "new")  # its own output: written again
    assert same(read_weights(tmp_path / "new")[1], weights)


def test_a_hostile_checkpoint_writes_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    text = f"touch {canary}".encode()
    evil = b"\x80\x02cposix\nsystem\nX" + struct.pack("<I", len(text)) + text + b"\x85R."
    path = tmp_path / "evil.pt"
    for format in ("zip", "legacy"):
        path.write_bytes(in_container(evil, format))
        with pytest.raises(UserError, match=r"posix\.system.*never runs code"):
            convert(path, tmp_path / "out")
    assert not canary.exists()
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_written(tmp_path: Path, weights: Weights) -> None:
    path = save_pickled(weights, tmp_path / "a.pt")
    (tmp_path / "afile").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    for out, words in (
        (tmp_path / "afile" / "x", r"afile/x cannot be written \((Not a directory|File exists)\)"),
        (Path("/proc/x"), r"/proc/x cannot be written \(No such file or directory\)"),
        (tmp_path / ("x" * 300), r"cannot be written \(File name too long\)"),
        (tmp_path / "dangling", "is a link that leads nowhere"),
    ):
        for to in ("wg", "nvidia"):
            with pytest.raises(UserError, match=words):
                convert(path, out, to)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="did not write it"):
        convert(path, tmp_path / "pipe", "nvidia")
    with pytest.raises(UserError, match="File name too long"):
        convert(tmp_path / ("x" * 300), tmp_path / "new")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "dangling").is_symlink()


def test_the_assumption_that_makes_noise_of_speech_has_a_line_of_its_own(
    tmp_path: Path, weights: Weights
) -> None:
    save_weights(tmp_path / "model", weights, TINY, META)
    layered = per_layer_cond(weights, TINY.n_layers)
    torch.save({"state_dict": layered}, tmp_path / "old.pt")
    said = convert(tmp_path / "old.pt", tmp_path / "out")
    assert "with --coupling glow_old" in said.splitlines()[1]
    assert "--coupling" not in convert(tmp_path / "old.pt", tmp_path / "out", coupling="glow")
    assert "load_state_dict" in convert(tmp_path / "model", tmp_path / "n.pt", "nvidia")
    # An export beside the weights does not make them somebody else's.
    (tmp_path / "out" / "export").mkdir()
    convert(tmp_path / "old.pt", tmp_path / "out")
