"""One arm's steps in a process of its own, a repetition whenever the parent asks for one.

``python -m wg.bench.worker CONFIG.json`` builds the steps of a resolved configuration, one for
every shape that a run of it goes through, answers with one line of JSON ("ready"), and then with
one line ("turn") for every line on its standard input. Between turns it waits and computes nothing,
so arms take turns on a machine without sharing a process: its allocator, its compiled code and its
switches are those of a run.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from wg.bench.batch import make_batch
from wg.bench.gauge import Gemm, clock_of, refusal, seconds
from wg.bench.measure import WARM_UP, run, steps_of_a_repetition
from wg.bench.step import OwnStep, settings_of
from wg.errors import UserError
from wg.train.workload import Phase, Workload, workload

ANSWER = "wg-bench-arm "  # before what is for the parent; libraries may print, too
LONG_PRODUCT = 0.1  # seconds of matrix products in a turn


class ArmSteps:
    """Steps of one configuration in every shape that its run goes through, and a matrix product
    in its arithmetic to hold them against.

    Errors: UserError for what cannot be trained here, or takes several processes.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        settings_of(config)
        self.work: Workload = workload(config)
        self.steps = [self._step(phase) for phase in self.work.phases]
        self.device = self.steps[0].job.device
        self.clock = clock_of(self.device)
        self.gemm = Gemm(self.device, self.work.arithmetic)
        self.repeated = [self._warmed_up(step) for step in self.steps]
        self.gemm()
        once = seconds(self.gemm, self.device).wall
        self.products = max(1, round(LONG_PRODUCT / max(once, 1e-9)))

    def _step(self, phase: Phase) -> OwnStep:
        shape = phase.shape
        mel = self.work.settings.data.mel
        step = OwnStep(self.work.settings, make_batch(mel, shape.batch, shape.samples))
        step.job.module.grow_to(phase.begins)
        return step

    def _warmed_up(self, step: OwnStep) -> int:
        """How many steps a repetition has."""
        step.use()
        step.settle()
        run(step, WARM_UP, self.device)  # compiles, and makes the optimizer's state
        return steps_of_a_repetition(run(step, 1, self.device).wall)

    def _products(self) -> None:
        for _ in range(self.products):
            self.gemm()

    def facts(self) -> dict[str, Any]:
        """What is measured: model FLOPs and audio samples of a step, and how many steps of each
        shape a run makes."""
        return {
            "clock": self.clock,
            "arithmetic": self.work.arithmetic,
            "gemm_flops": self.products * self.gemm.flops,
            "sampling_rate": self.work.settings.data.sampling_rate,
            "phases": [
                {
                    "steps": p.steps,
                    "samples": p.shape.batch * p.shape.samples,
                    "flops": step.job.module.flops_of_step(p.shape.batch, p.shape.samples),
                    "shape": asdict(p.shape),
                }
                for p, step in zip(self.work.phases, self.steps, strict=True)
            ],
        }

    def turn(self) -> dict[str, Any]:
        """Seconds of a few matrix products, and of a step of each shape, one after the other."""
        gemm = asdict(seconds(self._products, self.device))
        found = []
        for step, n in zip(self.steps, self.repeated, strict=True):
            if self.device.type == "cuda":
                run(step, 1, self.device)  # its memory was given back, and its clocks have rested
            took = asdict(run(step, n, self.device))
            found.append({kind: value / n for kind, value in took.items()})
        finite = all(math.isfinite(float(step.backward())) for step in self.steps)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # the next arm needs the room
        return {"gemm": gemm, "steps": found, "finite": finite}


def main(task: Path) -> None:
    """Errors of the user's are an answer; others leave a traceback and none."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    config: Mapping[str, Any] = json.loads(task.read_text())
    torch.set_num_threads(config["threads"])
    try:
        arm = ArmSteps(config)
        _say({"ready": arm.facts()})
        for _ in sys.stdin:
            _say({"turn": arm.turn()})
    except (UserError, RuntimeError) as error:
        _say({"refused": refusal(error)})


def _say(answer: Mapping[str, Any]) -> None:
    print(ANSWER + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
