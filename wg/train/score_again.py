"""``wg score``: metrics for a trained run's snapshots, after the fact and without training.

What training left unscored (it was stopped, or crashed, while scoring) is scored and the run is
finished; to what is scored already, metrics are added. Only weights that are on disk can be: the
last snapshot's always are. The corpus must be the run's own, wherever it lies on this machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text

from wg.audio.cache import default_cache_dir
from wg.audio.names import shown
from wg.audio.store import Store
from wg.console import console
from wg.errors import UserError
from wg.measure.clock import Clock
from wg.measure.ends import measure_ends
from wg.measure.metrics import check_metrics, check_metrics_installed, metric_info
from wg.measure.record import (
    Event,
    Record,
    last_clock,
    read_events,
    scale_ends,
    scores,
    snapshots,
    status,
)
from wg.measure.score import Scored, Sigmas, score_run
from wg.strategies import make_plan
from wg.train.attempt import interruptible, only_one
from wg.train.build import open_corpus, resolve_device, set_matmul
from wg.train.run import finish, read_settings
from wg.train.settings import Settings

Say = Callable[[str], None]


def score_again(
    run_dir: Path,
    metrics: Sequence[str] | None = None,
    *,
    ends: bool = False,
    data_path: Path | None = None,
    say: Say = print,
) -> None:
    """Score what the run's snapshots lack of ``metrics`` (those of its configuration when None),
    and finish a run that only lacked scores, on its own metrics then, too.

    ends: also measure the ends of the scales (wg.measure.ends), record and print them.
    data_path: where the corpus lies, if not where the run was trained.

    Errors: UserError when this is no run, it has not finished training or is being trained, its
    weights or its corpus are not here, or a metric is unknown or not installed.
    """
    settings = read_settings(run_dir)
    own = settings.evaluation.metrics
    if metrics is not None:
        check_metrics(metrics, "--metrics")
    asked = tuple(own if metrics is None else metrics)
    with only_one(run_dir), interruptible():
        events = read_events(run_dir)
        complete = status(events) == "finished"
        # A run that is finished here must have what one that finished by itself has.
        wanted = asked if complete else tuple(dict.fromkeys([*own, *asked]))
        check_metrics_installed(wanted)
        _check_trained(run_dir, events)
        torch.set_num_threads(settings.threads)
        set_matmul("highest")  # every run is judged in the same arithmetic
        store = open_store_of(settings, data_path, events, run_dir, say)
        record, clock = Record(run_dir), Clock(last_clock(events))
        with clock("eval"):
            done = _score(run_dir, settings, store, record, wanted, say)
        if not complete:
            finish(run_dir)
            trained = next(e for e in reversed(events) if e["event"] == "trained")
            record.write(
                "end",
                status="finished",
                reason="",
                clock=clock.totals(),
                step=trained["step"],
                audio_seconds=snapshots(events)[-1]["audio_seconds"],
            )
        _tell(run_dir, done, wanted, complete, say)
        if ends:
            _ends(run_dir, store, record, asked, say)


def _check_trained(run_dir: Path, events: list[Event]) -> None:
    if not any(e["event"] == "trained" for e in events):
        raise UserError(
            f"{shown(run_dir)} has not finished training ({status(events)}): the command that "
            "began it goes on where it stopped, and scores it."
        )
    last = run_dir / snapshots(events)[-1]["path"]
    if not last.exists():
        raise UserError(
            f"{shown(run_dir)} has no weights here ({last.relative_to(run_dir)} is missing): copy "
            "the whole run directory."
        )


def open_store_of(
    settings: Settings, data_path: Path | None, events: list[Event], run_dir: Path, say: Say
) -> Store:
    """The run's corpus, checked to be the one that it was trained on, with its mels."""
    data = settings.data
    if data_path is not None and data.kind == "demo":
        raise UserError(
            f"{shown(run_dir)} was trained on the demo corpus, which wg brings: leave --data-path "
            "out."
        )
    if data_path is not None:
        data = dataclasses.replace(data, path=str(data_path))
    elif data.path is not None and not Path(data.path).expanduser().is_dir():
        raise UserError(
            f"the corpus of {shown(run_dir)} is not at {data.path} on this machine: name its "
            "folder with --data-path."
        )
    # Not settings.plan(): a strategy's packages were needed to train, not to score.
    plan = make_plan(settings.base(), settings.strategy)
    corpus = open_corpus(data, plan)
    trained_on = {e["corpus"]["digest"] for e in events if e["event"] == "start"}
    if trained_on and corpus.digest not in trained_on:
        raise UserError(
            f"the files at {data.path or 'wg/audio/demo'} are not the corpus '{corpus.name}' that "
            f"{shown(run_dir)} was trained on: its digest is {next(iter(trained_on))[:12]}, theirs "
            f"{corpus.digest[:12]}."
        )
    device = plan.mel_device or data.mel_device
    if device == "cuda" and not torch.cuda.is_available():
        say("the mels were a GPU's; without one here they are the CPU's, which differ by rounding")
        device = "cpu"
    return Store.prepare(corpus, data.mel, default_cache_dir(), device=device)


def _score(
    run_dir: Path,
    settings: Settings,
    store: Store,
    record: Record,
    metrics: Sequence[str],
    say: Say,
) -> Scored:
    here = settings.device != "cuda" or torch.cuda.is_available()
    return score_run(
        run_dir,
        store,
        settings.data.mel,
        record,
        sigmas=Sigmas(settings.sigma, settings.evaluation.sigma),
        grid_seconds=settings.evaluation.grid_seconds,
        samples=settings.evaluation.samples,
        keep=settings.snapshots.keep,
        device=resolve_device(settings.device if here else "cpu"),
        say=say,
        metrics=metrics,
    )


def _tell(run_dir: Path, done: Scored, metrics: Sequence[str], complete: bool, say: Say) -> None:
    if done.filled:
        what = f"{done.filled} of {done.total} snapshots scored on {', '.join(metrics)}"
    else:
        what = f"nothing to score: what is on disk has {', '.join(metrics)}"
    if done.gone:
        what += f"; {done.gone} have no weights on disk any more (snapshots.keep=all keeps them)"
    say(what)
    if not complete:
        say(f"{shown(run_dir)} is finished now")
    if done.filled and (run_dir / "wandb").exists():
        say(f"W&B has the scores once `wg mirror {shown(run_dir)}` has written it again")


def _ends(run_dir: Path, store: Store, record: Record, metrics: Sequence[str], say: Say) -> None:
    """Measure, record (once) and print the ends of the scales, with the run's own between them."""
    found = measure_ends(store, metrics, say)
    events = read_events(run_dir)
    before = scale_ends(events)
    added = record.write("ends", set="held_out", ends=found) if _new(before, found) else None
    final = scores(events, "held_out")
    columns: dict[str, Mapping[str, float | None]] = {
        "this run": final[-1]["metrics"] if final else {},
        **scale_ends([*events, *([added] if added else [])]),
    }
    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    for name in columns:
        table.add_column(name, justify="right")
    for metric in next(iter(found.values())):
        info = metric_info(metric)
        unit = "" if info.unit == "1" else f" {info.unit}"
        cells = [_number(values.get(metric)) for values in columns.values()]
        table.add_row(Text(f"{metric}{unit} {info.arrow}"), *cells)
    console().print(table)


def _new(
    before: Mapping[str, Mapping[str, float | None]], found: Mapping[str, Mapping[str, float]]
) -> bool:
    return any(m not in before.get(name, {}) for name, values in found.items() for m in values)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
