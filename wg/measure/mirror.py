"""W&B as a mirror of the record: one W&B run a run, grouped by arm.

The mirror only listens to events, so it can be rebuilt from ``events.jsonl`` at any time, and a
failing W&B never stops a run. Offline unless ``logger.mode`` or WANDB_MODE says otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wg.files import read_settings_file
from wg.measure.clock import Kind, headline
from wg.measure.record import Event, read_events, scores, snapshots
from wg.measure.target import Target, crossing


class WandbMirror:
    """A listener of :class:`wg.measure.record.Record`.

    Never passes W&B's own step: audio seconds seen and train seconds are fields, and every
    metric is bound to one of them as its axis.
    """

    def __init__(
        self,
        logger: Mapping[str, Any],
        identity: Mapping[str, Any],
        run_dir: Path,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.logger, self.identity, self.run_dir, self.say = logger, identity, run_dir, say
        self.run: Any = None
        self.kind: Kind = "cpu"
        self.donor = 0.0  # seconds that a warm start is charged for
        self.broken = False

    def __call__(self, event: Event) -> None:
        if self.broken:
            return
        try:
            self._mirror(event)
        except Exception as e:  # W&B is a mirror: its troubles are told and never cost a run
            self.broken = True
            self.say(
                f"W&B is off for this run ({type(e).__name__}: {e}); the record on disk is whole"
            )

    def _mirror(self, event: Event) -> None:
        kind = event["event"]
        if kind == "start":
            self._start(event)
        elif self.run is None:
            return
        elif kind == "train":
            row = {f"train/{k}": event[k] for k in _TRAIN if event.get(k) is not None}
            self.run.log({**self._axes(event), **row})
        elif kind == "score":
            place = "eval" if event["set"] == "grid" else "held_out"
            row = {f"{place}/{k}": v for k, v in event["metrics"].items() if v is not None}
            snap = self._snapshot_of(event)
            self.run.log({**self._axes(snap), **row})
            self.run.summary.update(row)
        elif kind == "samples":
            self._samples(event)
        elif kind == "end":
            self.run.summary["status"] = event["status"]
            self._time_to_target()

    def _start(self, event: Event) -> None:
        if self.run is not None:  # a later attempt, when a whole record is mirrored again
            return
        import wandb

        os.environ.pop("WANDB_RUN_ID", None)  # another run's, inherited
        # Offline artifacts are staged by absolute path: keep them with the run.
        os.environ.setdefault("WANDB_DATA_DIR", str(self.run_dir / "wandb"))
        self.kind = event["clock_kind"]
        self.donor = (event.get("donor") or {}).get("train_seconds", 0.0)
        (self.run_dir / "wandb").mkdir(exist_ok=True)
        self.run = wandb.init(
            project=self.logger.get("project", "wg"),
            entity=self.logger.get("entity"),
            mode=self.logger.get("mode", "offline"),
            dir=str(self.run_dir),
            id=self.identity.get("wandb_id") or event["run"],
            name=f"{event['arm']} s{event['seed']}",
            group=event["arm"],
            job_type="train",
            tags=[event["recipe"], event["corpus"]["name"], *event["strategies"]],
            config={**self._config(), "facts": event},
            resume="allow",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        for axis in ("samples_seen", "audio_seconds", "train_seconds", "cpu_seconds"):
            self.run.define_metric(axis, hidden=True)
        self.run.define_metric("train/*", step_metric="audio_seconds")
        self.run.define_metric("eval/*", step_metric="train_seconds")
        self.run.define_metric("held_out/*", step_metric="train_seconds")

    def _config(self) -> dict[str, Any]:
        """The resolved configuration, so that dashboards filter and group by any setting."""
        path = self.run_dir / "config.yaml"
        return read_settings_file(path) if path.exists() else {}

    def _time_to_target(self) -> None:
        """Summary: train seconds to the sweep's target; absent when there is none, infinite (a
        string, as W&B writes it) when it was missed."""
        target = Target.from_mapping(self.identity.get("target"))
        events = read_events(self.run_dir)
        clocks = {e["index"]: e["clock"] for e in snapshots(events)}
        points = [
            (headline(clocks[e["index"]], self.kind) + self.donor, e["metrics"])
            for e in scores(events, "grid")
            if e["index"] in clocks
        ]
        if target is not None and points:
            self.run.summary["time_to_target"] = crossing(points, target)
            self.run.summary["target"] = target.name

    def _axes(self, event: Event) -> dict[str, Any]:
        """Where on every x axis the event lies."""
        axes: dict[str, Any] = {
            k: event[k] for k in ("samples_seen", "audio_seconds", "step") if k in event
        }
        if "clock" in event:
            axes["train_seconds"] = headline(event["clock"], self.kind) + self.donor
            axes["cpu_seconds"] = headline(event["clock"], "cpu")
        return axes

    def _snapshot_of(self, score: Event) -> Event:
        for e in reversed(read_events(self.run_dir)):
            if e["event"] == "snapshot" and e["index"] == score["index"]:
                return e
        return score

    def _samples(self, event: Event) -> None:
        import soundfile
        import wandb

        rate = event["sampling_rate"]
        rows: dict[str, Any] = {}
        for utterance, files in event["audio"].items():
            for kind, file in files.items():
                wave, _ = soundfile.read(self.run_dir / file, dtype="float32")
                caption = f"{utterance} {kind}"
                rows[f"audio/{utterance}/{kind}"] = wandb.Audio(wave, rate, caption=caption)
                rows[f"spectrogram/{utterance}/{kind}"] = wandb.Image(
                    _picture(wave, rate), caption=caption
                )
        self.run.log(rows)

    def close(self) -> None:
        if self.run is not None and not self.broken:
            self.run.finish()
        self.run = None


_TRAIN = (
    "loss",
    "lr",
    "segment_length",
    "batch_size",
    "active_flows",
    "active_channels",
    "skipped_steps",
    "nonfinite_steps",
    "model_flops",
    "joules",
)


def _picture(wave: Any, rate: int) -> Any:
    """Log-mel spectrogram (n_mels, F) as an 8-bit RGB picture, low frequencies at the bottom."""
    import torch

    from wg.audio.mel import MelConfig, MelSpectrogram
    from wg.audio.picture import picture

    mel = MelSpectrogram(MelConfig(sampling_rate=rate))(torch.from_numpy(wave)[None])[0]
    return picture(mel.numpy())


def rebuild(run_dir: Path, logger: Mapping[str, Any], identity: Mapping[str, Any]) -> int:
    """Mirror a finished record again; returns the number of events."""
    mirror = WandbMirror(logger, identity, run_dir)
    events = read_events(run_dir)
    for event in events:
        mirror._mirror(event)
    mirror.close()
    return len(events)
