"""``wg verify``: is a run what it says, and may the runs of a sweep be compared?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wg.errors import UserError
from wg.files import sha256_file
from wg.measure.record import Event, snapshots
from wg.measure.verify import check_record, outcome
from wg.measure.verify_clock import cpu_share
from wg.sweep.verify_config import check_donor, check_identity, check_target
from wg.sweep.verify_subject import Subject, Verdict, listed, read_subject
from wg.sweep.verify_sweep import check_sweep
from wg.sweep.verify_work import check_work, try_work
from wg.train.settings import Settings

# Training that never has more of a CPU than this is told: it is rare on an honest machine.
LITTLE = 0.3


def verify(path: Path) -> dict[str, Verdict]:
    """Name -> verdict: of a run directory, or of all runs of a sweep and of the sweep itself.

    Errors: UserError when ``path`` is neither.
    """
    folders = run_folders(path)
    found: dict[str, Verdict] = {}
    subjects = []
    for folder in folders:
        subject, verdict = read_subject(folder)
        if folder != path and subject is not None and (why := _never_began(subject)):
            found[folder.name] = Verdict(notes=[why])
            continue
        found[folder.name] = verdict if subject is None else check_run(subject)
        if subject is not None:
            subjects.append(subject)
    if folders == [path]:
        return found
    whole = check_sweep(subjects, path)
    if not subjects and not any(v.faults for v in found.values()):
        whole.faults.append("none of its runs has started: there is nothing to compare")
    return {**found, f"{path.name or path} as a sweep": whole}


def run_folders(path: Path) -> list[Path]:
    """The run at ``path`` alone, or the runs of the sweep there.

    Errors: UserError when ``path`` is neither.
    """
    if (path / "run.json").is_file():
        return [path]
    folders = sorted(p.parent for p in path.glob("*/run.json")) if path.is_dir() else []
    if not folders:
        raise UserError(f"{path} is neither a run nor a sweep: name a folder with a run.json.")
    return folders


def _never_began(run: Subject) -> str | None:
    """A sentence for a run that was refused before it started, as for a mistyped path: it has
    measured nothing, so it can neither be at fault nor be compared."""
    if not run.events or any(e["event"] != "end" or e["status"] != "refused" for e in run.events):
        return None
    reason = str(run.events[-1].get("reason") or "").rstrip(".")
    return f"was refused before it started and measured nothing: {reason}"


def check_run(run: Subject) -> Verdict:
    """Its record, its configuration and its files tell one story."""
    verdict = Verdict([*check_identity(run), *check_record(run.events, run.config)])
    if diverged := outcome(run.events):
        verdict.notes.append(diverged)
    _configuration(run, verdict)
    for check in (check_target, check_donor, _files):
        faults, notes = check(run)
        verdict.faults += faults
        verdict.notes += notes
    starts = [e for e in run.events if e["event"] == "start"]
    commits = {str(e.get("commit")) for e in starts}
    if len(commits) > 1:
        verdict.notes.append(f"its attempts ran different code: {listed(commits)}")
    if any(c.endswith("+") for c in commits):
        verdict.notes.append("its code had changes that no commit holds")
    attempts = len({e["attempt"] for e in starts})
    if attempts > 1:
        verdict.notes.append(f"it was resumed {attempts - 1} times; what was lost stays charged")
    share = cpu_share(run.events)
    if run.start.get("device") == "cpu" and share is not None and share < LITTLE:
        verdict.notes.append(
            f"training never had more than {share:.0%} of a CPU: the machine was busy with other "
            "things all along, or its CPU seconds are too few"
        )
    return verdict


def _configuration(run: Subject, verdict: Verdict) -> None:
    """What config.yaml gives, in steps and audio, is what the record has."""
    try:
        settings = Settings.from_config(dict(run.config))
    except (UserError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        verdict.faults.append(f"config.yaml is no configuration of a run: {why}")
        return
    verdict.faults += _grid(run, settings.grid())
    work, why = try_work(run)
    if work is None:
        verdict.notes.append(f"its steps were not counted, as this wg cannot plan them: {why}")
    else:
        verdict.faults += check_work(run, work)


def _grid(run: Subject, grid: list[float]) -> Iterator[str]:
    taken = snapshots(run.events)
    for snap in taken[:-1]:  # the last is where training ended, on the grid or not
        i, at = snap["index"], snap["audio_seconds"]
        if i >= len(grid) or at < grid[i] - 1e-6 or (i + 1 < len(grid) and at >= grid[i + 1]):
            yield f"snapshot {i} at {at:g} s of audio is not on the grid of config.yaml"


# -- files ------------------------------------------------------------------------------------


def _files(run: Subject) -> tuple[list[str], list[str]]:
    """(faults, notes): weights on disk have the hashes that were recorded when they were written,
    and none is missing, unless they were left out all together: records can travel alone."""
    weights = [*run.path.glob("snapshots/*/*"), *run.path.glob("final/*")]
    if not weights and run.events:
        return [], ["its weights are not here, so their hashes were not checked"]
    return [*_weights_here(run), *_audio(run)], []


def _weights_here(run: Subject) -> Iterator[str]:
    taken = snapshots(run.events)
    for snap in taken:
        folder = run.path / snap["path"]
        if folder.exists():
            yield from _weights(folder, snap["sha256"])
    last = _last_good(run, taken)
    if (run.path / "final").exists():
        if last is not None:
            yield from _weights(run.path / "final", last["sha256"])
    elif run.finished:
        yield "final/ is missing"
    if run.finished and (run.config.get("snapshots") or {}).get("keep") == "all":
        lost = [s["index"] for s in taken[:-1] if not (run.path / s["path"]).exists()]
        if lost:
            yield f"the weights of snapshots {listed(lost)} are missing, and snapshots.keep is all"


def _last_good(run: Subject, taken: list[Event]) -> Event | None:
    """The snapshot that final/ is: the last, or of a run that diverged the one it went back to."""
    ends = [e for e in run.events if e["event"] in ("rollback", "trained")]
    if ends and ends[-1]["event"] == "rollback":
        path = str(ends[-1].get("snapshot") or "")
        return next((s for s in taken if path and Path(s["path"]) == Path(path)), None)
    return taken[-1] if taken else None


def _audio(run: Subject) -> Iterator[str]:
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
