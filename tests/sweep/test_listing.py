"""Tables of runs and strategies: names are shown as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wg.errors import UserError
from wg.sweep.listing import show_runs


def test_names_of_runs_are_not_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("c [bold] :smile:", os.fsdecode(b"d\xff")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    show_runs(tmp_path)
    said = capsys.readouterr().out
    for name in ("c [bold] :smile:", "d\\xff"):
        assert name in said


def test_a_folder_without_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no runs"):
        show_runs(tmp_path)
