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
