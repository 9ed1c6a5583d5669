"""The packaged corpus is what its page says, and damage to it is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from wg.audio import corpus as corpus_module
from wg.audio.corpus import DataConfig, check_segments, load_corpus
from wg.audio.demo.make import choose, usable
from wg.audio.io import read_audio
from wg.errors import UserError

DEMO = corpus_module.DEMO
CONF = Path(__file__).parents[2] / "conf" / "data" / "demo.yaml"


def config(**more: object) -> DataConfig:
    return DataConfig.from_dict({**yaml.safe_load(CONF.read_text()), **more})


def test_corpus() -> None:
    corpus = load_corpus(config())
    assert len(corpus.train) == 54
    assert len(corpus.held_out) == 15
    assert 300 <= corpus.seconds("train") < 312
    assert 60 <= corpus.seconds("held_out") < 68
    assert not {u.sha256 for u in corpus.train} & {u.sha256 for u in corpus.held_out}
    assert check_segments(corpus, 16000, "error") is corpus
    assert load_corpus(config(held_out=4)).held_out == corpus.held_out[:4]
    assert sum(f.stat().st_size for f in DEMO.rglob("*") if f.suffix != ".pyc") < 8e6


def test_clips_are_speech_of_the_stated_length() -> None:
    corpus = load_corpus(config())
    for utterance in (*corpus.train[::9], *corpus.held_out[::5]):
        audio = read_audio(utterance.path, 16000)
        assert len(audio) == utterance.n_samples
        assert usable((audio * 32768).astype(np.int16))


def test_split_follows_the_stated_rule() -> None:
    rows = json.loads((DEMO / "manifest.json").read_text())["utterances"]
    # Of the packaged clips the rule chooses the same ones again; only names and lengths count.
    names = {
        r["id"].replace("dictate_", "dictate/").replace("followme_", "followme/"): r for r in rows
    }
    lengths = {name: np.zeros(r["samples"], np.int16) for name, r in names.items()}
    assert choose(lengths) == {name: r["split"] for name, r in names.items()}


def test_damage_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copytree(DEMO, tmp_path / "demo")
    monkeypatch.setattr(corpus_module, "DEMO", copy)
    clip = next(copy.glob("flac/*/vm-review.flac"))
    data = bytearray(clip.read_bytes())
    data[5000] ^= 1
    clip.write_bytes(data)
    with pytest.raises(UserError, match=r"vm-review\.flac .*reinstall wg"):
        load_corpus(config())
    clip.unlink()
    with pytest.raises(UserError, match="reinstall wg"):
        load_corpus(config())


def test_the_split_is_fixed() -> None:
    with pytest.raises(UserError, match="fixed, with 15"):
        load_corpus(config(held_out=16))
    with pytest.raises(UserError, match=r"22050.*data\.resample=true"):
        load_corpus(config(sampling_rate=22050))
