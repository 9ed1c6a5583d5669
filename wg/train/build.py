"""Plan -> model, data, Trainer: the one place where slots become objects."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins import Precision
from lightning.pytorch.strategies import Strategy

from wg.audio.cache import default_cache_dir
from wg.audio.config import DataConfig
from wg.audio.corpus import Corpus, check_segments, load_corpus
from wg.audio.store import Store
from wg.checkpoint.layouts import is_folded, unfold
from wg.checkpoint.weights import read_weights
from wg.errors import UserError
from wg.flow import WaveGlow
from wg.flow.grow import load_donor
from wg.plan import Plan
from wg.train.apex_amp import LEVELS, check_amp
from wg.train.checkpoint import SafeCheckpointIO
from wg.train.compile import check_compiled
from wg.train.data import SegmentData
from wg.train.guard import GuardedMixed, GuardedPrecision
from wg.train.module import WaveGlowModule
from wg.train.parts import longest_segment
from wg.train.prepare import compute_as, flow_config, tell_mel
from wg.train.ranks import ddp_strategy
from wg.train.settings import Settings


@dataclass
class Job:
    """What a run trains with."""

    settings: Settings
    plan: Plan
    device: torch.device
    corpus: Corpus
    store: Store
    data: SegmentData
    module: WaveGlowModule


def resolve_device(name: str) -> torch.device:
    """auto: the GPU when there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(f"device={name!r} must be auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device=cuda, but this PyTorch sees no GPU; use device=cpu or see `wg doctor`."
        )
    return torch.device(name)


def open_corpus(data: DataConfig, plan: Plan) -> Corpus:
    """The corpus, checked against every segment length."""
    return check_segments(load_corpus(data), longest_segment(plan), data.short_clips)


def open_store(settings: Settings, plan: Plan) -> tuple[Corpus, Store]:
    """The corpus and its mels (computed once)."""
    corpus = open_corpus(settings.data, plan)
    device = plan.mel_device or settings.data.mel_device
    return corpus, Store.prepare(corpus, settings.data.mel, default_cache_dir(), device=device)


def build(settings: Settings, begun: bool = False) -> Job:
    """Everything but the Trainer, on the CPU. Deterministic in the seed. A run that has ``begun``
    has its weights from a checkpoint and needs no donor, which may be gone by then."""
    plan = settings.plan()
    device = resolve_device(settings.device)
    check_compiled(plan)
    check_amp(plan)
    set_matmul(plan.matmul, plan.cudnn_benchmark)
    corpus, store = open_store(settings, plan)
    L.seed_everything(settings.seed, verbose=False)
    model = WaveGlow(flow_config(settings.model, plan, settings.data.mel.n_fft))
    tell_mel(model, settings.data.mel)
    compute_as(model, plan)
    if plan.donor is not None and not begun:
        donor_config, weights, meta = read_weights(donor_folder(plan.donor.path))
        if not plan.donor.any_mel:
            check_donor(meta, settings.data)
        if is_folded(weights):
            weights = unfold(weights)
        generator = torch.Generator().manual_seed(settings.seed)
        load_donor(model, donor_config, weights, generator)
    hop = settings.data.mel.hop_length
    silence_db = settings.data.silence_db
    data = SegmentData(store, plan, hop, pin_memory=device.type == "cuda", silence_db=silence_db)
    module = WaveGlowModule(model, plan, data, settings.sigma)
    return Job(settings, plan, device, corpus, store, data, module)


def set_matmul(precision: str, by_trial: bool = False) -> None:
    """Arithmetic of products in this process: "highest" is fp32, "high" allows TF32 for it;
    ``by_trial``: cuDNN chooses its algorithm for every shape by trying them."""
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    torch.backends.cudnn.benchmark = by_trial


def donor_folder(path: str) -> Path:
    """A donor may be named by its run directory or by the folder of its weights."""
    if not path:
        raise UserError(
            "strategy.warm_start.donor is not set: name a finished run's directory, or a folder "
            "that `wg convert` made of another checkpoint."
        )
    folder = Path(path)
    for candidate in (folder / "final", folder):
        if (candidate / "model.json").exists():
            return candidate
    raise UserError(
        f"strategy.warm_start.donor={path} holds no finished model (no model.json or "
        "final/model.json); name a finished run's directory, or a folder that `wg convert` made "
        "of another checkpoint."
    )


def check_donor(meta: Mapping[str, Any], data: DataConfig) -> None:
    """UserError when the donor has learned the mels of another rate or analysis."""
    ours = {"sampling_rate": data.sampling_rate, **vars(data.mel)}
    theirs = {**(meta.get("mel") or {}), "sampling_rate": meta.get("sampling_rate")}
    for name, value in ours.items():
        if theirs.get(name) not in (None, value):
            raise UserError(
                f"the donor's {name} is {theirs[name]} and this corpus' is {value}: its weights "
                "mean other mels; choose a donor that was trained on such data, or set "
                "strategy.warm_start.any_mel=true."
            )


def trainer(job: Job, run_dir: Path, callbacks: list[L.Callback]) -> L.Trainer:
    """A Lightning Trainer for one pass over the stream, which ends with the budget."""
    plan = job.plan
    # The stream is cheap (a slice of mapped memory) and its workers would be the noise.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    return L.Trainer(
        accelerator="gpu" if job.device.type == "cuda" else "cpu",
        devices=plan.ranks.n,
        strategy=_strategy(job),
        max_epochs=1,
        gradient_clip_val=plan.gradient_clip,
        callbacks=callbacks,
        plugins=[SafeCheckpointIO(), precision_plugin(plan.precision, job.device)],
        default_root_dir=run_dir,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def precision_plugin(precision: str, device: torch.device) -> Precision:
    """What Lightning computes a Plan's ``precision`` with; its steps are made or not as the guard
    says."""
    if precision == "32-true":
        return GuardedPrecision()
    if precision in LEVELS:
        return LEVELS[precision]()
    # As a plugin, because Trainer(precision="16-mixed") silently turns into bf16 on a CPU.
    scaler = torch.amp.GradScaler(device.type) if precision == "16-mixed" else None
    return GuardedMixed(precision, device.type, scaler)  # type: ignore[arg-type]


def _strategy(job: Job) -> str | Strategy:
    if job.plan.ranks.n == 1:
        return "auto"
    # A growing flow has parameters without gradients.
    growing = job.plan.n_active_flows is not None
    return ddp_strategy(job.plan.ranks, job.device, find_unused=growing)
