"""One run directory, one process (or one a rank): ``python -m wg.train RUN_DIR``.

config.yaml   the resolved configuration: the whole input
run.json      its identity: id, arm, seed, the command that made it
events.jsonl  the record (wg.measure.record)
log.txt       what was printed
snapshots/    evaluation weights on the grid; final/ the last of them
              (of a run that diverged: its last good ones)
checkpoint/   the state to resume from; gone when the run is finished
samples/      held-out utterances, reference and generated
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from wg.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError
from wg.files import read_json, read_settings_file
from wg.measure.clock import Clock, headline_kind
from wg.measure.mirror import WandbMirror
from wg.measure.record import Event, Listener, Record, last_clock, read_events, snapshots
from wg.measure.record import status as status_of
from wg.measure.score import Sigmas, score_run
from wg.train.attempt import Log, interruptible, only_one
from wg.train.build import Job, build, resolve_device, set_matmul, trainer
from wg.train.checkpoint import newest
from wg.train.energy import meter_of
from wg.train.facts import start_facts
from wg.train.ledger import ledger
from wg.train.memory import ran_out
from wg.train.prepare import prepare
from wg.train.recorder import LEDGER_EVERY, Recorder
from wg.train.rollback import link_final
from wg.train.settings import Settings

# How the reason of such an end begins: reports count it as an outcome of the recipe.
DIVERGED = "diverged: "
_GRACE = 10.0  # seconds


def main(argv: list[str] | None = None) -> int:
    """Train, score, finish. Returns 0 (finished), 2 (a user's mistake), 130 (interrupted, can
    be resumed) or 1 (failed)."""
    (path,) = sys.argv[1:] if argv is None else argv
    run_dir = Path(path).resolve()
    rank = int(os.environ.get("RANK", "0"))
    try:
        if rank > 0:
            with interruptible():
                return _run(run_dir, rank)
        with only_one(run_dir), interruptible():
            return _run(run_dir, rank)
    except UserError as e:
        if rank == 0:
            print(f"wg: {e}", file=sys.stderr, flush=True)
        else:
            # Rank 0 finds the same mistake, and must say it before torchrun stops it for ours.
            time.sleep(_GRACE)
        return EXIT_USER_ERROR


def _run(run_dir: Path, rank: int) -> int:
    settings = read_settings(run_dir)
    identity = read_json(run_dir / "run.json")
    say = Log(run_dir, f"{identity['arm']} s{settings.seed}", quiet=rank > 0)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    torch.set_num_threads(settings.threads)
    earlier = read_events(run_dir)
    if status_of(earlier) == "finished" and (run_dir / "final").exists():
        # By another command, after this one had looked and before it had the lock.
        say("finished meanwhile: skipped")
        return 0
    clock = Clock(last_clock(earlier))
    record = Record(run_dir) if rank == 0 else None
    say(f"run directory {run_dir}")
    status, reason = "failed", ""
    started = False
    stand: dict[str, Any] = {}
    try:
        clock.synchronize = _synchronize(settings)
        with clock("init"):
            job = build(settings, begun=newest(run_dir / "checkpoint") is not None)
            if record is not None:
                record.listeners.extend(_mirrors(settings, identity, run_dir, say))
                record.write("start", **start_facts(job, identity, run_dir))
                started = True
        if warning := _diverged_before(earlier):
            say(warning)
        with ledger(record, clock, LEDGER_EVERY):
            trained, why = _train(job, run_dir, clock, say, record, stand)
            stand |= {"step": job.data.step, "audio_seconds": round(job.data.audio_seconds, 6)}
            if record is not None and trained == "finished":
                set_matmul("highest")  # every arm is judged in the same arithmetic
                with clock("eval"):
                    _score(job, run_dir, say, record)
                finish(run_dir)
        status, reason = trained, why  # only now: a crash while scoring is a failure too
    except UserError as e:
        status, reason = "refused", str(e)
        raise
    except KeyboardInterrupt:
        status, reason = "interrupted", "stopped at once"
    except Exception as e:
        reason = _reason(e)
        say.keep(traceback.format_exc())
        say(f"failed: {reason} (the traceback is in {say.path})")
    finally:
        # An attempt that never began takes nothing from a finished run.
        if record is not None and (started or status_of(earlier) != "finished"):
            with clock("log"):
                record.write("end", status=status, reason=reason, clock=clock.totals(), **stand)
                for listener in record.listeners:
                    getattr(listener, "close", lambda: None)()
    return _farewell(run_dir, rank, status, reason, say)


def _reason(e: Exception) -> str:
    if isinstance(e, RuntimeError) and ran_out(e):
        return (
            "out of memory: take fewer segments (batch_size, strategy.batch_ramp), add "
            "strategy=[micro_batch] or [recompute], or make the model smaller "
            f"({str(e).strip().splitlines()[0][:160]})"
        )
    return f"{type(e).__name__}: {e}"


def _farewell(run_dir: Path, rank: int, status: str, reason: str, say: Log) -> int:
    """Say how it ended; returns the exit code."""
    say(f"{status}{': ' + reason if reason else ''}")
    if reason.startswith(DIVERGED):
        if rank > 0:
            return 0  # rank 0 speaks for all, and torchrun would stop it at another's failure
        if (run_dir / "final").exists():
            say(f"its last good weights: {run_dir / 'final'}")
    return {"finished": 0, "interrupted": EXIT_INTERRUPTED}.get(status, 1)


def read_settings(run_dir: Path) -> Settings:
    """The checked configuration of a run directory."""
    path = run_dir / "config.yaml"
    if not path.exists():
        raise UserError(f"{run_dir} is no run directory: it has no config.yaml.")
    return Settings.from_config(read_settings_file(path))


def _synchronize(settings: Settings) -> Callable[[], None]:
    if resolve_device(settings.device).type != "cuda":
        return lambda: None
    # Before anything touches the GPU, or every rank would open a context on the first one.
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.cuda.synchronize


def _train(
    job: Job,
    run_dir: Path,
    clock: Clock,
    say: Log,
    record: Record | None,
    stand: dict[str, Any],
) -> tuple[str, str]:
    """(status, reason) after training to the budget, or as far as it got; what it has taken goes
    into ``stand``."""
    if any(e["event"] == "trained" for e in read_events(run_dir)):
        return "finished", ""  # an earlier attempt was stopped while scoring
    resume = newest(run_dir / "checkpoint")
    with clock("data_prep"):
        job.data.hold(job.device)
        if resume is None:
            prepare(job.module.model, job.plan, job.data.stream(), job.device)
    if resume is not None:
        say(f"resuming from {resume.relative_to(run_dir)}")
    kind = headline_kind(job.device.type)
    energy = None if record is None else meter_of(job, run_dir)
    recorder = Recorder(job, run_dir, clock, kind, say, record, energy)
    fit = trainer(job, run_dir, [recorder])
    try:
        fit.fit(job.module, datamodule=job.data, ckpt_path=resume, weights_only=False)
        _part()
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        return "interrupted", "stopped at once"
    finally:
        stand.update(recorder.cost())
    if recorder.diverged is not None or recorder.interrupted:
        stand.update(recorder.memory)
    if recorder.diverged is not None:
        return "failed", f"{DIVERGED}{recorder.diverged}"
    if recorder.interrupted:
        return "interrupted", f"{recorder.interrupted} at step {job.data.step}"
    if record is not None:
        record.write("trained", step=job.data.step, clock=clock.totals(), **recorder.cost(),
                     **recorder.memory)  # fmt: skip
    return "finished", ""


def _part() -> None:
    """Ranks leave their group together, before rank 0 goes on to score alone. A process that ends
    with its group open tears gloo's threads down with it, which has aborted it now and then; and
    torchrun stops all ranks at the first that fails."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def _diverged_before(events: list[Event]) -> str | None:
    """What to tell of an earlier attempt that diverged. A command makes one more attempt, no more:
    a run is a function of its configuration, and only other code, or another machine's rounding,
    could take it elsewhere."""
    last = next((e for e in reversed(events) if e["event"] in ("rollback", "trained")), None)
    if last is None or last["event"] == "trained":
        return None
    return (
        f"this run has diverged before: {last['cause']}; it goes on from step {last['step']} and "
        f"will diverge again unless code or machine have changed; to mend it: {last['mend']}"
    )


def _score(job: Job, run_dir: Path, say: Log, record: Record) -> None:
    score_run(
        run_dir,
        job.store,
        job.settings.data.mel,
        record,
        sigmas=Sigmas(job.settings.sigma, job.settings.evaluation.sigma),
        grid_seconds=job.settings.evaluation.grid_seconds,
        samples=job.settings.evaluation.samples,
        keep=job.settings.snapshots.keep,
        device=job.device,
        say=say,
        metrics=job.settings.evaluation.metrics,
    )


def finish(run_dir: Path) -> None:
    """The last snapshot is the result; the state to resume from has served."""
    link_final(run_dir, run_dir / snapshots(read_events(run_dir))[-1]["path"])
    shutil.rmtree(run_dir / "checkpoint", ignore_errors=True)


def _mirrors(
    settings: Settings, identity: dict[str, Any], run_dir: Path, say: Log
) -> list[Listener]:
    if settings.logger.get("name") != "wandb":
        return []
    return [WandbMirror(settings.logger, identity, run_dir, say)]
