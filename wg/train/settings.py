"""The resolved configuration of a run, typed and checked; the contract of a run directory."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wg.audio.config import DataConfig
from wg.errors import UserError
from wg.fields import fill, fit
from wg.flow.config import FlowConfig
from wg.measure.metrics import DEFAULT, check_metrics, check_metrics_installed
from wg.measure.target import Target
from wg.plan import Base, Plan
from wg.strategies import check_installed, make_plan

# Keys that say where a run is written, watched and judged. They change nothing in its result,
# so they are no part of its identity; nor is evaluation.metrics.
NOT_IDENTITY = ("arm", "out", "logger", "target")


@dataclass(frozen=True)
class Budget:
    """audio_seconds: how much audio to train on, which defines progress. train_seconds: stop
    once the headline clock passes it (at a step's end), whatever progress says."""

    audio_seconds: float = 600.0
    train_seconds: float | None = None


@dataclass(frozen=True)
class Snapshots:
    """every: audio seconds between snapshots of the evaluation weights; also: further points, for
    a finer look at the start. Together they are the grid, the same for all arms. keep: "last"
    drops the weights of earlier ones once they are scored, "all" keeps them."""

    every: float = 60.0
    also: tuple[float, ...] = ()
    keep: Literal["last", "all"] = "last"


@dataclass(frozen=True)
class Evaluation:
    """sigma of the noise; seconds of held-out audio that every snapshot is scored on (whole
    utterances, at least one); the last snapshot is scored on all of it. samples: utterances
    whose audio is kept for listening. metrics: names of wg.measure.metrics to score; others can
    be added later (`wg score`), so they are no part of a run's identity."""

    sigma: float = 1.0
    grid_seconds: float = 12.0
    samples: int = 2
    metrics: tuple[str, ...] = DEFAULT


@dataclass(frozen=True)
class Settings:
    """Everything a run needs, from ``config.yaml`` of its directory."""

    model: FlowConfig
    data: DataConfig
    recipe: str = "nvidia"
    strategy: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seed: int = 0
    segment_length: int = 16000
    batch_size: int = 1
    sigma: float = 1.0
    threads: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    log_every: int = 10
    budget: Budget = Budget()
    snapshots: Snapshots = Snapshots()
    evaluation: Evaluation = Evaluation()
    logger: Mapping[str, Any] = field(default_factory=dict)
    target: Mapping[str, Any] = field(default_factory=dict)
    arm: str | None = None
    out: str = ""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Checked settings. Raises :class:`UserError` naming the first wrong one."""
        strategies = {
            k: fit(f"strategy.{k}", v or {}, Mapping)
            for k, v in fit("strategy", config.get("strategy") or {}, Mapping).items()
        }
        data = DataConfig.from_dict(fit("data", config.get("data") or {}, Mapping))
        settings = cls(**fill(cls, {**config, "data": data, "strategy": strategies}, ""))
        settings._check()
        return settings

    def _check(self) -> None:
        for name in ("segment_length", "batch_size", "threads", "log_every"):
            value = getattr(self, name)
            _require(value >= 1, f"{name}={value} must be at least 1.")
        _require(self.seed >= 0, f"seed={self.seed} must be at least 0.")
        for name, value in (
            ("sigma", self.sigma),
            ("budget.audio_seconds", self.budget.audio_seconds),
            ("snapshots.every", self.snapshots.every),
            ("evaluation.grid_seconds", self.evaluation.grid_seconds),
        ):
            _require(value > 0, f"{name}={value:g} must be positive.")
        _require(
            self.snapshots.every <= self.budget.audio_seconds,
            f"snapshots.every={self.snapshots.every:g} is more than the budget of "
            f"{self.budget.audio_seconds:g} audio seconds, so nothing would be scored on the way.",
        )
        _require(
            all(0 < at < self.budget.audio_seconds for at in self.snapshots.also),
            f"snapshots.also={list(self.snapshots.also)} must lie between 0 and the budget of "
            f"{self.budget.audio_seconds:g} audio seconds.",
        )
        _require(
            self.segment_length % self.model.n_group == 0,
            f"segment_length={self.segment_length} must be a multiple of model.n_group="
            f"{self.model.n_group}.",
        )
        _require(
            self.evaluation.sigma >= 0 and self.evaluation.samples >= 0,
            "evaluation.sigma and evaluation.samples must not be negative.",
        )
        limit = self.budget.train_seconds
        _require(limit is None or limit > 0, f"budget.train_seconds={limit} must be positive.")
        logger = self.logger.get("name", "none")
        _require(logger in ("wandb", "none"), f"logger.name={logger!r} must be 'wandb' or 'none'.")
        check_metrics(self.evaluation.metrics, "evaluation.metrics")
        self._check_target()
        mel = self.data.mel
        _require(
            mel.n_mels == self.model.n_mels and mel.hop_length == self.model.upsample_stride,
            f"the data has {mel.n_mels} mels every {mel.hop_length} samples, the model expects "
            f"{self.model.n_mels} every {self.model.upsample_stride}: set model.n_mels and "
            "model.upsample_stride to the data's.",
        )

    def _check_target(self) -> None:
        target = Target.from_mapping(self.target)
        for condition in target.conditions if target else ():
            _require(
                condition.metric in self.evaluation.metrics,
                f"target '{self.target.get('name')}' is about {condition.metric}, which is not "
                "scored: add it to evaluation.metrics.",
            )

    def grid(self) -> list[float]:
        """Audio seconds at which snapshots are due, from 0; the end of the budget comes on top."""
        n = math.floor(self.budget.audio_seconds / self.snapshots.every + 1e-9)
        regular = [i * self.snapshots.every for i in range(n + 1)]
        return sorted({*regular, *self.snapshots.also})

    def base(self) -> Base:
        return Base(
            sampling_rate=self.data.sampling_rate,
            segment_length=self.segment_length,
            batch_size=self.batch_size,
            n_flows=self.model.n_flows,
            n_stages=len(self.model.stages()),
            audio_seconds=self.budget.audio_seconds,
            seed=self.seed,
        )

    def plan(self) -> Plan:
        """The recipe applied. Raises StrategyConflict and other user errors."""
        plan = make_plan(self.base(), self.strategy)
        check_installed(self.strategy)
        check_metrics_installed(self.evaluation.metrics)
        check_steps(plan, (plan.shape or {}).get("n_group", self.model.n_group))
        return plan


def check_steps(plan: Plan, n_group: int) -> None:
    """Every segment length and batch size that will occur must be usable."""
    n = 1000
    for i in range(n + 1):
        length, batch = step_shape(plan, i / n)
        _require(
            length % n_group == 0,
            f"a segment of {length} samples is not a whole number of groups of {n_group}.",
        )
        _require(
            batch % plan.ranks.n == 0,
            f"a batch of {batch} cannot be divided over {plan.ranks.n} ranks; set batch_size to a "
            f"multiple of {plan.ranks.n} or strategy.ddp.ranks to a divisor of {batch}.",
        )


def step_shape(plan: Plan, progress: float) -> tuple[int, int]:
    """(segment length in samples, segments in the step over all ranks) at ``progress``."""
    length = plan.segment_length or (lambda _: plan.base.segment_length)
    batch = plan.batch_size or (lambda _: plan.base.batch_size)
    return int(length(progress)), int(batch(progress))


def identity(config: Mapping[str, Any]) -> str:
    """Hash of what determines a run's result: 8 hexadecimal digits."""
    kept = {k: v for k, v in config.items() if k not in NOT_IDENTITY}
    evaluation = kept.get("evaluation")
    if isinstance(evaluation, Mapping):
        kept["evaluation"] = {k: v for k, v in evaluation.items() if k != "metrics"}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise UserError(sentence)
