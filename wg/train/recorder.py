"""The callback that watches a run: clocks, train events, snapshots, checkpoints, interrupts."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch

from wg.checkpoint.weights import save_weights
from wg.errors import UserError
from wg.measure.clock import Clock, Kind, headline
from wg.measure.energy import EnergyMeter
from wg.measure.record import Record
from wg.train.build import Job
from wg.train.checkpoint import prune, step_path
from wg.train.compile import warm_up
from wg.train.fit import settle
from wg.train.guard import all_finite
from wg.train.rollback import roll_back
from wg.train.settings import step_shape
from wg.train.together import clock_totals, largest_memory, mean, meet, on_any

# Seconds after which a step's end is written down though no other event is due, and outside of
# steps the time that passes (wg.train.ledger): what a kill leaves uncharged.
LEDGER_EVERY = 10.0


class Recorder(L.Callback):
    """Rank 0 writes; all ranks agree on when.

    Snapshots fall on the first step at which the audio seen reaches the next point of the grid,
    which is the same grid for every arm. Each is also a checkpoint to resume from.
    """

    def __init__(
        self,
        job: Job,
        run_dir: Path,
        clock: Clock,
        kind: Kind,
        say: Callable[[str], None],
        record: Record | None,
        energy: EnergyMeter | None = None,
    ) -> None:
        self.job, self.run_dir, self.clock, self.kind, self.say = job, run_dir, clock, kind, say
        self.record = record
        self.energy = energy or EnergyMeter([], missing=["this rank has no meter"])
        self.grid = job.settings.grid()
        self.next_index = 0
        self.interrupted: str | None = None
        self.diverged: str | None = None
        self._signal: int | None = None
        self._signalled = 0.0
        self._handlers: dict[signal.Signals, Any] = {}
        self._loss: torch.Tensor | None = None
        self._losses = 0  # how many are summed in it
        self._said = 0.0
        self._began: tuple[float, float] | None = None
        self._saved_step = -1
        self.memory: dict[str, Any] = {}  # peak of the rank that used most, once training is over

    # -- Lightning's hooks ---------------------------------------------------------------------

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning's own SIGTERM handler raises in the middle of a step; ours waits for its end.
        self._handlers = {
            s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)
        }
        with self.clock("compile"):
            autocast = trainer.precision_plugin.forward_context
            found = settle(self.job, self.run_dir, self.record, autocast)
            try:
                variants = warm_up(self.job, autocast)
            except UserError:
                # A terminal's Ctrl-C reaches the compiler too, and then it is not what is missing.
                if self._signal is not None:
                    raise KeyboardInterrupt from None
                raise
        if found is not None:
            self.say(f"{found} segments fit into memory at a time")
        if variants:
            self.say(f"compiled the step for {variants} shape{'s' * (variants > 1)}")
        seen = self.job.data.audio_seconds
        if self.job.data.step == 0:
            self._snapshot(trainer)
        self.next_index = self._passed()
        self._began = (seen, headline(self.clock.totals(), self.kind))
        self.clock.push("train")
        self.energy.start()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.job.module.step_done(batch)
        self._step_done(outputs["loss"].detach())
        data, settings = self.job.data, self.job.settings
        done = data.progress >= 1.0
        due = self._passed() > self.next_index or done
        hopeless = self.job.module.guard.hopeless(self.job.module.model)
        if not hopeless and due and not all_finite(self.job.module.state_dict().values()):
            hopeless = "weights are not finite"  # the very last step was too large
        if hopeless:
            self._diverge(trainer, batch, hopeless)
            return
        if data.step % settings.log_every == 0 or done:
            with self.clock("log"), self.energy.paused():
                self._log(trainer)
                meet(self.job)
        if due:
            self._snapshot(trainer)
        self._keep_ledger()
        limit = settings.budget.train_seconds
        if limit is not None and on_any(
            self.job, headline(self.clock.totals(), self.kind) >= limit
        ):
            if not done:
                self._snapshot(trainer)
            trainer.should_stop = True
        elif on_any(self.job, self._signal is not None) and not done:
            self.interrupted = signal.Signals(self._signal or signal.SIGTERM).name
            self._checkpoint(trainer)
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.energy.stop()
        self.memory = largest_memory(self.job)
        self.clock.pop()
        for s, handler in self._handlers.items():
            signal.signal(s, handler)

    # -- what it writes ------------------------------------------------------------------------

    def _step_done(self, loss: torch.Tensor) -> None:
        """Sum up the loss where it is a number (on all ranks); tell of steps that were not made."""
        guard = self.job.module.guard
        if guard.last.loss_finite:
            self._loss = loss if self._loss is None else self._loss + loss
            self._losses += 1
        # The first of a row, and of many rows fewer and fewer.
        if not guard.last.made and guard.streak == 1 and guard.nonfinite.bit_count() == 1:
            what = "gradients are" if guard.last.loss_finite else "loss is"
            self.say(f"step {self.job.data.step} is skipped: its {what} not finite")

    def _diverge(self, trainer: L.Trainer, batch: Any, why: str) -> None:
        """All ranks stop here; rank 0 finds the cause and goes back to the last good state."""
        trainer.should_stop = True
        self.diverged = why
        if self.record is None:
            return
        with self.clock("log"), self.energy.paused():
            found = roll_back(
                self.job, self.run_dir, batch, why, trainer.precision_plugin.forward_context
            )
            self.diverged = found.describe()
            guard = self.job.module.guard
            self.record.write(
                "rollback",
                **vars(found),
                skipped_steps=guard.skipped,
                nonfinite_steps=guard.nonfinite,
                clock=self.clock.totals(),
            )

    def _log(self, trainer: L.Trainer) -> None:
        losses, loss = self._losses, None
        if self._loss is not None:
            loss = float(mean(self.job, self._loss / losses))
        self._loss, self._losses = None, 0
        data = self.job.data
        length, batch = self._shape()
        totals = clock_totals(self.job, self.clock)
        if self.record is None:
            return
        self.record.write(
            "train",
            step=data.step,
            samples_seen=data.samples_seen,
            audio_seconds=round(data.audio_seconds, 6),
            loss=loss,
            loss_steps=losses,
            lr=trainer.optimizers[0].param_groups[0]["lr"],
            segment_length=length,
            batch_size=batch,
            active_flows=sum(self.job.module.model.active),
            active_channels=self.job.module.model.width or self.job.module.model.config.n_channels,
            skipped_steps=self.job.module.guard.skipped,
            nonfinite_steps=self.job.module.guard.nonfinite,
            model_flops=self.job.module.model_flops,
            joules=self.energy.joules,
            clock=totals,
        )
        self._progress(loss, totals)

    def _keep_ledger(self) -> None:
        """Slow steps may be far apart from the next event: what they took is written down alone,
        of this rank, whose seconds are the others' but for moments."""
        if self.record is None or time.monotonic() - self.record.written < LEDGER_EVERY:
            return
        with self.clock("log"), self.energy.paused():
            self.record.write(
                "clock", step=self.job.data.step, joules=self.energy.joules,
                clock=self.clock.totals(),
            )  # fmt: skip

    def cost(self) -> dict[str, Any]:
        """Fields of a record beside the clock: what training has taken so far."""
        return {
            "model_flops": self.job.module.model_flops,
            "joules": self.energy.joules,
            "joules_of": self.energy.of,
        }

    def _passed(self) -> int:
        """Points of the grid that the audio seen has reached; the next one has this index."""
        seen = self.job.data.audio_seconds
        return sum(at <= seen + 1e-9 for at in self.grid)

    def _shape(self) -> tuple[int, int]:
        return step_shape(self.job.plan, min(self.job.data.progress, 1 - 1e-9))

    def _progress(self, loss: float | None, totals: Any) -> None:
        now, data = time.monotonic(), self.job.data
        if now - self._said < 5 and data.progress < 1:
            return
        self._said = now
        spent = headline(totals, self.kind)
        assert self._began is not None
        seen, since = data.audio_seconds - self._began[0], spent - self._began[1]
        left = (self.job.plan.base.audio_seconds - data.audio_seconds) * since / max(seen, 1e-9)
        skipped = self.job.module.guard.skipped
        shown = "-" if loss is None else f"{loss:.3f}" if abs(loss) < 1e6 else f"{loss:.3g}"
        self.say(
            f"{data.progress:4.0%}  {data.audio_seconds:.0f} s of audio, step {data.step}, "
            f"loss {shown}, {f'{skipped} steps skipped, ' if skipped else ''}"
            f"{spent:.0f} {self.kind} s, {max(left, 0):.0f} s to go"
        )

    def _snapshot(self, trainer: L.Trainer) -> None:
        """Evaluation weights for the scorer, and a checkpoint of the whole state."""
        totals = clock_totals(self.job, self.clock)
        data = self.job.data
        # Where one step passed several points, the last of them names the snapshot.
        self.next_index = max(self._passed(), self.next_index + 1)
        index = self.next_index - 1
        with self.clock("checkpoint"), self.energy.paused():
            if self.record is not None:
                folder = Path("snapshots") / f"{index:04d}"
                digest = save_weights(
                    self.run_dir / folder,
                    self.job.module.eval_weights(),
                    self.job.module.model.config,
                    model_meta(self.job, self.run_dir),
                )
                self.record.write(
                    "snapshot",
                    index=index,
                    step=data.step,
                    audio_seconds=round(data.audio_seconds, 6),
                    clock=totals,
                    **self.cost(),
                    path=str(folder),
                    sha256=digest,
                )
            # Not while steps fail: the good ones before them must not be pruned for it.
            if data.step > 0 and data.progress < 1 and self.job.module.guard.last.made:
                self._checkpoint(trainer)
            meet(self.job)

    def _checkpoint(self, trainer: L.Trainer) -> None:
        if self._saved_step == self.job.data.step:
            return
        self._saved_step = self.job.data.step
        folder = self.run_dir / "checkpoint"
        trainer.save_checkpoint(step_path(folder, self.job.data.step))
        if self.record is not None:
            prune(folder, keep=2)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._signal is None:
            self.say("interrupted: saving at the end of this step (again to stop at once)")
            self._signal, self._signalled = number, time.monotonic()
        # A terminal's Ctrl-C reaches the launcher too, which then asks once more: only a later
        # one is a second wish.
        elif number == signal.SIGINT and time.monotonic() - self._signalled > 1:
            raise KeyboardInterrupt


def model_meta(job: Job, run_dir: Path) -> dict[str, Any]:
    """What a reader of the weights must know to use them."""
    s = job.settings
    return {
        "sampling_rate": s.data.sampling_rate,
        "mel": vars(s.data.mel),
        "recipe": s.recipe,
        "run": run_dir.name,
        "sigma": s.sigma,
    }
