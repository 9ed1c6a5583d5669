"""Back to the last good state, and what the next command makes of it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from wg.checkpoint.weights import read_weights
from wg.files import sha256_file
from wg.measure.clock import headline
from wg.measure.record import last_clock, read_events, status, train_curve
from wg.sweep.launch import launch
from wg.sweep.rundir import prepare
from wg.train.build import build
from wg.train.checkpoint import SafeCheckpointIO, newest, step_path
from wg.train.guard import MAX_STREAK
from wg.train.rollback import _back_to_good, explain
from wg.train.run import _run
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)


def long(tiny_config: Config, **changes: Any) -> dict[str, Any]:
    """40 steps, a snapshot every four."""
    return tiny_config(
        **{"budget": {"audio_seconds": 20.48}, "snapshots": {"every": 2.048}, **changes}
    )


def test_the_same_command_goes_on_from_the_good_state_and_says_so(
    tiny_config: Config, poison: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once a command, charged; when what was wrong has changed it ends like a run that never
    failed, but for the steps that were lost."""
    with poison(lambda step: step >= 18):
        run_dir = prepare(long(tiny_config), [])
        assert _run(run_dir, 0) == 1
        assert newest(run_dir / "checkpoint") == step_path(run_dir / "checkpoint", 16)
        assert (run_dir / "final").resolve() == run_dir / "snapshots" / "0004"
        first = read_events(run_dir)
        capsys.readouterr()
        assert _run(run_dir, 0) == 1
    out = capsys.readouterr().out
    assert "this run has diverged before: the audio that was read is not finite in 1 of 2" in out
    assert "it goes on from step 16 and will diverge again unless code or machine have chan" in out
    assert "resuming from checkpoint/step-000000016" in out
    events = read_events(run_dir)
    rollbacks = [e for e in events if e["event"] == "rollback"]
    assert [(e["attempt"], e["from_step"], e["step"]) for e in rollbacks] == [
        (1, 18 + MAX_STREAK, 16),
        (2, 18 + MAX_STREAK, 16),
    ]
    a, b = last_clock(first), last_clock(events)
    assert a is not None
    assert b is not None
    assert headline(b, "cpu") > headline(a, "cpu")  # skipped and repeated steps stay charged
    # Mended: it finishes, in the very weights of a run that was never poisoned.
    assert _run(run_dir, 0) == 0
    events = read_events(run_dir)
    assert status(events) == "finished"
    assert train_curve(events)[-1]["skipped_steps"] == 0
    whole = prepare(long(tiny_config, out=str(run_dir.parent / "whole")), [])
    assert _run(whole, 0) == 0
    weights = [read_weights(r / "final")[1] for r in (run_dir, whole)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    capsys.readouterr()
    assert _run(run_dir, 0) == 0
    assert "diverged before" not in capsys.readouterr().out


def test_weights_that_left_the_numbers_stop_it_at_once(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no use in waiting for more bad steps; nor is such a state ever saved."""
    step, calls = torch.optim.AdamW.step, []

    def overflow(self: torch.optim.AdamW, closure: Any = None) -> Any:
        step(self, closure)
        calls.append(1)
        if len(calls) == 8:  # on the grid: a snapshot is due
            with torch.no_grad():
                self.param_groups[0]["params"][0][0] = torch.inf

    monkeypatch.setattr(torch.optim.AdamW, "step", overflow)
    run_dir = prepare(long(tiny_config, strategy={"adamw": {}}), [])
    assert _run(run_dir, 0) == 1
    events = read_events(run_dir)
    (rollback,) = [e for e in events if e["event"] == "rollback"]
    assert (rollback["from_step"], rollback["step"]) == (8, 4)
    assert rollback["snapshot"] == "snapshots/0001"
    assert [e["step"] for e in events if e["event"] == "snapshot"] == [0, 4]
    assert "is not finite: a step before it was too large" in rollback["cause"]
    assert "a smaller strategy.adamw.lr" in rollback["mend"]
    weights = read_weights(run_dir / "final")[1]
    assert all(bool(w.isfinite().all()) for w in weights.values())


def test_the_newest_good_checkpoint_is_found_by_trying(tiny_config: Config, poison: Any) -> None:
    """Not sound, not finite, finite with a loss that is not: each is passed over and removed."""
    config = long(tiny_config)
    run_dir = prepare(config, [])
    folder = run_dir / "checkpoint"
    with poison(lambda step: step >= 18):
        assert _run(run_dir, 0) == 1
    good = SafeCheckpointIO().load_checkpoint(step_path(folder, 16))
    key = "model.convinv.1.conv.weight"

    def write(step: int, **weights: torch.Tensor) -> Path:
        tree = {**good, "state_dict": {**good["state_dict"], **weights}}
        path = step_path(folder, step)
        SafeCheckpointIO().save_checkpoint(tree, path)
        return path

    write(20, **{key: torch.zeros_like(good["state_dict"][key])})
    write(24, **{key: torch.full_like(good["state_dict"][key], torch.nan)})
    damaged = write(28) / "tensors.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-3] ^= 1
    damaged.write_bytes(data)
    job = build(Settings.from_config(config))
    found, unread = _back_to_good(job, folder, lambda: torch.autocast("cpu", enabled=False))
    assert not unread
    assert found == {"step": 16, "samples_seen": 16 * 2 * 4096}
    assert sorted(p.name for p in folder.iterdir()) == ["step-000000012", "step-000000016"]
    assert torch.equal(job.module.model.convinv[1].conv.weight, good["state_dict"][key])


def test_a_checkpoint_that_cannot_be_read_just_now_is_left(
    tiny_config: Config, poison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files at the worst moment must not cost a good state."""
    config = long(tiny_config)
    run_dir = prepare(config, [])
    folder = run_dir / "checkpoint"
    with poison(lambda step: step >= 18):
        assert _run(run_dir, 0) == 1
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def failing(path: Path) -> str:
        if "step-000000016" in str(path):
            raise OSError(errno.EIO, "Input/output error")
        return sha256_file(path)

    monkeypatch.setattr("wg.train.checkpoint.sha256_file", failing)
    job = build(Settings.from_config(config))
    found, unread = _back_to_good(job, folder, lambda: torch.autocast("cpu", enabled=False))
    assert found is not None
    assert found["step"] == 12
    (told,) = unread
    assert told.endswith("step-000000016 cannot be read (Input/output error) and was left")
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_another_ranks_share_is_searched_too(tiny_config: Config, poison: Any) -> None:
    job = build(Settings.from_config(long(tiny_config, strategy={"ddp": {"ranks": 2}})))
    own = next(iter(job.data.train_dataloader()))
    job.data.advance(2 * 4096)
    with poison(lambda step: step == 0):
        cause, mend = explain(job, own, "why", lambda: torch.autocast("cpu", enabled=False))
    assert cause.startswith("the audio that was read is not finite in 1 of 1 segments")
    assert cause.endswith("at step 1; why")
    assert "leave out the recordings" in mend


def test_memory_that_runs_out_in_the_search_does_not_end_the_run_otherwise(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("sizes do not match")]

    def fail(*_: Any) -> None:
        raise errors.pop(0)

    monkeypatch.setattr("wg.train.rollback.diagnose", fail)
    job = build(Settings.from_config(tiny_config()))
    batch = next(iter(job.data.stream()))
    cause, mend = explain(job, batch, "why", lambda: torch.autocast("cpu", enabled=False))
    assert cause.startswith("the cause is not known, memory ran out looking for it on ")
    assert mend
    with pytest.raises(RuntimeError, match="sizes do not match"):
        explain(job, batch, "why", lambda: torch.autocast("cpu", enabled=False))


def test_two_ranks_stop_together_and_the_record_is_whole(tiny_config: Config) -> None:
    """torchrun ends the other ranks when one fails: rank 0 must still be heard."""
    config = long(tiny_config, strategy={"adamw": {"lr": 1e30}, "ddp": {"ranks": 2}}, arm="two")
    run_dir = prepare(config, [])
    outcome = launch(run_dir, "two", 0, ranks=2, threads=1)
    assert outcome.result == "failed"
    assert outcome.reason.startswith("diverged: ")
    events = read_events(run_dir)
    assert [e["event"] for e in events][-2:] == ["rollback", "end"]
    assert status(events) == "failed"
    assert (run_dir / "final" / "model.json").exists()


def test_a_diverged_arm_does_not_stop_the_sweep(
    wg: Callable[..., CompletedProcess[str]], tmp_path: Path, corpus_dir: Path
) -> None:
    args = (
        "train", "-m", "model=tiny", "+debug=smoke", "logger=none", "out=runs/t", "data=folder",
        f"data.path={corpus_dir}", "data.sampling_rate=16000", "data.held_out=2",
        "budget.audio_seconds=5", "strategy=[adamw]", "++strategy.adamw.lr=1e30,1e-3",
    )  # fmt: skip
    done = wg(*args)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "its last good weights" in done.stdout
    found = {status(read_events(p.parent)) for p in tmp_path.glob("runs/t/*/run.json")}
    assert found == {"failed", "finished"}
