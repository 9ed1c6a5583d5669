"""``wg verify``: is a run what it says, and may the runs of a sweep be compared?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from wg.errors import UserError
from wg.files import read_json, sha256_file
from wg.measure.record import Event, attempt_spans, read_events, snapshots
from wg.measure.verify import check_record
from wg.train.settings import Settings, identity


@dataclass
class Verdict:
    """faults: what must not be; notes: what a reader has to know, and may be."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Subject:
    """A run directory as it is found."""

    path: Path
    identity: Mapping[str, Any]
    config: Mapping[str, Any]
    events: list[Event]

    @property
    def start(self) -> Event:
        return next((e for e in reversed(self.events) if e["event"] == "start"), {})

    @property
    def name(self) -> str:
        return self.path.name


def verify(path: Path) -> dict[str, Verdict]:
    """Name -> verdict: of a run directory, or of all runs of a sweep and of the sweep itself.

    Errors: UserError when ``path`` is neither.
    """
    if (path / "run.json").is_file():
        subject, verdict = _read(path)
        return {path.name: verdict if subject is None else check_run(subject)}
    folders = sorted(p.parent for p in path.glob("*/run.json")) if path.is_dir() else []
    if not folders:
        raise UserError(f"{path} is neither a run nor a sweep: name a folder with a run.json.")
    found: dict[str, Verdict] = {}
    subjects = []
    for folder in folders:
        subject, verdict = _read(folder)
        found[folder.name] = verdict if subject is None else check_run(subject)
        if subject is not None:
            subjects.append(subject)
    return {**found, f"{path.name or path} as a sweep": check_sweep(subjects)}


def _read(folder: Path) -> tuple[Subject | None, Verdict]:
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None, Verdict(["config.yaml is missing or is not YAML"])
    if not isinstance(config, dict):
        return None, Verdict(["config.yaml holds no settings"])
    try:
        about = read_json(folder / "run.json")
    except UserError as error:
        return None, Verdict([str(error)])
    return Subject(folder, about, config, read_events(folder)), Verdict()


# -- one run ------------------------------------------------------------------------------------


def check_run(run: Subject) -> Verdict:
    """Its record, its configuration and its files tell one story."""
    verdict = Verdict(
        [*_identity(run), *check_record(run.events, run.config), *_grid(run), *_files(run)]
    )
    commits = {str(e.get("commit")) for e in run.events if e["event"] == "start"}
    if len(commits) > 1:
        verdict.notes.append(f"its attempts ran different code: {_list(commits)}")
    if any(c.endswith("+") for c in commits):
        verdict.notes.append("its code had changes that no commit holds")
    attempts = len({e["attempt"] for e in run.events if e["event"] == "start"})
    if attempts > 1:
        verdict.notes.append(f"it was resumed {attempts - 1} times; what was lost stays charged")
    return verdict


def _identity(run: Subject) -> Iterator[str]:
    key = identity(run.config)
    if not run.name.endswith(f"-{key}"):
        yield f"config.yaml has the hash {key}, and the directory is not named after it"
    told = {
        "config_hash": key,
        "id": run.name,
        "seed": run.config.get("seed"),
        "recipe": run.config.get("recipe"),
        "arm": run.config.get("arm"),
    }
    for name, value in told.items():
        if run.identity.get(name) != value:
            yield f"run.json says {name}={run.identity.get(name)} and the run has {value}"
    for name, value in (("run", run.name), *((n, told[n]) for n in ("seed", "recipe", "arm"))):
        if run.start and run.start.get(name) != value:
            yield f"the record is of {name}={run.start.get(name)} and the run has {value}"
    if run.start and run.start.get("threads") != run.config.get("threads"):
        yield f"it ran with {run.start.get('threads')} threads, not {run.config.get('threads')}"
    strategies = run.config.get("strategy") or {}
    if run.start and set(run.start.get("strategies") or {}) != set(strategies):
        yield "the record names other strategies than config.yaml"


def _grid(run: Subject) -> Iterator[str]:
    try:
        grid = Settings.from_config(dict(run.config)).grid()
    except UserError as error:
        yield f"config.yaml is no configuration of a run: {error}"
        return
    taken = snapshots(run.events)
    for snap in taken[:-1]:  # the last is where training ended, on the grid or not
        i, at = snap["index"], snap["audio_seconds"]
        if i >= len(grid) or at < grid[i] - 1e-6 or (i + 1 < len(grid) and at >= grid[i + 1]):
            yield f"snapshot {i} at {at:g} s of audio is not on the grid of config.yaml"


def _files(run: Subject) -> Iterator[str]:
    """Weights on disk have the hashes that were recorded when they were written."""
    taken = snapshots(run.events)
    for snap in taken:
        folder = run.path / snap["path"]
        if folder.exists():
            yield from _weights(folder, snap["sha256"])
    if taken and (run.path / "final").exists():
        yield from _weights(run.path / "final", taken[-1]["sha256"])
    elif any(e["event"] == "end" and e["status"] == "finished" for e in run.events):
        yield "final/ is missing"
    for audio in (e["audio"] for e in run.events if e["event"] == "samples"):
        for files in audio.values():
            lost = [f for f in files.values() if not (run.path / f).is_file()]
            if lost:
                yield f"{lost[0]} is missing"


