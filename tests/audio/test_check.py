"""Looking a corpus over: each fault gets its remark and mend, and training agrees."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from wg.audio.check import findings as findings_module
from wg.audio.check.findings import Expected, Findings, inspect, recognise
from wg.audio.check.probe import Probe, probe
from wg.audio.check.show import rows, to_json, train_command
from wg.audio.check.verdict import Remark, verdict
from wg.audio.corpus import DataConfig, check_segments, load_corpus
from wg.audio.mel import MelConfig
from wg.audio.split import order
from wg.audio.store import Store
from wg.errors import UserError

RATE = 16000
Make = Callable[..., Path]


def write(path: Path, audio: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, audio, rate, subtype=subtype)
    return path


def noise(seconds: float, scale: float = 0.05, seed: int = 0, rate: int = RATE) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal(int(seconds * rate))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder with one fault of each kind, and eight good files."""
    folder = tmp_path / "broken"
    (folder / "deep").mkdir(parents=True)
    for k in range(8):
        write(folder / f"ok{k}.wav", noise(2.0 + k / 10, seed=k))
    write(folder / "ok3.flac", soundfile.read(folder / "ok3.wav", dtype="int16")[0])
    shutil.copy(folder / "ok1.wav", folder / "deep" / "copy.wav")
    write(folder / "other.wav", noise(2.0, seed=10), rate=22050)
    write(folder / "stereo.wav", np.stack([noise(2.0, seed=11)] * 2, axis=1))
    write(folder / "short.wav", noise(0.3, seed=12))
    write(folder / "silent.wav", np.zeros(RATE * 2))
    write(folder / "loud.wav", np.clip(noise(2.0, 2.0, seed=13), -1, 1))
    write(folder / "dc.wav", noise(2.0, seed=14) + 0.02)
    write(folder / "quiet.wav", noise(2.0, 0.002, seed=15))
    write(folder / "lossy.ogg", noise(2.0, seed=16), subtype="VORBIS")
    (folder / "text.wav").write_text("no audio")
    data = write(folder / "cut.wav", noise(3.0, seed=17)).read_bytes()
    (folder / "cut.wav").write_bytes(data[: len(data) // 2])
    (folder / "._ok1.wav").write_text("a Finder leftover")
    (folder / "song.mp3").write_bytes(b"ID3")
    (folder / "notes.txt").write_text("not audio, and not meant to be")
    return folder


def by_name(found: Findings) -> dict[str, Remark]:
    return {remark.name: remark for remark in verdict(found)}


def test_a_broken_folder_gets_a_remark_for_each_fault(broken: Path) -> None:
    seen = []
    found = inspect(broken, Expected(held_out=3), progress=lambda *n: seen.append(n))
    assert found.kind == "folder"
    assert found.sampling_rate == RATE  # the commonest
    assert seen[-1] == (len(found.files), len(found.files))
    assert [f.id for f in found.files] == list(found.layout.files)
    remarks = by_name(found)
    stops = {name for name, remark in remarks.items() if remark.level == "stop"}
    assert stops == {"unreadable", "rates", "short"}
    about = {
        "unreadable": "text.wav",
        "rates": "other.wav",
        "short": "short.wav",
        "cut": "cut.wav",
        "clipping": "loud.wav",
        "silent": "silent.wav",
        "dc": "dc.wav",
        "levels": "quiet.wav",
        "channels": "stereo.wav",
        "lossy": "lossy.ogg",
        "ignored": "song.mp3",
        "hidden": "._ok1.wav",
    }
    for name, file in about.items():
        assert remarks[name].files[0].startswith(file), name
        assert remarks[name].mend
    for name in ("rates", "silent", "zeros"):
        assert "data." in remarks[name].mend
    assert "data.resample=true" in remarks["rates"].mend
    assert "data.short_clips=skip" in remarks["short"].mend
    assert "data.silence_db=-60" in remarks["zeros"].mend
    copies = [r.files for r in verdict(found) if r.name == "duplicates"]
    assert copies == [("deep/copy.wav = ok1.wav",), ("ok3.flac = ok3.wav",)]
    assert [r.level for r in verdict(found)] == sorted(
        (r.level for r in verdict(found)), reverse=True
    )


def test_the_mends_mend(broken: Path) -> None:
    (broken / "text.wav").unlink()
    settings = Expected(held_out=3, resample=True, short_clips="skip")
    remarks = by_name(inspect(broken, settings))
    assert {r.level for r in remarks.values()} == {"look"}
    command = train_command(inspect(broken, settings))
    assert command is not None
    for part in ("data=folder", "data.resample=true", "data.short_clips=skip", "data.held_out=3"):
        assert part in command


def test_a_good_folder_has_nothing_to_object_to(recordings: Make) -> None:
    found = inspect(recordings([20000 + k for k in range(6)]), Expected(held_out=2))
    assert verdict(found) == []
    table = dict(rows(found))
    assert table["files"] == "6"
    assert table["rates"] == "16000 Hz (6 files)"
    assert "4 to train on" in table["split"]
    assert "SHA-256 of the id" in table["split rule"]


def corpus_config(folder: Path, **more: Any) -> DataConfig:
    values = {"name": "t", "kind": "folder", "path": str(folder), "sampling_rate": RATE}
    return DataConfig.from_dict({**values, "held_out": 2, **more})


def test_it_foresees_the_split_and_its_leaks(recordings: Make) -> None:
    folder = recordings([20000 + k for k in range(8)])
    cfg = corpus_config(folder)
    corpus = load_corpus(cfg)
    found = inspect(folder, Expected(held_out=2))
    assert found.held_out == tuple(u.id for u in corpus.held_out)
    assert [found.length(f) for f in found.train] == [u.n_samples for u in corpus.train]
    held = corpus.held_out[0].path
    copy = folder / min((f"copy{k}.flac" for k in range(100)), key=order)
    write(copy, soundfile.read(held, dtype="int16")[0])
    remark = by_name(inspect(folder, Expected(held_out=2)))["leak"]
    assert remark.level == "stop"
    assert remark.files == (f"{held.name} = {copy.name}",)
    with pytest.raises(UserError, match="hold the same audio"):
        Store.prepare(load_corpus(cfg), MelConfig(sampling_rate=RATE))


@pytest.mark.parametrize(
    "fault", ["rate", "mixed", "short", "all short", "held_out", "unreadable", "f_max"]
)
def test_a_stop_is_what_training_refuses(recordings: Make, fault: str) -> None:
    """Whatever the check lets pass, loading accepts; whatever it stops, loading refuses."""
    folder = recordings([20000 + k for k in range(6)])
    more: dict[str, Any] = {}
    asked: dict[str, Any] = {"sampling_rate": RATE, "held_out": 2}

    def loads() -> bool:
        try:
            corpus = load_corpus(corpus_config(folder, **more))
            corpus = check_segments(corpus, 16000, more.get("short_clips", "error"))
            Store.prepare(corpus, corpus_config(folder, **more).mel)
        except UserError:
            return False
        return True

    def passes() -> bool:
        return all(r.level == "look" for r in verdict(inspect(folder, Expected(**asked))))

    assert loads()
    assert passes()
    if fault == "rate":
        more["sampling_rate"] = asked["sampling_rate"] = 22050
    elif fault == "mixed":
        write(folder / "z.wav", noise(2.0), rate=22050)
    elif fault == "short":
        write(folder / "z.wav", noise(0.5))
    elif fault == "all short":
        for path in folder.glob("*.wav"):
            write(path, noise(0.5, seed=int(path.stem)))
        more["short_clips"] = asked["short_clips"] = "skip"
    elif fault == "held_out":
        more["held_out"] = asked["held_out"] = 6
    elif fault == "unreadable":
        (folder / "000.wav").write_text("no audio")
    elif fault == "f_max":
        more["mel"] = {"f_max": 8001.0}
        asked["f_max"] = 8001.0
    assert not loads()
    assert not passes()


def test_ljspeech(recordings: Make, tmp_path: Path) -> None:
    root = tmp_path / "LJ"
    root.mkdir()
    shutil.move(recordings([20000 + k for k in range(5)]), root / "wavs")
    (root / "metadata.csv").write_text("000|a|a\n001|b|b\n777|c|c\n")
    found = inspect(root, Expected(held_out=1))
    assert found.kind == recognise(root) == "ljspeech"
    remarks = [r for r in verdict(found) if r.name == "metadata"]
    assert [(r.level, r.files) for r in remarks] == [
        ("stop", ("777.wav",)),
        ("look", ("002", "003", "004")),
    ]
    assert dict(rows(found))["metadata.csv"] == "3 lines, 1 without a file, 3 files without a line"


def test_one_file(recordings: Make) -> None:
    path = recordings([3000]) / "000.wav"
    found = inspect(path, Expected())
    assert (found.kind, found.held_out, found.no_split) == ("file", (), None)
    assert verdict(found) == []
    assert train_command(found) is None


def test_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        inspect(tmp_path / "none", Expected())
    (tmp_path / "a.mp3").write_bytes(b"ID3")
    with pytest.raises(UserError, match=r"holds no \.flac, \.ogg, \.wav files, only 1 of other"):
        inspect(tmp_path, Expected())


def test_all_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no audio")
    found = inspect(tmp_path, Expected())
    assert {r.name for r in verdict(found)} == {"unreadable", "split"}
    assert dict(rows(found))["files"] == "1 (1 unreadable)"
    assert to_json(found, verdict(found))["summary"]["unreadable"] == 1


def test_long_files_and_useless_held_out_ones(tmp_path: Path) -> None:
    write(tmp_path / "long.wav", noise(61.0, rate=RATE))
    for k in range(4):
        write(tmp_path / f"{k}.wav", noise(0.4, seed=k))
    remarks = by_name(inspect(tmp_path, Expected(held_out=3, segment_length=800)))
    assert remarks["long"].files == ("long.wav",)
    assert len(remarks["held_out"].files) >= 2


def test_interrupting_stops_the_other_files(
    recordings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recordings([4000] * 40)
    started = []
    held = threading.Event()

    def slow(ident: str, path: Path, stop: threading.Event) -> Probe:
        started.append(ident)
        held.wait(0.02)
        return probe(ident, path, stop)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(findings_module, "probe", slow)
    with pytest.raises(KeyboardInterrupt):
        inspect(folder, Expected(), jobs=2, progress=interrupt)
    assert len(started) < 20


def test_a_corpus_of_silence_stops(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"{i}.wav", np.zeros(RATE * 2 + i))
    remarks = verdict(inspect(tmp_path, Expected(RATE, held_out=1)))
    assert ("stop", "silent") in {(r.level, r.name) for r in remarks}
