"""What the processes of one ``wg train`` tell each other: outcomes, process ids, a wish to stop.

Hydra's launchers run jobs in this process, in workers, or on other machines, and lose what jobs
return when one of them fails. Workers of joblib are killed with all their children at Ctrl-C. So
the command keeps a small folder, named in the environment: jobs append their outcomes and the
process ids of their runs there, and an interrupt is passed on to the runs, which save their state
and end by themselves while everybody waits.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

_VARIABLE = "WG_SESSION"
Result = Literal["finished", "skipped", "interrupted", "failed", "refused", "not started"]


@dataclass(frozen=True)
class Outcome:
    """What became of one job of a sweep."""

    arm: str
    seed: int
    result: Result
    run_dir: str | None
    reason: str = ""


class Session:
    """The folder, from the side of the command that the user typed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.interrupted = False

    def outcomes(self) -> list[Outcome]:
        return [Outcome(**row) for row in _rows(self.folder / "outcomes.jsonl")]

    def _stop(self, number: int, frame: Any) -> None:
        self.interrupted = True
        (self.folder / "stop").touch()
        rows = _rows(self.folder / "pids.jsonl")
        ended = {r["pid"] for r in rows if r["ended"]}
        for row in rows:
            if row["host"] == socket.gethostname() and row["pid"] not in ended:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(row["pid"], number)


@contextlib.contextmanager
def session() -> Iterator[Session]:
    """A session for the time of a command. SIGINT and SIGTERM stop its runs, not the command."""
    # In the current directory, which workers on other machines see too.
    place = Path.cwd() if os.access(Path.cwd(), os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=".wg-", dir=place) as tmp:
        here = Session(Path(tmp))
        os.environ[_VARIABLE] = tmp
        old = {s: signal.signal(s, here._stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield here
        finally:
            for s, handler in old.items():
                signal.signal(s, handler)
            del os.environ[_VARIABLE]


def stopping() -> bool:
    """For jobs: whether the user wants no more runs."""
    folder = os.environ.get(_VARIABLE)
    return folder is not None and (Path(folder) / "stop").exists()


def tell(outcome: Outcome) -> None:
    """For jobs: what became of this one."""
    _append("outcomes.jsonl", asdict(outcome))


@contextlib.contextmanager
def known_to_the_session(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """For jobs: a run that wants to know of interrupts, for as long as it lives."""
    row = {"pid": process.pid, "host": socket.gethostname()}
    _append("pids.jsonl", {**row, "ended": False})
    if stopping():  # asked for while it was being started
        process.send_signal(signal.SIGTERM)
    try:
        yield
    finally:
        _append("pids.jsonl", {**row, "ended": True})


def in_a_worker() -> None:
    """For jobs in a launcher's worker: leave the terminal's Ctrl-C to the runs and the command."""
    with contextlib.suppress(ValueError):  # not in the main thread: nothing to leave
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _append(name: str, row: dict[str, Any]) -> None:
    folder = os.environ.get(_VARIABLE)
    # Where the folder cannot be seen, the run's own record tells the rest.
    if folder and Path(folder).is_dir():
        with open(Path(folder) / name, "a", encoding="utf-8") as f:
            f.write(json.dumps(row) + "\n")


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line]
