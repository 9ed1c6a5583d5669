"""Audio players and spectrograms: the reference and what each arm made of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wg.audio.io import opus_bytes, read_audio
from wg.audio.mel import MelConfig, MelSpectrogram
from wg.audio.picture import png_bytes
from wg.errors import UserError
from wg.report.data import Arm, Run, Sweep

_CARD_METRICS = ("log_mel_l1", "pesq_wb", "estoi")


@dataclass(frozen=True)
class Clip:
    """One player. ``audio`` and ``picture`` are data URIs; ``arm`` is None for the reference;
    ``role`` is reference, baseline, winner or other; ``metrics`` are this utterance's own."""

    label: str
    arm: str | None
    role: str
    seconds: float
    audio: str
    picture: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Utterance:
    """The clips of one held-out utterance: reference, baseline, winner, the others."""

    name: str
    clips: tuple[Clip, ...]


def listening(sweep: Sweep, winner: str, seed: int) -> tuple[list[Utterance], list[str]]:
    """(utterances, what is missing) for the runs of ``seed``; an arm that lacks the seed is
    heard with its first one, and its label says so. The noise z is the same for all."""
    order = [sweep.baseline, winner, *sweep.arms]
    arms = [sweep.arms[n] for n in dict.fromkeys(order) if sweep.arms[n].finished]
    runs = {a.name: _run_of(a, seed) for a in arms}
    names = list(dict.fromkeys(u for r in runs.values() for u in _audio(r)))
    utterances, missing = [], []
    for name in names:
        clips: list[Clip] = []
        for arm, run in runs.items():
            files = _audio(run).get(name)
            if files is None:
                missing.append(f"{arm} has no sample of {name}.")
                continue
            try:
                if not clips:
                    clips.append(_clip(run, name, files["reference"], role="reference"))
                roles = [
                    r for r, n in (("baseline", sweep.baseline), ("winner", winner)) if n == arm
                ]
                label = f"{arm}, seed {run.seed}"
                role = " and ".join(roles) or "other"
                clips.append(_clip(run, name, files["generated"], role=role, arm=arm, label=label))
            except (UserError, KeyError) as e:
                missing.append(
                    f"A sample of run {run.id} cannot be played ({_reason(e, run.path)})."
                )
        if clips:
            utterances.append(Utterance(name, tuple(clips)))
    return utterances, missing


def _run_of(arm: Arm, seed: int) -> Run:
    return next((r for r in arm.finished if r.seed == seed), arm.finished[0])


def _audio(run: Run) -> Mapping[str, Mapping[str, str]]:
    return (run.samples or {}).get("audio") or {}


def _clip(
    run: Run, name: str, file: str, *, role: str, arm: str | None = None, label: str = "recording"
) -> Clip:
    assert run.samples is not None
    rate = int(run.samples["sampling_rate"])
    wave = read_audio(run.path / file, rate)
    scores: Mapping[str, Any] = run.utterances.get(name) or {} if arm else {}
    return Clip(
        label=label,
        arm=arm,
        role=role,
        seconds=len(wave) / rate,
        audio=_uri("audio/ogg", opus_bytes(wave, rate)),
        picture=_uri("image/png", png_bytes(_mel(run, wave, rate))),
        metrics={m: scores[m] for m in _CARD_METRICS if scores.get(m) is not None},
    )


def _mel(run: Run, wave: np.ndarray, rate: int) -> np.ndarray:
    """Log-mel (n_mels, F) of a (T,) signal, with the run's own mel settings."""
    import torch

    known = MelConfig.__dataclass_fields__
    given = (run.config.get("data") or {}).get("mel") or {}
    settings = {k: v for k, v in given.items() if k in known}
    if "f_max" not in settings:
        settings["f_max"] = min(8000.0, rate / 2)
    mel = MelSpectrogram(MelConfig(**{**settings, "sampling_rate": rate}))
    picture: np.ndarray = mel(torch.from_numpy(wave)[None])[0].numpy()
    return picture


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _reason(error: Exception, folder: Path) -> str:
    """Without the machine's own path: the page travels."""
    return str(error).replace(f"{folder}/", "").rstrip(".")
