"""``wg bench step``: every variant against plain training or a peer's code, one process a
measurement."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wg.audio.bar import LateBar
from wg.bench.measure import PROGRESS
from wg.bench.rows import FORMAT, Row, failed_row, row_of
from wg.bench.step import settings_of
from wg.bench.variants import PEER, Sizes, Variant, combination, plain, recipe, system_variants
from wg.commit import code_commit
from wg.errors import UserError
from wg.sweep.launch import own_environment

# bytes: from here on glibc returns freed memory at once, also where it would learn to keep it, and
# the peak is that of tensors that live together, as the GPU's is.
MMAP_FROM = 128 * 1024
Say = Callable[[str], None]


def choose(
    sizes: Sizes,
    strategies: Sequence[str] = (),
    recipes: Sequence[str] = (),
    peer: Path | None = None,
    only: bool = False,
    against_peer: bool = False,
) -> list[Variant]:
    """What all others are measured against first, as its own control: plain training, or with
    ``against_peer`` the peer; then every system strategy (not with ``only``), and what was asked
    for besides.

    Errors: UserError for names that do not exist.
    """
    base = plain(sizes)
    chosen = [base] if only else [base, *system_variants(sizes)]
    chosen += [combination(sizes, text) for text in strategies]
    chosen += [recipe(sizes, name) for name in recipes]
    if peer is not None:
        if not (peer / "glow.py").is_file():
            raise UserError(f"--peer={peer} has no glow.py: name a checkout of NVIDIA/waveglow")
        theirs = Variant("NVIDIA/waveglow", PEER, base.config, str(peer.resolve()))
        chosen.insert(0 if against_peer else len(chosen), theirs)
    # A system strategy that is named as well is measured once.
    return list({v.name: v for v in chosen}.values())


def bench_step(
    variants: Sequence[Variant],
    repeats: int,
    command: str,
    say: Say,
    keep: Callable[[dict[str, Any]], None] = lambda findings: None,
) -> tuple[dict[str, Any], bool]:
    """All ``variants`` against the first of them.

    Gives (the findings as plain values, whether all was measured): Ctrl-C keeps what there is. So
    does a kill what ``keep`` was given, which is called after every row."""
    base = variants[0].config
    about = header(FORMAT, command, base)
    rows: list[Row] = []

    def findings(complete: bool) -> dict[str, Any]:
        return {
            **about,
            "complete": complete,
            "model": base["model"],
            "base": variants[0].name,
            "repeats": repeats,
            "rows": [asdict(row) for row in rows],
        }

    try:
        for i, variant in enumerate(variants, start=1):
            say(f"[{i}/{len(variants)}] {variant.name}")
            rows.append(_measure(variants[0], variant, repeats, say))
            keep(findings(complete=False))
    except KeyboardInterrupt:
        say("interrupted: what was measured so far is kept")
        return findings(complete=False), False
    return findings(complete=True), True


def header(form: str, command: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What findings say of themselves. Asked before measuring: code may change meanwhile."""
    return {
        "format": form,
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": code_commit(),
        "machine": machine_of(config),
    }


def _measure(base: Variant, variant: Variant, repeats: int, say: Say) -> Row:
    try:
        settings_of(variant.config)  # what is refused on sight needs no process
    except UserError as refusal:
        say(f"  {refusal}")
        return failed_row(variant, str(refusal))
    timed = _in_a_process(
        {"what": "compare", "base": asdict(base), "variant": asdict(variant), "repeats": repeats},
        LateBar(repeats, variant.name),
    )
    if "times" not in timed:
        say(f"  {timed['refused']}")
        return failed_row(variant, timed["refused"])
    kept = _in_a_process({"what": "memory", "variant": asdict(variant)}, LateBar(1, "memory"))
    return row_of(variant, timed, kept)


def _in_a_process(task: dict[str, Any], bar: LateBar) -> dict[str, Any]:
    """What :mod:`wg.bench.measure` found. A process that fails is a finding too."""
    env = own_environment(task["variant"]["config"]["threads"])
    if task["what"] == "memory":
        env["MALLOC_MMAP_THRESHOLD_"] = str(MMAP_FROM)
    with tempfile.TemporaryDirectory(prefix="wg-bench-") as tmp:
        given, result, log = (Path(tmp) / name for name in ("task.json", "result.json", "log.txt"))
        given.write_text(json.dumps(task))
        command = [sys.executable, "-m", "wg.bench.measure", str(given), str(result)]
        with log.open("w") as errors, bar:
            process = subprocess.Popen(
                command, env=env, stdout=subprocess.PIPE, stderr=errors, text=True
            )
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith(PROGRESS):
                        bar.move_to(int(line.removeprefix(PROGRESS)))
                process.wait()
            finally:  # also when interrupted
                process.kill()
                process.wait()
        if result.exists():
            found: dict[str, Any] = json.loads(result.read_text())
            return found
        lines = [line for line in log.read_text().splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit status {process.returncode}"
        return {"refused": f"failed: {reason}"}


def machine_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Where a configuration is measured."""
    import torch

    from wg.train.build import resolve_device
    from wg.train.facts import machine

    device = resolve_device(config["device"])
    return {
        **machine(device),
        "device": device.type,
        "torch": torch.__version__,
        "threads": config["threads"],
    }