def _weights(folder: Path, sha256: str) -> Iterator[str]:
    path = folder / "model.safetensors"
    what = f"{folder.name if folder.name == 'final' else 'snapshots/' + folder.name}"
    if not path.is_file():
        yield f"{what} holds no weights"
    elif sha256_file(path) != sha256:
        yield f"{what}/model.safetensors is not what was recorded (SHA-256 {sha256[:8]}...)"


# -- a sweep ------------------------------------------------------------------------------------


def check_sweep(runs: list[Subject]) -> Verdict:
    """Conditions of a fair comparison."""
    verdict = Verdict()
    pairs = Counter((r.identity.get("arm"), r.identity.get("seed")) for r in runs)
    for (arm, seed), n in pairs.items():
        if n > 1:
            verdict.faults.append(f"arm {arm} has seed {seed} {n} times")
    must: dict[str, Callable[[Subject], Any]] = {
        "snapshot grids": lambda r: str(r.config.get("snapshots")),
        "held-out audio that is scored": lambda r: str(_evaluation(r)),
        "corpora or splits": lambda r: str((r.start.get("corpus") or {}).get("digest"))[:8],
        "threads": lambda r: r.start.get("threads"),
        "clocks": lambda r: r.start.get("clock_kind"),
        "devices": _machine,
    }
    may: dict[str, Callable[[Subject], Any]] = {
        "code (commits)": lambda r: str(r.start.get("commit"))[:10],
        "versions": lambda r: str(r.start.get("versions")),
        "budgets": lambda r: str(r.config.get("budget")),
    }
    started = [r for r in runs if r.start]
    for facts, into in ((must, verdict.faults), (may, verdict.notes)):
        for what, fact in facts.items():
            groups: dict[Any, list[str]] = {}
            for r in started:
                groups.setdefault(fact(r), []).append(r.name)
            if len(groups) > 1:
                parts = "; ".join(f"{k}: {_list(v, 3)}" for k, v in groups.items())
                into.append(f"runs differ in {what} ({parts})")
    _copies(runs, verdict)
    _overlaps(started, verdict)
    return verdict


def _evaluation(r: Subject) -> dict[str, Any]:
    settings = r.config.get("evaluation") or {}
    return {k: settings.get(k) for k in ("sigma", "grid_seconds")}


def _copies(runs: list[Subject], verdict: Verdict) -> None:
    """Two runs that ended in the same weights: of two seeds, one is a copy under another name; of
    two arms with one seed, what they differ in did nothing."""
    ends: dict[str, list[Subject]] = {}
    for r in runs:
        taken = snapshots(r.events)
        if taken and taken[-1]["step"] > 0:
            ends.setdefault(taken[-1]["sha256"], []).append(r)
    for same in ends.values():
        names = _list(r.name for r in same)
        if len({r.identity.get("seed") for r in same}) > 1:
            verdict.faults.append(f"{names} ended in the very same weights")
        elif len({r.identity.get("arm") for r in same}) > 1:
            verdict.notes.append(f"{names} ended in the same weights: their recipes did the same")


def _overlaps(runs: list[Subject], verdict: Verdict) -> None:
    """Runs that shared a machine at a time: wall seconds are lost then, CPU seconds where threads
    outnumber cores."""
    machines: dict[str, list[Subject]] = {}
    for r in runs:
        machines.setdefault(_machine(r), []).append(r)
    for machine, here in machines.items():
        threads, names = _busiest(here)
        if len(names) < 2:
            continue
        about = here[0].start
        cores = int((about.get("machine") or {}).get("cores") or 1)
        wall = any(r.start.get("clock_kind") == "wall" for r in here if r.name in names)
        if wall or threads > cores:
            verdict.faults.append(f"{_list(names)} ran at the same time on one device ({machine})")
        else:
            verdict.notes.append(
                f"up to {len(names)} runs shared a machine of {cores} cores: their CPU seconds "
                "count, caches and memory bandwidth were shared"
            )


def _busiest(runs: list[Subject]) -> tuple[int, list[str]]:
    """(threads, names of the runs) of the moment with most threads at work."""
    changes = sorted(
        (at, -leaving, r.name, int(r.start.get("threads") or 1) * int(r.start.get("ranks") or 1))
        for r in runs
        for span in attempt_spans(r.events)
        for at, leaving in ((span[0], 0), (span[1], 1))
    )
    now: dict[str, int] = {}
    most: tuple[int, list[str]] = (0, [])
    # Who leaves at a moment does so before others come.
    for _, leaves, name, threads in changes:
        if leaves:
            now.pop(name, None)
        else:
            now[name] = threads
        if sum(now.values()) > most[0]:
            most = sum(now.values()), list(now)
    return most


def _machine(r: Subject) -> str:
    machine = r.start.get("machine") or {}
    return ", ".join(str(machine[k]) for k in ("gpu", "cpu", "cores") if machine.get(k))


def _list(items: Any, most: int = 4) -> str:
    shown = sorted(map(str, items))
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
