"""``wg data``: tables, exit codes, files written, sentences for mistakes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from audio.archives import archive, source
from audio.local_server import serve
from click.testing import CliRunner, Result

from wg.audio.fetch import sources
from wg.cli_data import data
from wg.errors import UserError

ROOT = Path(__file__).parents[2]
LJ_MINI = ROOT.parent / "shared" / "data" / "LJSpeech-mini"
Make = Callable[..., Path]


def run(*arguments: str | Path) -> Result:
    """As ``wg`` runs it: a user's mistake is raised for the command line to print."""
    result = CliRunner().invoke(data, [str(a) for a in arguments], env={"COLUMNS": "200"})
    if isinstance(result.exception, UserError):
        raise result.exception
    return result


def test_check_a_good_folder(recordings: Make, tmp_path: Path) -> None:
    folder = recordings([20000 + k for k in range(20)])
    result = run("check", folder, "--json", tmp_path / "out" / "check.json")
    assert result.exit_code == 0, result.output
    assert "nothing to object to" in result.output
    assert f"wg train data=folder data.path={folder} data.sampling_rate=16000" in result.output
    facts = json.loads((tmp_path / "out" / "check.json").read_text())
    assert facts["summary"]["files"] == 20
    assert facts["split"]["n_train"] == 19
    assert len(facts["files"]) == 20
    assert facts["verdict"] == []


def test_check_ends_with_2_where_training_would_stop(recordings: Make) -> None:
    folder = recordings([20000, 20001, 20002, 3000])
    result = run("check", folder, "--held-out", "1", "--sampling-rate", "22050")
    assert result.exit_code == 2
    assert "would stop training" in result.output
    assert "data.sampling_rate=16000, or data.resample=true" in result.output
    assert "train on it" not in result.output
    mended = run("check", folder, "--held-out", "1", "--short-clips", "skip", "--jobs", "1")
    assert mended.exit_code == 0
    assert "deserves a look" in mended.output
    assert run("check", folder / "000.wav").exit_code == 0


def test_check_mistakes(recordings: Make, tmp_path: Path) -> None:
    folder = recordings([20000] * 3)
    assert run("check", folder, "--held-out", "some").exit_code == 2
    with pytest.raises(UserError, match=r"data\.held_out=2\.0"):
        run("check", folder, "--held-out", "2.0")
    with pytest.raises(UserError, match="does not exist"):
        run("check", tmp_path / "none")


def test_check_overwrites_nothing_but_its_own(
    recordings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recordings([20000 + k for k in range(20)])
    wav = next(folder.glob("*.wav"))
    before = wav.read_bytes()
    other = tmp_path / "other.json"
    other.write_text('{"path": "x"}')
    huge = tmp_path / "deep.json"
    huge.write_text("{" + "[" * 100_000)
    monkeypatch.setattr("wg.audio.check.findings.inspect", None)  # refused before any decoding
    for target, words in (
        (wav, "exists and was not written by"),
        (other, "exists and was not written by"),
        (huge, "exists and was not written by"),
        (folder, "is a folder: name a file in it"),
        (other / "x.json", f"{other} is a file"),
        (other / "deep" / "x.json", f"{other} is a file"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("/dev/null"), "exists and was not written by"),
    ):
        with pytest.raises(UserError, match=words):
            run("check", folder, "--json", target)
    monkeypatch.undo()
    assert wav.read_bytes() == before
    mine = tmp_path / "mine.json"
    for _ in range(2):
        assert run("check", folder, "--json", mine).exit_code == 0
    assert json.loads(mine.read_text())["format"] == "wg-data-check/1"


def test_names_are_not_markup(recordings: Make, tmp_path: Path) -> None:
    folder = tmp_path / "e7[" / "x] :smile: [bold]"
    folder.parent.mkdir()
    shutil.move(recordings([20000 + k for k in range(20)]), folder)
    name = "a[/b] :smile:.wav"
    (folder / "a[").mkdir()
    shutil.copy(next(folder.glob("*.wav")), folder / name)
    result = run("check", folder)
    assert result.exception is None, result.exception
    assert f".wav = {name}" in result.output or f"{name} = " in result.output
    assert ":smile: [bold]" in result.output


@pytest.mark.skipif(not LJ_MINI.is_dir(), reason="../shared/data/LJSpeech-mini is not there")
def test_check_ljspeech_mini() -> None:
    result = run("check", LJ_MINI, "--held-out", "4")
    assert result.exit_code == 0, result.output
    assert "LJSpeech's layout" in result.output
    assert "28 to train on (3.2 min), 4 held out" in result.output
    wrong = run("check", LJ_MINI, "--sampling-rate", "16000")
    assert wrong.exit_code == 2


def test_fetch_lists_what_there_is() -> None:
    result = run("fetch")
    assert result.exit_code == 0
    for row in sources.SOURCES.values():
        assert row.name in result.output
        assert row.licence in result.output


def test_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = archive()
    row = dataclasses.replace(source(content), name="lj", folder="LJ")
    monkeypatch.setitem(sources.SOURCES, "lj", row)
    with serve(content) as served:
        result = run("fetch", "lj", "--url", served.url)
    assert result.exit_code == 0, result.output
    assert "wg train data=ljspeech data.path=data/LJ" in result.output
    assert (tmp_path / "data" / "LJ" / "metadata.csv").exists()
    assert "already there" in run("fetch", "lj").output
    copy = tmp_path / "copy"
    copy.write_bytes(content)
    assert run("fetch", "lj", "-o", tmp_path / "two", "--file", copy).exit_code == 0
    assert copy.exists()
    shutil.rmtree(tmp_path / "two")


def test_fetch_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'ljspeech'"):
        run("fetch", "ljspeach")
    with pytest.raises(UserError, match="exclude each other"):
        run("fetch", "ljspeech", "--url", "http://x", "--file", "y")
    with pytest.raises(UserError, match=r"--file=.* is not a file: name the archive LJSpeech-1\.1"):
        run("fetch", "ljspeech", "-o", tmp_path, "--file", tmp_path / "none")
