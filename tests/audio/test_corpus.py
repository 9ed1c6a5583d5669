"""Corpora: layouts, splits that do not leak, digests, and the mistakes users make."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from wg.audio.cache import FileHashes
from wg.audio.check.findings import Expected, inspect
from wg.audio.check.show import train_command
from wg.audio.check.verdict import verdict
from wg.audio.corpus import DataConfig, check_segments, load_corpus
from wg.audio.split import RULE_ID, hold_out, leaks
from wg.errors import UserError

ROOT = Path(__file__).parents[2]
LJ_MINI = ROOT.parent / "shared" / "data" / "LJSpeech-mini"
needs_lj_mini = pytest.mark.skipif(
    not LJ_MINI.is_dir(), reason="../shared/data/LJSpeech-mini is not beside the repository"
)
Make = Callable[..., Path]


def config(folder: Path | None, kind: str = "folder", **more: Any) -> DataConfig:
    values = {"name": "t", "kind": kind, "path": str(folder) if folder else None}
    return DataConfig.from_dict({**values, "sampling_rate": 16000, "held_out": 2} | more)


@pytest.mark.parametrize("name", ["demo", "ljspeech", "folder", "asterisk"])
def test_packaged_configs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # nothing has been fetched here
    values = yaml.safe_load((ROOT / "conf" / "data" / f"{name}.yaml").read_text())
    cfg = DataConfig.from_dict(values)
    assert (cfg.name, cfg.kind) == (name, "folder" if name == "asterisk" else name)
    assert cfg.mel.sampling_rate == cfg.sampling_rate
    if name != "demo":
        fetched = {"ljspeech": "wg data fetch ljspeech", "asterisk": "wg data fetch asterisk-en"}
        with pytest.raises(UserError, match=fetched.get(name, r"data\.path=")):
            load_corpus(cfg)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampling_rat": 1}, "did you mean 'sampling_rate'"),
        ({"mel": {"n_mel": 80}}, r"no setting 'data\.mel\.n_mel'; did you mean 'n_mels'"),
        ({"kind": "foldr"}, "did you mean 'folder'"),
        ({"short_clips": "pads"}, "did you mean 'pad'"),
        ({"mel_device": "gpu"}, "mel_device='gpu'"),
        ({"silence_db": 3}, r"data\.silence_db=3 .*such as -60"),
        ({"silence_db": float("nan")}, r"data\.silence_db=nan"),
        ({"silence_db": "-60 dB"}, r"data\.silence_db='-60 dB'"),
        ({"sampling_rate": "16000"}, "whole number"),
        ({"sampling_rate": True}, "whole number"),
        ({"resample": 1}, "true or false"),
        ({"held_out": 0}, r"data\.held_out=0"),
        ({"held_out": 1.5}, r"data\.held_out=1\.5"),
        ({"held_out_min_seconds": -1}, r"data\.held_out_min_seconds=-1 .*or 0"),
        ({"held_out_min_seconds": float("inf")}, r"data\.held_out_min_seconds=inf"),
        ({"held_out_min_seconds": float("nan")}, r"data\.held_out_min_seconds=nan"),
        ({"kind": "demo", "held_out_min_seconds": 1}, "no effect on the packaged demo"),
        ({"sampling_rate": 8000}, "f_max"),
        ({"mel": {"sampling_rate": 22050}}, r"differs from data\.sampling_rate"),
        ({"kind": "demo", "path": "/x"}, "data=folder"),
    ],
)
def test_bad_config(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        config(None, **changes)


def test_missing_key() -> None:
    with pytest.raises(UserError, match=r"data\.kind is missing"):
        DataConfig.from_dict({"name": "x"})


def test_folder_is_recursive_and_ignores_other_files(recordings: Make, tmp_path: Path) -> None:
    folder = recordings([5000] * 5)
    (folder / "notes.txt").write_text("hello")
    (folder / "._000.wav").write_text("a Finder leftover")
    (folder / "deep").mkdir()
    soundfile.write(folder / "deep" / "a.FLAC", np.full(4000, 0.1), 16000)
    corpus = load_corpus(config(folder))
    assert sorted(u.id for u in corpus.train + corpus.held_out) == [
        *(f"00{k}.wav" for k in range(5)),
        "deep/a.FLAC",
    ]
    assert len(corpus.held_out) == 2
    assert {u.split for u in corpus.train} == {"train"}
    assert {u.split for u in corpus.held_out} == {"held_out"}
    assert corpus.seconds("train") + corpus.seconds("held_out") == 29000 / 16000


def test_split_is_stable_nested_and_moves_with_the_folder(recordings: Make) -> None:
    folder = recordings([4000 + k for k in range(12)])
    two, five = (load_corpus(config(folder, held_out=n)) for n in (2, 5))
    assert five.held_out[:2] == two.held_out
    moved = shutil.copytree(folder, folder.parent / "moved")
    assert load_corpus(config(moved)).digest == two.digest != five.digest
    share = load_corpus(config(folder, held_out=0.25))
    assert len(share.held_out) == 3


def test_twins_are_never_held_out(recordings: Make) -> None:
    folder = recordings([4000 + k for k in range(6)])
    for k in range(4):
        shutil.copy(folder / f"00{k}.wav", folder / f"copy{k}.wav")
    corpus = load_corpus(config(folder))
    assert {u.id for u in corpus.held_out} == {"004.wav", "005.wav"}
    with pytest.raises(UserError, match="8 of them with identical copies"):
        load_corpus(config(folder, held_out=3))


def test_the_split_is_pinned() -> None:
    """Another order would make runs of one corpus incomparable: raise RULE_ID with it."""
    files = {f"LJ001-{k:04d}": str(k) for k in range(1, 33)}
    chosen = hold_out(files, 4, "here")
    assert chosen == sorted(files, key=lambda i: hashlib.sha256(i.encode()).hexdigest())[:-5:-1]
    assert chosen == ["LJ001-0025", "LJ001-0016", "LJ001-0010", "LJ001-0004"]
    assert hold_out(dict(reversed(files.items())), 0.125, "here") == chosen
    assert RULE_ID.endswith("/1")


def test_short_clips_are_never_held_out(recordings: Make) -> None:
    lengths = [4000 + 1000 * k for k in range(12)]
    folder = recordings(lengths)
    plain = load_corpus(config(folder, held_out=12 - 4))
    ruled = {"held_out_min_seconds": 0.5}  # 8,000 samples: the first four are shorter
    corpus = load_corpus(config(folder, held_out=4, **ruled))
    assert all(u.n_samples >= 8000 for u in corpus.held_out)
    assert {f"00{k}.wav" for k in range(4)} <= {u.id for u in corpus.train}
    # Among those of the length, the order is the same.
    long_enough = [u.id for u in plain.held_out if u.n_samples >= 8000]
    assert [u.id for u in corpus.held_out][: len(long_enough)] == long_enough[:4]
    # It is another split, so another digest and another store; a rule that changes none is none.
    assert corpus.digest != load_corpus(config(folder, held_out=4)).digest
    same = load_corpus(config(folder, held_out=4, held_out_min_seconds=0.25))
    assert same.digest == load_corpus(config(folder, held_out=4)).digest
    # Lengths count at the rate that is trained at; a share is one of all clips.
    half = {"sampling_rate": 8000, "mel": {"f_max": 4000.0}, "resample": True}
    resampled = load_corpus(config(folder, held_out=4, **ruled, **half))
    assert [u.id for u in resampled.held_out] == [u.id for u in corpus.held_out]
    assert len(load_corpus(config(folder, held_out=0.5, **ruled)).held_out) == 6
    with pytest.raises(UserError, match=r"12 \(4 of them shorter than data\.held_out_min_seconds"):
        load_corpus(config(folder, held_out=9, **ruled))


def test_a_check_tells_the_split_that_training_makes(recordings: Make) -> None:
    folder = recordings([4000 + 1000 * k for k in range(12)])
    expected = Expected(held_out=4, held_out_min_seconds=0.5, short_clips="pad")
    found = inspect(folder, expected)
    corpus = load_corpus(config(folder, held_out=4, held_out_min_seconds=0.5))
    assert found.held_out == tuple(u.id for u in corpus.held_out)
    assert "data.held_out_min_seconds=0.5" in (train_command(found) or "")
    advised = {r.name: r.mend for r in verdict(inspect(folder, Expected(held_out=8)))}
    assert advised["held_out"] == "data.held_out_min_seconds=0.5"
    assert "held_out" not in {r.name for r in verdict(found)}


def test_leaks_are_paired() -> None:
    contents = [("a", "1"), ("b", "1"), ("c", "2"), ("d", "2"), ("e", "3"), ("f", "1")]
    assert leaks(contents, {"a"}) == [("a", "b")]
    assert leaks(contents, {"a", "f"}) == [("a", "b"), ("f", "b")]
    assert leaks(contents, {"c", "d"}) == [("d", "c")]
    assert leaks(contents, {"e"}) == []
    assert leaks(contents, set()) == []


def test_changed_bytes_change_the_digest(recordings: Make) -> None:
    folder = recordings([4000] * 4)
    before = load_corpus(config(folder))
    soundfile.write(folder / "001.wav", np.full(4000, 0.25), 16000, subtype="PCM_16")
    assert load_corpus(config(folder)).digest != before.digest


def test_hashes_are_remembered(recordings: Make, private_cache: Path) -> None:
    folder = recordings([4000] * 4)
    first = load_corpus(config(folder))
    memory = private_cache / "file_hashes.json"
    assert "001.wav" in memory.read_text()
    assert not FileHashes(private_cache).changed
    memory.write_text("[broken")
    assert load_corpus(config(folder)).digest == first.digest


def test_hashes_survive_an_interruption(recordings: Make, private_cache: Path) -> None:
    folder = recordings([4000] * 4)

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_corpus(config(folder), progress=interrupt)
    assert len(FileHashes(private_cache).known) == 2


def test_mistakes_in_a_folder(recordings: Make, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no"):
        load_corpus(config(tmp_path / "none"))
    with pytest.raises(UserError, match="is not a folder"):
        load_corpus(config(tmp_path / "absent"))
    folder = recordings([5000] * 3)
    with pytest.raises(UserError, match=r"lower data\.held_out"):
        load_corpus(config(folder, held_out=3))
    (folder / "text.wav").write_text("this is no audio")
    with pytest.raises(UserError, match=re.escape(str(folder / "text.wav"))):
        load_corpus(config(folder))


def test_rates(recordings: Make) -> None:
    folder = recordings([5000] * 4, rate=22050)
    with pytest.raises(UserError, match=r"22050 Hz .*data\.resample=true"):
        load_corpus(config(folder))
    soundfile.write(folder / "z.wav", np.full(8000, 0.1), 16000)
    with pytest.raises(UserError, match=r"16000 Hz \(1 files\), 22050 Hz \(4 files\)"):
        load_corpus(config(folder, sampling_rate=22050))
    corpus = load_corpus(config(folder, resample=True))
    lengths = {u.n_samples for u in corpus.train + corpus.held_out}
    assert lengths == {8000, -(-5000 * 16000 // 22050)}


def test_short_clips(recordings: Make) -> None:
    corpus = load_corpus(config(recordings([2000, 3000, 5000, 6000, 7000, 8000])))
    short = [u for u in corpus.train if u.n_samples < 6000]
    assert short
    with pytest.raises(UserError) as caught:
        check_segments(corpus, 6000, "error")
    for part in (str(short[0].path), "segment_length=", "short_clips=skip", "pad"):
        assert part in str(caught.value)
    kept = check_segments(corpus, 6000, "skip")
    assert {u.id for u in kept.train} == {u.id for u in corpus.train} - {u.id for u in short}
    assert kept.digest != corpus.digest
    assert check_segments(corpus, 6000, "pad") is corpus
    with pytest.raises(UserError, match="leaves none"):
        check_segments(corpus, 9000, "skip")


def lj_layout(folder: Path, rows: list[str]) -> Path:
    shutil.move(folder, folder.parent / "wavs")
    (folder.parent / "metadata.csv").write_text("".join(f"{r}|text|text\n" for r in rows))
    return folder.parent


def test_ljspeech_layout(recordings: Make) -> None:
    root = lj_layout(recordings([4000] * 5), ["000", "001"])
    corpus = load_corpus(config(root, kind="ljspeech"))
    assert len(corpus.train) + len(corpus.held_out) == 5
    (root / "metadata.csv").write_text("000|a|a\n777|b|b\n")
    with pytest.raises(UserError, match=r"777\.wav"):
        load_corpus(config(root, kind="ljspeech"))
    with pytest.raises(UserError, match=r"no metadata\.csv"):
        load_corpus(config(root / "wavs", kind="ljspeech"))


@needs_lj_mini
def test_ljspeech_mini() -> None:
    seen = []
    cfg = config(LJ_MINI, kind="ljspeech", sampling_rate=22050, held_out=4)
    corpus = load_corpus(cfg, progress=lambda done, total: seen.append((done, total)))
    assert len(corpus.train) == 28
    assert len(corpus.held_out) == 4
    assert corpus.seconds("train") + corpus.seconds("held_out") == pytest.approx(221.7, abs=0.1)
    assert seen[-1] == (32, 32)
