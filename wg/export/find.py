"""Which model is meant: a run, a folder of weights, or the winner of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from wg.audio.io import read_audio
from wg.audio.mel import MelConfig, MelSpectrogram
from wg.errors import UserError
from wg.files import read_json


def find_model(path: Path) -> Path:
    """The model folder (model.safetensors + model.json) that ``path`` names.

    A file is taken for a checkpoint and named as it is. A run directory means its ``final/``; a
    report directory means the run that its ``results.json`` calls the winner, whose path may be
    absolute or relative to the current directory or to the report. Raises :class:`UserError`
    saying what is missing.
    """
    found = path if path.is_file() else _model_in(path)
    if found is not None:
        return found
    if not path.exists():
        raise UserError(f"{path} does not exist; name a run directory, a report or a model folder.")
    if (path / "results.json").is_file():
        return _winner(path, read_json(path / "results.json"))
    if any(path.glob("*/run.json")):
        raise UserError(
            f"{path} is a sweep: name one of its runs, or the report that `wg report {path}` "
            "writes."
        )
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
    if not isinstance(run, str) or not run:
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


def held_out_mels(model_dir: Path, most: int = 2) -> list[np.ndarray]:
    """Log-mels (n_mels, F) of the held-out references that the model's run kept, if any: real
    speech to try the export on."""
    info = read_json(model_dir / "model.json")
    run = model_dir.resolve().parent.parent  # final/ is a link into snapshots/
    files = sorted((run / "samples").glob("*.reference.flac"))[:most]
    mel = MelSpectrogram(MelConfig(**info["mel"]))
    return [
        mel(torch.from_numpy(read_audio(f, info["sampling_rate"]))[None])[0].numpy() for f in files
    ]
