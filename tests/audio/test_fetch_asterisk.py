"""Debian's package of prompts becomes a folder of FLAC files, or a sentence."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio.archives import Log, names, source

from wg.audio.fetch import asterisk
from wg.audio.fetch.fetch import MARK, fetch
from wg.errors import UserError

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is missing")


def deb(prompts: dict[str, bytes], voice: str = "en_US_f_Allison") -> bytes:
    """A Debian package of prompts, as dpkg-deb lays it out."""
    root = f"./usr/share/asterisk/sounds/{voice}/"
    names = {root + name: data for name, data in prompts.items()}
    names["./usr/share/doc/asterisk-core-sounds-en-g722/copyright"] = b"CC-BY-SA-3.0"
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:xz") as out:
        for name, data in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": tar.getvalue()}
    package = b"!<arch>\n"
    for name, data in members.items():
        package += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        package += data + b"\n" * (len(data) % 2)
    return package


def g722(seconds: float) -> bytes:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(16000 * seconds)) / 16000)
    pcm = (tone * 32767).astype("<i2").tobytes()
    command = ["ffmpeg", "-v", "error", "-f", "s16le", "-ar", "16000", "-ac", "1", "-i", "pipe:0"]
    return subprocess.run(
        [*command, "-f", "g722", "pipe:1"], input=pcm, capture_output=True, check=True
    ).stdout


@needs_ffmpeg
def test_asterisk_prompts_become_flac(tmp_path: Path) -> None:
    prompts = {"hello.g722": g722(1.5), "digits/1.g722": g722(0.5), "silence/2.g722": g722(2.0)}
    copy = tmp_path / "a.deb"
    copy.write_bytes(deb({**prompts, "beep.g722": g722(1.2), "dictate/long.g722": g722(2.5)}))
    row = source(copy.read_bytes(), form="asterisk_deb", folder="asterisk-en")
    folder = fetch(row, tmp_path / "data", file=copy, say=Log())
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    spoken = ["dictate/long.flac", "digits/1.flac", "hello.flac"]  # also what is short
    assert files == [MARK, "README.txt", "copyright.txt", *spoken]
    audio, rate = soundfile.read(folder / "hello.flac")
    assert (rate, len(audio)) == (16000, 24000)
    assert np.sqrt(np.mean(audio**2)) == pytest.approx(0.3 / 2**0.5, rel=0.05)
    about = (folder / "README.txt").read_text()
    assert "3 prompts" in about
    assert "(2 of 5)" in about
    assert "Attribution-ShareAlike 3.0" in about
    assert (folder / "copyright.txt").read_bytes() == b"CC-BY-SA-3.0"


@needs_ffmpeg
def test_another_voice_is_credited(tmp_path: Path) -> None:
    copy = tmp_path / "a.deb"
    copy.write_bytes(deb({"hello.g722": g722(1.5)}, "it_IT_m_Carlo"))
    row = source(copy.read_bytes(), form="asterisk_deb", folder="asterisk-it")
    folder = fetch(row, tmp_path / "data", file=copy, say=Log())
    assert (folder / "hello.flac").exists()
    about = (folder / "README.txt").read_text()
    assert "Italian: 1 prompts" in about
    assert "Carlo Flora" in about
    assert "licenses/by/3.0" in about
    assert "demo" not in about


@needs_ffmpeg
@pytest.mark.parametrize("mark", ['{"name": "asterisk-en"}', "[broken", '{"edition": 3}'])
def test_a_folder_of_another_edition_is_not_taken_for_this_one(tmp_path: Path, mark: str) -> None:
    copy = tmp_path / "a.deb"
    copy.write_bytes(deb({"hello.g722": g722(1.5)}))
    row = source(copy.read_bytes(), form="asterisk_deb", folder="asterisk-en", edition=2)
    folder = tmp_path / "data" / "asterisk-en"
    folder.mkdir(parents=True)
    (folder / MARK).write_text(mark)
    with pytest.raises(UserError, match=r"another version of wg.*move it away"):
        fetch(row, tmp_path / "data", file=copy, say=Log())
    assert names(folder) == [MARK]
    folder.rename(tmp_path / "away")
    say = Log()
    assert fetch(row, tmp_path / "data", file=copy, say=say) == folder
    assert fetch(row, tmp_path / "data", file=copy, say=say) == folder
    assert "already there" in say[-1]


def test_asterisk_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    row = source(b"x", form="asterisk_deb")
    with pytest.raises(UserError, match=r"ffmpeg is not installed.*install it"):
        fetch(row, tmp_path, say=Log())
    assert names(tmp_path) == []


def test_asterisk_packages_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.deb"
    for content in (b"", b"PK", b"!<arch>\n", b"!<arch>\n" + b"x" * 30):
        path.write_bytes(content)
        with pytest.raises(UserError, match="no Debian package"):
            asterisk.ar_member(path, "data.tar")
    path.write_bytes(deb({}))
    with pytest.raises(UserError, match="no prompts of en_US_f_Allison"):
        asterisk._read_package(path)
    path.write_bytes(deb({"../../../../../up.g722": b"x"}))
    with pytest.raises(UserError, match="no prompts"):
        asterisk._read_package(path)
