"""``wg bench arms``: how fast every arm of a sweep goes through audio, arm by arm in turns.

Runs of a sweep are trained one after another, and a machine that is shared is now faster, now
slower. Here all arms wait in processes of their own and make a few steps in turn, round after
round, so that what slows the machine down slows all of them. Audio seconds to the target over this
throughput are *normalised time* (:mod:`wg.report.cost`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import Any

from wg.audio.bar import LateBar
from wg.bench.run import header
from wg.bench.worker import ANSWER
from wg.errors import UserError
from wg.measure.ratio import paired_ratio
from wg.measure.record import read_events
from wg.report.data import Arm, Run, Sweep
from wg.report.throughput import FILE, FORMAT, rounds_of
from wg.sweep.launch import own_environment

Say = Callable[[str], None]


class ArmProcess:
    """A process that makes an arm's steps when asked. Use as a context.

    facts    what it measures (:meth:`wg.bench.worker.ArmSteps.facts`); None: refused
    refused  why it measures nothing
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.facts: dict[str, Any] | None = None
        self.refused = ""

    def __enter__(self) -> ArmProcess:
        self._folder = tempfile.TemporaryDirectory(prefix="wg-bench-")
        task, self._log = (Path(self._folder.name) / name for name in ("task.json", "log.txt"))
        task.write_text(json.dumps(self.config))
        with self._log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "wg.bench.worker", str(task)],
                env=own_environment(self.config["threads"]),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        try:
            answer = self._answer()
        except BaseException:
            self.__exit__()
            raise
        self.facts, self.refused = answer.get("ready"), answer.get("refused", "")
        return self

    def turn(self) -> dict[str, Any]:
        """One repetition: seconds of a matrix product and of a step of every shape.

        Errors: UserError when the process has died.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its answer says why
        answer = self._answer()
        if "turn" not in answer:
            raise UserError(f"its process ended while it was measured: {answer['refused']}")
        turn: dict[str, Any] = answer["turn"]
        return turn

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                answer: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
                return answer
        self._process.wait()
        lines = [line for line in self._log.read_text().splitlines() if line.strip()]
        return {"refused": lines[-1] if lines else f"exit status {self._process.returncode}"}

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self._folder.cleanup()


def check_writable(sweep_dir: Path) -> None:
    """UserError when the findings' file is somebody else's. Asked before minutes of measuring."""
    path = sweep_dir / FILE
    if not path.exists():
        return
    try:
        mine = json.loads(path.read_text(encoding="utf-8")).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        mine = False
    if not mine:
        raise UserError(f"{path} exists and was not written by `wg bench arms`: move it away first")


def bench_arms(
    sweep: Sweep, rounds: int, command: str, say: Say
) -> tuple[dict[str, Any] | None, bool]:
    """(the findings as plain values, whether all was measured). Ctrl-C keeps whole rounds; None
    where there is none.

    Errors: UserError when the baseline itself cannot be measured.
    """
    facts = header(FORMAT, command, sweep.arms[sweep.baseline].any_run.config)
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in sweep.arms}
    complete = False
    with ExitStack() as stack:
        processes: dict[str, ArmProcess] = {}
        try:
            for i, (name, arm) in enumerate(sweep.arms.items(), start=1):
                process = stack.enter_context(ArmProcess(config_of(arm.any_run)))
                shapes = len(process.facts["phases"]) if process.facts else 0
                ready = f"ready, {shapes} shape{'s' * (shapes > 1)}" if shapes else process.refused
                say(f"[{i}/{len(sweep.arms)}] {name}: {ready}")
                processes[name] = process
                if name == sweep.baseline and not process.facts:
                    raise UserError(f"the baseline {name} cannot be measured: {process.refused}")
            _take_turns(processes, sweep.baseline, rounds, turns, say)
            complete = True
        except KeyboardInterrupt:
            say("interrupted: whole rounds are kept")
    whole = min(len(turns[n]) for n, p in processes.items() if p.facts) if processes else 0
    if not whole:
        return None, complete
    rows: dict[str, dict[str, Any]] = {}
    findings = {
        **facts,
        "complete": complete,
        "rounds": whole,
        "baseline": sweep.arms[sweep.baseline].any_run.id,
        "arms": rows,
    }
    base = rounds_of(timed(processes[sweep.baseline], turns[sweep.baseline][:whole]))
    for name, process in processes.items():
        row = _row(sweep.arms[name], process)
        if process.facts:
            row |= measured(process, turns[name][:whole], base)
        rows[name] = row
    return findings, complete


def _take_turns(
    processes: Mapping[str, ArmProcess],
    baseline: str,
    rounds: int,
    turns: dict[str, list[dict[str, Any]]],
    say: Say,
) -> None:
    """An arm whose process ends is refused from then on, and the others go on."""
    names = [n for n, p in processes.items() if p.facts]
    with LateBar(rounds * len(names), "rounds") as bar:
        for r in range(rounds):
            # Each is first once: what follows a long rest may find caches and clocks otherwise.
            first = r % len(names)
            for name in names[first:] + names[:first]:
                try:
                    turns[name].append(processes[name].turn())
                except UserError as error:
                    if name == baseline:
                        raise UserError(f"the baseline {name}: {error}") from None
                    processes[name].facts, processes[name].refused = None, str(error)
                    say(f"{name}: {error}")
                bar.advance()
            names = [n for n in names if processes[n].facts]


def config_of(run: Run) -> dict[str, Any]:
    """The run's configuration, with the parts that it has found to fit in place of the strategy
    that looks for them: beside other arms it would find others."""
    config = dict(run.config)
    found = [e["segments"] for e in read_events(run.path) if e["event"] == "micro_batch"]
    if found:
        kept = {n: s for n, s in config["strategy"].items() if n != "micro_batch"}
        config["strategy"] = {**kept, "accumulate": {"segments": found[-1]}}
    return config


def _row(arm: Arm, process: ArmProcess) -> dict[str, Any]:
    run = arm.any_run
    runs = [r.id for _, r in sorted(arm.runs.items())]
    return {"run": run.id, "runs": runs, "refused": process.refused or None}


def measured(
    process: ArmProcess, turns: Sequence[Mapping[str, Any]], base: Sequence[float]
) -> dict[str, Any]:
    """The numbers of an arm. audio_seconds_per_second: median over rounds, of a whole run.
    relative: paired with the baseline's round by round, above 1 for a faster arm. share_of_peak:
    of what a large matrix product reaches in the arm's arithmetic, measured in between."""
    row = timed(process, turns)
    clock, own = row["clock"], rounds_of(row)
    gemm = row["gemm_flops"] / median(t["gemm"][clock] for t in turns)
    flops = sum(p["steps"] * p["flops"] for p in row["phases"])
    audio = sum(p["steps"] * p["samples"] for p in row["phases"]) / row["sampling_rate"]
    rate = flops / audio / median(own)
    phases = [
        {**p, "seconds": median(t["steps"][i][clock] for t in turns)}
        for i, p in enumerate(row["phases"])
    ]
    return {
        **row,
        "phases": phases,
        "audio_seconds_per_second": 1 / median(own),
        "relative": vars(paired_ratio(base, own)),
        "flops_per_second": rate,
        "gemm_flops_per_second": gemm,
        "share_of_peak": rate / gemm,
        "finite": all(t["finite"] for t in turns),
    }


def timed(process: ArmProcess, turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was measured, and the raw seconds of every turn."""
    assert process.facts is not None
    return {**process.facts, "raw": [{"gemm": t["gemm"], "steps": t["steps"]} for t in turns]}
