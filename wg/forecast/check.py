"""Predictions against measurements on this machine: ``python -m wg.forecast.check -o FOLDER``.

Steps: the two numbers of :class:`wg.forecast.here.Here` are taken from a long and a short step of
the small model, and predict steps of other lengths, batches and networks. All-reduce: bandwidth and
latency of a ring of two gloo processes are taken from two sizes, and predict others. Memory: the
model's peak against those that ``wg bench step`` has measured. Writes results.json.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from wg.bench.batch import make_batch
from wg.bench.gauge import Gemm, seconds
from wg.bench.step import OwnStep
from wg.commit import code_commit
from wg.files import read_json, write_json
from wg.forecast.here import here, solved
from wg.forecast.memory import MemoryModel
from wg.forecast.model import all_reduce_seconds
from wg.sweep.compose import configurations
from wg.train.facts import machine
from wg.train.workload import Workload, workload

# The two numbers are from these, and predict those.
FROM = (["model=small", "segment_length=16000"], ["model=small", "segment_length=4000"])
STEPS = (
    ["model=small", "segment_length=8000"],
    ["model=small", "segment_length=4000", "batch_size=4"],
    ["model=small", "segment_length=16000", "strategy=[interpolated_mel]"],
    ["model=small", "segment_length=16000", "strategy=[recompute]"],
    ["model=tiny", "segment_length=16000"],
    ["model=paper", "segment_length=4000", "batch_size=1"],
)
# Gradients travel in buckets of 25 MB; those of the small model are 37.2 MB.
FROM_MB, TO_MB = (1, 25), (0.25, 4, 10, 37.2, 128)
ROUNDS, REPEATS = 31, 9
SOMEWHERE = ("data=demo", "data.short_clips=pad", "device=cpu")


def steps() -> dict[str, Any]:
    """Measured and predicted seconds of every step, all in turns with a matrix product."""
    device = torch.device("cpu")
    stated = here("cpu", 1)
    made = [_made(overrides) for overrides in (*FROM, *STEPS)]
    gemm = Gemm(device)
    gemm()
    times: list[list[float]] = [[] for _ in made]
    products: list[float] = []
    for i in range(REPEATS + 1):
        products.append(seconds(gemm, device).cpu)
        for (_, _, step), kept in zip(made, times, strict=True):
            spent = seconds(partial(_once, step), device).cpu
            if i > 0:  # the first step makes the optimizer's state
                kept.append(spent)
    rate = gemm.flops / median(products)
    facts = [_facts(work, memory, t) for (work, memory, _), t in zip(made, times, strict=True)]
    efficiency, bandwidth = solved(facts[:2], rate, stated.bandwidth)
    stated = replace(stated, gemm_rate=rate)
    calibrated = replace(stated, efficiency=efficiency, bandwidth=bandwidth)
    rows = [
        {
            "step": " ".join(overrides),
            **fact,
            "predicted": calibrated.step_seconds(work, memory, work.longest),
            "predicted_by_stated_shares": stated.step_seconds(work, memory, work.longest),
        }
        for overrides, fact, (work, memory, _) in zip((*FROM, *STEPS), facts, made, strict=True)
    ]
    return {"stated": asdict(stated), "calibrated": asdict(calibrated), "from": rows[:2],
            "rows": rows[2:]}  # fmt: skip


def _made(overrides: Sequence[str]) -> tuple[Workload, MemoryModel, OwnStep]:
    work = workload(configurations([*overrides, *SOMEWHERE])[0])
    shape = work.longest.shape
    batch = make_batch(work.settings.data.mel, shape.batch, shape.samples)
    return work, MemoryModel(work), OwnStep(work.settings, batch)


def _once(step: OwnStep) -> None:
    step.use()
    step.backward()
    step.update()


def _facts(work: Workload, memory: MemoryModel, times: list[float]) -> dict[str, Any]:
    shape = work.longest.shape
    return {
        "flops": work.longest.flops * work.repeated,
        "moved": memory.weights_moved + memory.traffic(shape.batch * shape.samples),
        "seconds": median(times),
        "all": times,
    }


def _rank(rank: int, port: int, sizes: list[int], out: Path) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    tensors = [torch.ones(n // 4) for n in sizes]
    times: list[list[float]] = [[] for _ in sizes]
    for i in range(ROUNDS + 1):
        for tensor, kept in zip(tensors, times, strict=True):
            dist.barrier()
            began = time.perf_counter()
            dist.all_reduce(tensor)
            if i > 0:  # the first round makes the connections
                kept.append(time.perf_counter() - began)
    if rank == 0:
        out.write_text(json.dumps(times))
    dist.destroy_process_group()


def all_reduces(folder: Path) -> dict[str, Any]:
    """Of two processes over the loopback: wall seconds, sizes in turns."""
    sizes = [int(mb * 1e6) // 4 * 4 for mb in (*FROM_MB, *TO_MB)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = folder / "all_reduce.tmp.json"
    mp.spawn(partial(_rank, port=port, sizes=sizes, out=out), nprocs=2)  # type: ignore[attr-defined]
    times: list[list[float]] = json.loads(out.read_text())
    out.unlink()
    medians = [median(t) for t in times]
    # 2 (n - 1) / n = 1 and 2 (n - 1) = 2 for two ranks: a line through two sizes.
    (a, b), (s, t) = sizes[:2], medians[:2]
    bandwidth = (b - a) / (t - s)
    latency = max((s - a / bandwidth) / 2, 0.0)
    rows = [
        {
            "bytes": size,
            "measured": found,
            "all": all_,
            "predicted": all_reduce_seconds(2, size, bandwidth, latency),
        }
        for size, found, all_ in zip(sizes[2:], medians[2:], times[2:], strict=True)
    ]
    return {"from_bytes": [a, b], "bandwidth": bandwidth, "latency": latency, "rows": rows}


def memory(bench: Path) -> list[dict[str, Any]]:
    """Peaks above the loaded model, as ``wg bench step`` has measured them in ``bench``."""
    found = []
    for row in read_json(bench)["rows"]:
        if row["peak_bytes"] is None or row["kind"] == "peer" or "compile" in row["strategies"]:
            continue
        config = configurations(["model=small", "data=demo", "data.short_clips=pad"])[0]
        work = workload({**config, "strategy": row["strategies"]})
        shape = work.longest.shape
        peak = MemoryModel(work).at(shape.batch, shape.samples)
        found.append(
            {
                "step": row["name"],
                "measured": row["peak_bytes"],
                "predicted": peak.total - peak.parameters,
            }
        )
    return found


def main() -> None:
    torch.set_num_threads(1)
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True, help="Folder to write to.")
    parser.add_argument("--bench", type=Path, default=Path("reports/bench/step-small.json"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    findings: dict[str, Any] = {
        "command": "python -m wg.forecast.check " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": code_commit(),
        "machine": machine(torch.device("cpu")),
        "torch": torch.__version__,
        "repeats": REPEATS,
        "steps": steps(),
        "rounds": ROUNDS,
        "all_reduce": all_reduces(given.out),
        "memory": memory(given.bench),
    }
    write_json(given.out / "results.json", findings)
    for row in findings["steps"]["rows"]:
        print(f"{row['step']}: {row['seconds']:.3f} s, predicted {row['predicted']:.3f} "
              f"(stated {row['predicted_by_stated_shares']:.3f})")  # fmt: skip
    for row in findings["all_reduce"]["rows"]:
        print(f"{row['bytes'] / 1e6:g} MB: {1e3 * row['measured']:.2f} ms, predicted "
              f"{1e3 * row['predicted']:.2f}")  # fmt: skip
    for row in findings["memory"]:
        print(f"{row['step']}: {row['measured'] / 1e6:.0f} MB, predicted "
              f"{row['predicted'] / 1e6:.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
