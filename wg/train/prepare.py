"""What a model takes from the data before the first step; charged to the run as preparation."""

from __future__ import annotations

from dataclasses import replace

import torch

from wg.audio.mel import MelConfig, MelSpectrogram
from wg.audio.store import Store
from wg.flow import FlowConfig, WaveGlow
from wg.flow.actnorm import ActNorm
from wg.flow.conditioning import Interpolation, TransposedConv
from wg.flow.layers import WeightNormConv1d
from wg.flow.wn import WN
from wg.plan import Plan
from wg.train.data import SegmentStream

CPU = torch.device("cpu")
_SECONDS = 1200.0  # of training audio whose mels are enough for a mean and a deviation


def flow_config(config: FlowConfig, plan: Plan, n_fft: int) -> FlowConfig:
    """The model's size with what strategies change of it."""
    changes: dict[str, object] = dict(plan.shape or {})
    if plan.conditioning not in (None, "composed"):
        changes["conditioning"] = plan.conditioning
    if plan.front is not None:
        changes["front"], changes["front_n_fft"] = plan.front.kind, n_fft
        if plan.front.order:
            changes["front_order"] = plan.front.order
    if plan.actnorm:
        changes["actnorm"] = True
    if plan.consistency is not None:
        changes["consistency"], changes["front_n_fft"] = plan.consistency, n_fft
    return replace(config, **changes)  # type: ignore[arg-type]


def compute_as(model: WaveGlow, plan: Plan) -> None:
    """How the model computes what it computes in training; its parameters stay what they are."""
    if isinstance(model.upsample, TransposedConv):
        model.upsample.composed = plan.conditioning == "composed"
        model.upsample.fused = plan.wn == "fused"
    for wn in model.WN:
        assert isinstance(wn, WN)
        wn.fused, wn.recompute = plan.wn == "fused", plan.memory == "recompute"
        for layer in wn.modules():
            if isinstance(layer, WeightNormConv1d):
                layer.computed = plan.wn
    model.reversible = plan.memory == "reversible"


def tell_mel(model: WaveGlow, mel: MelConfig) -> None:
    """Give what computes with the mel's own analysis its filters and window."""
    of = MelSpectrogram(mel)
    if model.front is not None:
        model.front.spectrum.set_mel(of.filters, of.window)
    if model.consistency is not None:
        model.consistency.set_mel(of.filters, of.window)


@torch.no_grad()
def prepare(model: WaveGlow, plan: Plan, stream: SegmentStream, device: torch.device = CPU) -> None:
    """Statistics of the mel, data-dependent initialisation, activation norms: in this order. The
    last are a forward pass, which ``device`` makes."""
    if isinstance(model.upsample, Interpolation) and plan.donor is None:
        model.upsample.fit(*mel_statistics(stream.store, plan.base.sampling_rate))
    if plan.init is not None:
        plan.init(model, stream.store)
    if plan.actnorm and plan.donor is None:
        fit_actnorm(model, stream, device)


def mel_statistics(store: Store, sampling_rate: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean (M,), standard deviation (M,)) of the training mels, or of as many as are enough,
    taken evenly."""
    total = sum(store.n_samples(i) for i in store.train)
    every = max(1, int(total / sampling_rate / _SECONDS))
    count = 0
    first = second = torch.zeros(store.mel_config.n_mels, dtype=torch.float64)
    for i in store.train[::every]:
        mel = store.mel(i, 0, store.n_frames(i)).double()
        count += mel.shape[1]
        first, second = first + mel.sum(1), second + mel.square().sum(1)
    mean = first / count
    variance = second / count - mean.square()
    return mean.float(), variance.clamp_min(0).sqrt().float()


def fit_actnorm(model: WaveGlow, stream: SegmentStream, device: torch.device = CPU) -> None:
    """One forward pass over the first batch, each norm taking what reaches it."""
    norms = [m for m in model.actnorm if isinstance(m, ActNorm)]
    for norm in norms:
        norm.fitting = True
    mel, audio = next(iter(stream))
    home = next(model.parameters()).device
    away = home.type != device.type
    if away:
        model.to(device)
    model(mel.to(device), audio.to(device))
    if away:
        model.to(home)
    for norm in norms:
        norm.fitting = False
