"""Which model is meant: a run, a folder of weights, or the winner of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wg.errors import UserError
from wg.files import read_json


def find_model(path: Path) -> Path:
    """The model folder (model.safetensors + model.json) that ``path`` names.

    A run directory means its ``final/``; a report directory means the run that its
    ``results.json`` calls the winner, whose path may be absolute or relative to the current
    directory or to the report. Raises :class:`UserError` saying what is missing.
    """
    found = _model_in(path)
    if found is not None:
        return found
    if not path.exists():
        raise UserError(f"{path} does not exist; name a run directory, a report or a model folder.")
    if (path / "results.json").is_file():
        return _winner(path, read_json(path / "results.json"))
    raise UserError(
        f"{path} holds no model: a run directory has final/model.json when it is finished, a "
        "model folder has model.json, a report has results.json."
    )


def _model_in(path: Path) -> Path | None:
    for folder in (path / "final", path):
        if (folder / "model.json").is_file():
            return folder
    return None


def _winner(report: Path, results: Any) -> Path:
    winner = results.get("winner") if isinstance(results, dict) else None
    run = winner.get("run") if isinstance(winner, dict) else None
    if not run:
        raise UserError(
            f"{report / 'results.json'} names no winner; read the report for the reason, or name "
            "the run directory to export."
        )
    places = [Path(run), report / run]
    for place in places:
        found = _model_in(place)
        if found is not None:
            return found
    if any(place.is_dir() for place in places):
        raise UserError(
            f"the winner of {report}, {run}, has no final/model.json; finish that run, or name "
            "another one."
        )
    raise UserError(
        f"the winner of {report} is {run}, which is not there any more; run that arm again, or "
        "name the directory that the run was moved to."
    )
