"""The ends of the metrics' scales on a corpus: what a vocoder's scores lie between.

For each held-out utterance, from its own mel, without a trained model:

    ground_truth          the recording, rounded to 16 bits as every score hears it
    griffin_lim           Griffin-Lim: a spectrogram by non-negative least squares, 60 rounds of
                          phase estimation (Griffin and Lim 1984; the fast kind, Perraudin, Balazs
                          and Soendergaard 2013, as librosa has it); silent above the mel's f_max,
                          which mcd and mr_stft hold against it
    noise_lpc             white noise through the linear prediction that the mel tells
                          (wg.flow.front.LpcWhitening, order 128): the front end of lpc_whiten
                          before anything is learned
    noise_lpc_consistent  the same, fitted to the mel in 32 rounds (wg.flow.consistency)

The noise is that of wg.measure.score, so an untrained model with the same front end says the same
up to its 1x1 convolutions. Results are kept beside the stores, under the store's own name, which is
a digest of corpus and mel: they are computed once for each metric.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wg.audio.mel import MelConfig, MelSpectrogram
from wg.audio.store import Store
from wg.errors import UserError
from wg.files import write_json
from wg.flow.config import FlowConfig
from wg.flow.consistency import MelConsistency
from wg.flow.front import LpcWhitening
from wg.measure.metrics import check_metrics_installed
from wg.measure.quality import COMPUTE, score
from wg.measure.record import finite
from wg.measure.score import mean_metrics, noise_of

FORMAT = 1  # of the kept results; a change of what is generated makes it another
ROUNDS = 60  # of Griffin-Lim
LPC_ORDER, FITTING_ROUNDS = 128, 32

# utterance -> metric -> value
Values = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Speech:
    """An utterance to say: name, reference (T,), mel (n_mels, F) with F * hop >= T."""

    name: str
    reference: np.ndarray
    mel: Tensor


def measure_ends(
    store: Store, metrics: Iterable[str], say: Callable[[str], None] = lambda _: None
) -> dict[str, dict[str, float]]:
    """Name of the end -> metric -> mean over all held-out speech; nan where an utterance has no
    value. Of ``metrics`` those that listen to audio.

    Errors: UserError for a metric whose packages are not installed.
    """
    wanted = [m for m in metrics if m in COMPUTE]
    check_metrics_installed(wanted)
    if not wanted:
        raise UserError("--ends: none of these metrics listens to audio; name one more.")
    path = store.path.parent.parent / "ends" / f"{store.path.name}.json"
    known = _read(path)
    for name, generate in _generators(store.mel_config).items():
        values = known.setdefault(name, {})
        lacking = [m for m in wanted if any(m not in values.get(u, {}) for u in _names(store))]
        if not lacking:
            continue
        say(f"{name}: {', '.join(lacking)} of {len(store.held_out)} held-out utterances")
        for i in store.held_out:
            speech = utterance(store, i)
            found = score(speech.reference, generate(speech), store.mel_config, lacking)
            values.setdefault(speech.name, {}).update(found)
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
            write_json(path, {"format": FORMAT, "ends": finite(known)})
    return {
        name: mean_metrics({u: {m: known[name][u][m] for m in wanted} for u in _names(store)})
        for name in _generators(store.mel_config)
    }


def utterance(store: Store, i: int) -> Speech:
    """Utterance ``i`` of a store, cut to whole groups of 8 samples as models of the usual size
    hear it."""
    T = store.n_samples(i) // 8 * 8
    frames = -(-T // store.mel_config.hop_length)
    return Speech(store.ids[i], store.audio(i, 0, T).numpy(), store.mel(i, 0, frames))


def griffin_lim(speech: Speech, mel: MelConfig) -> np.ndarray:
    """Audio (T,) of the speech's mel alone, by Griffin-Lim."""
    import librosa  # slow to import

    filters = MelSpectrogram(mel).filters.numpy()
    magnitude = librosa.util.nnls(filters, speech.mel.exp().numpy())
    # A frame at the very end, where there is one, is not in the mel that a vocoder is given.
    missing = 1 + len(speech.reference) // mel.hop_length - magnitude.shape[1]
    magnitude = np.pad(magnitude, ((0, 0), (0, missing)), mode="edge")
    return librosa.griffinlim(
        magnitude,
        n_iter=ROUNDS,
        hop_length=mel.hop_length,
        win_length=mel.win_length,
        n_fft=mel.n_fft,
        length=len(speech.reference),
        pad_mode="reflect",
        random_state=0,
    )


class NoiseThroughMel:
    """White noise with the spectrum that a mel tells; with ``rounds`` fitted to it, too."""

    def __init__(self, mel: MelConfig, rounds: int) -> None:
        hop = mel.hop_length
        config = FlowConfig(
            n_mels=mel.n_mels,
            n_flows=1,
            n_group=2,
            upsample_stride=hop,
            upsample_kernel=hop,
            front="lpc_whiten",
            front_order=LPC_ORDER,
            front_n_fft=mel.n_fft,
            consistency=rounds,
        )
        of = MelSpectrogram(mel)
        self.hop = hop
        self.front = LpcWhitening(config)
        self.front.spectrum.set_mel(of.filters, of.window)
        self.fit = MelConsistency(config) if rounds else None
        if self.fit is not None:
            self.fit.set_mel(of.filters, of.window)

    @torch.no_grad()
    def __call__(self, speech: Speech) -> np.ndarray:
        """Audio (T,) of the speech's mel and its name's noise."""
        mel = speech.mel[None]
        n = mel.shape[2] * self.hop
        G = 8 if n % 8 == 0 else 2
        # In the order in which a WaveGlow lays groups out as samples.
        noise = noise_of(speech.name, (1, G, n // G)).transpose(1, 2).reshape(1, n)
        audio = self.front.inverse(mel, noise)
        if self.fit is not None:
            audio = self.fit(mel, audio)
        return audio[0, : len(speech.reference)].numpy()


def _generators(mel: MelConfig) -> dict[str, Callable[[Speech], np.ndarray]]:
    return {
        "ground_truth": lambda speech: speech.reference,
        "griffin_lim": lambda speech: griffin_lim(speech, mel),
        "noise_lpc": NoiseThroughMel(mel, 0),
        "noise_lpc_consistent": NoiseThroughMel(mel, FITTING_ROUNDS),
    }


def _names(store: Store) -> list[str]:
    return [store.ids[i] for i in store.held_out]


def _read(path: Path) -> dict[str, Values]:
    """Kept results; nothing when there are none, or none that can be read."""
    try:
        kept: Any = json.loads(path.read_text())
        if kept["format"] != FORMAT:
            return {}
        return {name: {u: _numbers(v) for u, v in of.items()} for name, of in kept["ends"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    return {m: math.nan if v is None else float(v) for m, v in values.items()}
