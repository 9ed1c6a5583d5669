"""Scoring snapshots, off the clock: likelihood and copy-synthesis of held-out speech.

Every snapshot of every arm hears the same utterances with the same noise z, so that arms differ
by their weights and nothing else. Scoring reads a run's directory and appends to its record; a
crash here loses no training, and scoring again goes on where it stopped: only metrics that a
snapshot lacks are computed.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import soundfile
import torch

from wg.audio.mel import MelConfig
from wg.audio.store import Store
from wg.checkpoint.weights import load_model
from wg.flow import WaveGlow
from wg.flow.waveglow import gaussian_constant, nll
from wg.measure.metrics import DEFAULT
from wg.measure.quality import score
from wg.measure.record import Event, Record, read_events, scores, snapshots


@dataclass(frozen=True)
class Sigmas:
    """prior: of the likelihood, the one that the model was trained with; noise: scale of the
    noise that speech is generated from."""

    prior: float
    noise: float


Z_SEED = 1811  # of the paper's number; any fixed one will do


def grid_utterances(store: Store, seconds: float, sampling_rate: int) -> list[int]:
    """The first held-out utterances that together last at least ``seconds``."""
    chosen: list[int] = []
    total = 0
    for i in store.held_out:
        if chosen and total >= seconds * sampling_rate:
            break
        chosen.append(i)
        total += store.n_samples(i)
    return chosen


def fixed_noise(model: WaveGlow, utterance: str, frames: int) -> torch.Tensor:
    """z (1, n_group, T') of an utterance: the same for every model of the same group size."""
    return noise_of(utterance, model.z_shape(1, frames))


def noise_of(utterance: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Unit Gaussian noise of an utterance's own, always the same."""
    seed = zlib.crc32(f"{Z_SEED}:{utterance}".encode())
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator)


@torch.no_grad()
def judge(
    model: WaveGlow,
    store: Store,
    i: int,
    sigmas: Sigmas,
    device: torch.device,
    likelihood: bool = True,
) -> tuple[float, np.ndarray, np.ndarray]:
    """(nats per sample, reference (T,), generated (T,)) of utterance ``i`` from its own mel;
    without ``likelihood`` the first is nan and costs nothing."""
    G, hop = model.config.n_group, model.config.upsample_stride
    T = store.n_samples(i) // G * G
    audio = store.audio(i, 0, T)
    frames = -(-T // hop)
    mel = store.mel(i, 0, frames)[None].to(device)
    shared = model.conditioning(mel, frames * hop)
    z = fixed_noise(model, store.ids[i], frames).to(device)
    generated = model.infer(mel, sigmas.noise, z=z, shared=shared)[0, :T].float().cpu().numpy()
    if not likelihood:
        return float("nan"), audio.numpy(), generated
    of_audio = [None if c is None else c[:, :, : T // G] for c in shared]
    loss = nll(model(mel, audio[None].to(device), shared=of_audio), sigmas.prior)
    return float(loss) + gaussian_constant(sigmas.prior), audio.numpy(), generated


def score_utterances(
    model: WaveGlow,
    store: Store,
    utterances: Sequence[int],
    sigmas: Sigmas,
    mel: MelConfig,
    device: torch.device,
    metrics: Sequence[str] = DEFAULT,
) -> dict[str, dict[str, float]]:
    """Utterance id -> metric -> value."""
    model = model.to(device)
    result = {}
    likelihood = "nats_per_sample" in metrics
    for i in utterances:
        nats, reference, generated = judge(model, store, i, sigmas, device, likelihood)
        own = {"nats_per_sample": nats} if likelihood else {}
        result[store.ids[i]] = {**own, **score(reference, generated, mel, metrics)}
    return result


def mean_metrics(per_utterance: dict[str, dict[str, float]]) -> dict[str, float]:
    """Plain mean over utterances; an utterance without a value (nan) leaves the metric nan."""
    names = next(iter(per_utterance.values()))
    return {n: fmean(u[n] for u in per_utterance.values()) for n in names}


@dataclass(frozen=True)
class Scored:
    """What a pass over a run's snapshots did: how many were given metrics, how many lack some
    but have no weights on disk any more, and how many there are."""

    filled: int
    gone: int
    total: int


def score_run(
    run_dir: Path,
    store: Store,
    mel: MelConfig,
    record: Record,
    *,
    sigmas: Sigmas,
    grid_seconds: float,
    samples: int,
    keep: str,
    device: torch.device,
    say: Callable[[str], None],
    metrics: Sequence[str] = DEFAULT,
) -> Scored:
    """Give every snapshot those of ``metrics`` that it lacks: all on the grid set, the last on all
    of the held-out speech, with a few utterances kept as audio."""
    events = read_events(run_dir)
    taken = snapshots(events)
    rate = mel.sampling_rate
    grid = grid_utterances(store, grid_seconds, rate)
    known = {s: scores(events, s) for s in ("grid", "held_out")}
    filled = gone = 0
    for n, snap in enumerate(taken):
        last = n == len(taken) - 1
        sets = {"grid": grid, **({"held_out": store.held_out} if last else {})}
        lacking = {s: _lacking(known[s], snap, metrics) for s in sets}
        todo = [s for s in sets if lacking[s]]
        folder = run_dir / snap["path"]
        if todo and not folder.exists():
            gone += 1
        elif todo:
            model, _ = load_model(folder, device)
            wanted = sorted({i for s in todo for i in sets[s]})
            names = [m for m in metrics if any(m in lacking[s] for s in todo)]
            per = score_utterances(model, store, wanted, sigmas, mel, device, names)
            means = {}
            for s in todo:
                mine = {
                    store.ids[i]: {m: per[store.ids[i]][m] for m in lacking[s]} for i in sets[s]
                }
                means[s] = mean_metrics(mine)
                record.write(
                    "score",
                    index=snap["index"],
                    step=snap["step"],
                    audio_seconds=snap["audio_seconds"],
                    sha256=snap["sha256"],
                    set=s,
                    sigma=sigmas.noise,
                    metrics=means[s],
                    utterances=mine,
                )
            filled += 1
            say(
                f"scored {n + 1}/{len(taken)}: "
                + ", ".join(f"{k} {v:.3f}" for k, v in means[todo[0]].items())
            )
        if last and folder.exists() and not any(e["event"] == "samples" for e in events):
            model, _ = load_model(folder, device)
            _keep_samples(run_dir, model, store, samples, sigmas, rate, record, device)
        if keep == "last" and not last:
            shutil.rmtree(folder, ignore_errors=True)
    return Scored(filled, gone, len(taken))


def _lacking(known: list[Event], snap: Event, metrics: Sequence[str]) -> tuple[str, ...]:
    """Those of ``metrics`` that the snapshot's weights have no score of among a set's."""
    found = [e for e in known if e["index"] == snap["index"] and e.get("sha256") == snap["sha256"]]
    return tuple(m for m in metrics if not found or m not in found[0]["metrics"])


def _keep_samples(
    run_dir: Path,
    model: WaveGlow,
    store: Store,
    n: int,
    sigmas: Sigmas,
    rate: int,
    record: Record,
    device: torch.device,
) -> None:
    folder = run_dir / "samples"
    folder.mkdir(exist_ok=True)
    audio: dict[str, dict[str, Any]] = {}
    for i in store.held_out[:n]:
        _, reference, generated = judge(model, store, i, sigmas, device)
        name = store.ids[i].replace("/", "__")  # ids of a folder are relative paths
        files = {}
        for kind, wave in (("reference", reference), ("generated", generated)):
            path = folder / f"{name}.{kind}.flac"
            clipped = np.nan_to_num(np.clip(wave, -1.0, 1.0))
            soundfile.write(path, clipped, rate, subtype="PCM_16")
            files[kind] = str(path.relative_to(run_dir))
        audio[store.ids[i]] = files
    record.write("samples", audio=audio, sampling_rate=rate, sigma=sigmas.noise)
