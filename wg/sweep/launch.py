"""Starting a run directory as a process of its own.

Not inside Hydra's job: Lightning's DDP would run the whole command line again in its children,
jobs of one process would share CUDA and compile caches, and a crash would take the sweep down.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from wg.commit import code_commit
from wg.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR
from wg.files import read_json, read_settings_file
from wg.measure.record import Event, read_events, scores, status
from wg.sweep.session import Outcome, Result, known_to_the_session, stopping

# Left by an outer launcher (SLURM, torchrun, W&B, Lightning), they would tell the run that it is
# a rank of something else.
_FOREIGN = (
    "LOCAL_RANK", "RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK",
    "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED", "PL_SEED_WORKERS", "WANDB_RUN_ID",
    "TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_JOB_NAME", "SLURM_PROCID", "SLURM_LOCALID",
)  # fmt: skip
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def launch(run_dir: Path, arm: str, seed: int, ranks: int, threads: int) -> Outcome:
    """Train and score the run, or skip it when it is finished, or resume it when it is not."""
    where = str(run_dir)
    events = read_events(run_dir)
    if status(events) == "finished" and (run_dir / "final").exists():
        made, now = read_json(run_dir / "run.json").get("commit"), code_commit()
        note = "" if made == now else f"; by code {_brief(made)}, this is {_brief(now)}"
        note += _unscored(run_dir, events)
        print(f"[{arm} s{seed}] finished before: skipped ({_short(run_dir)}{note})", flush=True)
        return Outcome(arm, seed, "skipped", where)
    env = own_environment(threads)
    command = [sys.executable, "-m", "wg.train", where]
    if ranks > 1:
        command = [sys.executable, "-m", "wg.train.torchrun", str(ranks), where]
    process = subprocess.Popen(command, env=env)
    with known_to_the_session(process):
        code = process.wait()
    return Outcome(arm, seed, *_verdict(run_dir, len(events), code, ranks))


def own_environment(threads: int) -> dict[str, str]:
    """Of a process that trains: with ``threads`` CPU threads, and no rank of anything."""
    env = {k: v for k, v in os.environ.items() if k not in _FOREIGN}
    return {**env, **dict.fromkeys(_THREADS, str(threads))}


def _verdict(run_dir: Path, before: int, code: int, ranks: int) -> tuple[Result, str, str]:
    """(result, run directory, reason) from this attempt's events and its exit code."""
    where = str(run_dir)
    ends = [e for e in read_events(run_dir)[before:] if e["event"] == "end"]
    end = ends[-1] if ends else {"status": "failed", "reason": ""}
    if code == 0:
        return "finished", where, ""
    if code == EXIT_USER_ERROR or end["status"] == "refused":
        return "refused", where, end["reason"]
    if ranks > 1 and end["status"] == "interrupted" and not stopping():
        # Nobody asked for it: torchrun stops the ranks that are left when one of them dies.
        return "failed", where, "another of its ranks ended; the same command resumes it"
    if end["status"] == "interrupted" or code in (
        EXIT_INTERRUPTED,
        -signal.SIGINT,
        -signal.SIGTERM,
    ):
        return "interrupted", where, end["reason"]
    return "failed", where, end["reason"] or f"exit code {code}; see {where}/log.txt"


def _unscored(run_dir: Path, events: list[Event]) -> str:
    """What a finished run lacks of the metrics that are asked for now, and how to have it."""
    config = read_settings_file(run_dir / "config.yaml")
    final = scores(events, "held_out")
    wanted = (config.get("evaluation") or {}).get("metrics") or ()
    lacking = [m for m in wanted if final and m not in final[-1]["metrics"]]
    return f"; `wg score` adds its {', '.join(lacking)}" if lacking else ""


def _brief(commit: str | None) -> str:
    return commit[:9] + commit[40:] if commit else "of no commit"


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
