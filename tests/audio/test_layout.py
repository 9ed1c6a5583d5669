"""Which files of a folder are audio, and names that are a trap."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from wg.audio.check.findings import Expected, inspect
from wg.audio.check.verdict import verdict
from wg.audio.corpus import DataConfig, load_corpus
from wg.audio.io import audio_info, is_cut
from wg.audio.layout import audio_files, folder_layout, ljspeech_layout
from wg.audio.mel import MelConfig
from wg.audio.names import kind_of, shown
from wg.errors import UserError

Make = Callable[..., Path]
NOT_UTF8 = os.fsdecode(b"\xff.wav")


def config(folder: Path | str, kind: str = "folder") -> DataConfig:
    mel = MelConfig(sampling_rate=16000)
    return DataConfig(kind, kind, str(folder), 16000, 1, mel=mel)  # type: ignore[arg-type]


def touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_one_rule_for_what_is_audio(tmp_path: Path) -> None:
    root = touched(
        tmp_path / "in",
        *("b.WAV", "a.wav", "deep/c.Flac", "d.mp3", "e.txt", "m.npy"),
        *("._a.wav", ".git/f.wav", "deep/.h/g.mp3", "deep/.x"),
    )
    touched(tmp_path / "elsewhere", "far.wav")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    (root / ".hiddenlink").symlink_to(tmp_path / "elsewhere")
    (root / "link.wav").symlink_to(tmp_path / "elsewhere" / "far.wav")
    (root / "gone.wav").symlink_to(tmp_path / "nothing")
    (root / "folder.wav").mkdir()

    def names(paths: tuple[Path, ...]) -> list[str]:
        return [path.relative_to(root).as_posix() for path in paths]

    listing = audio_files(root)
    assert names(listing.found) == ["a.wav", "b.WAV", "deep/c.Flac", "link.wav"]
    assert names(listing.hidden) == ["._a.wav", ".git/f.wav", "deep/.h/g.mp3"]
    assert names(listing.foreign) == ["d.mp3"]
    assert names(listing.closed) == ["linked", "loop"]
    assert names(audio_files(root, {".npy"}).found) == ["m.npy"]
    assert names(audio_files(root, deep=False).found) == ["a.wav", "b.WAV", "link.wav"]
    (tmp_path / "to").symlink_to(root)
    assert len(audio_files(tmp_path / "to").found) == 4
    assert list(folder_layout(root).files) == names(listing.found)


def test_folders_that_were_not_entered_are_told(recordings: Make, tmp_path: Path) -> None:
    folder = recordings([20000 + k for k in range(4)])
    touched(tmp_path / "elsewhere", "far.wav")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    remarks = {r.name: r for r in verdict(inspect(folder, Expected(held_out=1)))}
    assert remarks["closed"].files == ("linked",)
    assert remarks["closed"].level == "look"
    only = tmp_path / "only"
    only.mkdir()
    (only / "linked").symlink_to(folder)
    with pytest.raises(UserError, match="1 folders in it are links"):
        inspect(only, Expected())


def test_names_that_are_not_utf8(recordings: Make) -> None:
    folder = recordings([20000 + k for k in range(4)])
    # Of another kind, or hidden: shown, and no obstacle.
    touched(folder, os.fsdecode(b"\xfe.mp3"), os.fsdecode(b".\xfe.wav"))
    remarks = {r.name: r for r in verdict(inspect(folder, Expected(held_out=1)))}
    assert remarks["ignored"].files == ("\\xfe.mp3",)
    assert remarks["hidden"].files == (".\\xfe.wav",)
    load_corpus(config(folder))
    bad = folder / NOT_UTF8
    shutil.copy(next(folder.glob("*0*.wav")), bad)
    for act in (
        lambda: inspect(folder, Expected()),
        lambda: inspect(bad, Expected()),
        lambda: load_corpus(config(folder)),
        lambda: load_corpus(config(bad)),
        lambda: audio_info(bad),
        lambda: audio_files(folder),
    ):
        with pytest.raises(UserError, match=r"\\xff\.wav is not valid UTF-8: rename it"):
            act()
    assert shown(NOT_UTF8) == "\\xff.wav"


def test_paths_that_cannot_be_looked_at(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 300)
    for act in (
        lambda: inspect(long, Expected()),
        lambda: load_corpus(config(long)),
        lambda: audio_info(long),
        lambda: kind_of(long),
    ):
        with pytest.raises(UserError, match=r"looked at \(File name too long\)") as error:
            act()
        assert len(str(error.value)) < 300
    with pytest.raises(UserError, match="embedded null"):
        load_corpus(config("a\0b"))
    with pytest.raises(UserError, match="no known user"):
        load_corpus(config("~nobody-of-that-name/x"))
    (tmp_path / "file").write_text("x")
    assert kind_of(tmp_path / "file" / "below") is None


def test_nothing_or_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for act in (load_corpus, lambda c: inspect(Path(c.path), Expected())):
        with pytest.raises(UserError, match=r"holds no \.flac, \.ogg, \.wav files"):
            act(config(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"has no metadata\.csv"):
        load_corpus(config(tmp_path / "empty", "ljspeech"))
    (tmp_path / "file.wav").write_bytes(b"x")
    with pytest.raises(UserError, match="is neither a file nor a folder: name"):
        inspect(Path("/dev/null"), Expected())
    for kind in ("folder", "ljspeech"):
        with pytest.raises(UserError, match="is not a folder"):
            load_corpus(config(tmp_path / "file.wav", kind))


def lj(recordings: Make, tmp_path: Path, metadata: bytes) -> Path:
    root = tmp_path / "LJ"
    root.mkdir()
    wavs = sorted(recordings([20000 + k for k in range(4)]).glob("*.wav"))
    (root / "wavs").mkdir()
    for k, wav in enumerate(wavs):
        shutil.copy(wav, root / "wavs" / f"f{k}.{'WAV' if k % 2 else 'wav'}")
    (root / "metadata.csv").write_bytes(metadata)
    return root


def test_ljspeech_in_any_case_and_with_any_line_ends(recordings: Make, tmp_path: Path) -> None:
    text = "\ufefff0|a\u2028b|a\r\nf1|b|b\r\nf2|c|c\r\nf3|d|d\r\n"
    root = lj(recordings, tmp_path, text.encode())
    layout = ljspeech_layout(root)
    assert list(layout.files) == ["f0", "f1", "f2", "f3"]
    assert layout.listed == ("f0", "f1", "f2", "f3")
    assert layout.absent == layout.unlisted == ()
    assert layout.foreign == ()
    corpus = load_corpus(config(root, "ljspeech"))
    assert len(corpus.train) == 3
    shutil.copy(root / "wavs" / "f0.wav", root / "wavs" / "f1.wav")
    with pytest.raises(UserError, match=r"f1\.WAV and .*f1\.wav are both the utterance f1"):
        load_corpus(config(root, "ljspeech"))


def test_metadata_that_is_a_folder(recordings: Make, tmp_path: Path) -> None:
    root = lj(recordings, tmp_path, b"")
    (root / "metadata.csv").unlink()
    (root / "metadata.csv").mkdir()
    assert inspect(root, Expected(held_out=1)).kind == "folder"
    with pytest.raises(UserError, match=r"has no metadata\.csv"):
        load_corpus(config(root, "ljspeech"))


def test_cut_recordings_are_used_and_told(
    recordings: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recordings([20000 + k for k in range(4)])
    load_corpus(config(folder))
    assert capsys.readouterr().err == ""
    first, second = sorted(folder.glob("*.wav"))[:2]
    whole = first.read_bytes()
    assert not is_cut(first)
    first.write_bytes(whole[: len(whole) // 2])
    assert is_cut(first)
    load_corpus(config(folder))
    err = capsys.readouterr().err
    assert f"1 of 4 files of {folder} hold less than their headers say" in err
    assert str(first) in err
    # What writers to a pipe state stands for a length that they did not know.
    for unknown in (0, 0x7FFFF024, 0xFFFFFFFF):
        second.write_bytes(whole[:4] + unknown.to_bytes(4, "little") + whole[8:])
        assert not is_cut(second)
