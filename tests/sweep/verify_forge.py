"""Reading, editing and judging the records of a sweep."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from wg.cli import main
from wg.sweep.verify import verify

Events = list[dict[str, Any]]
Forge = Callable[[Path], None]
Change = Callable[[Events], Events | None]


def runs(sweep: Path) -> list[Path]:
    return sorted(p.parent for p in sweep.glob("*/run.json"))


def events(run: Path) -> Events:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def write(run: Path, found: Events) -> None:
    (run / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in found))


def edit(change: Change) -> Forge:
    def forge(run: Path) -> None:
        found = events(run)
        write(run, change(found) or found)

    return forge


def faults(path: Path) -> str:
    return "\n".join(f for verdict in verify(path).values() for f in verdict.faults)


def main_exit(arguments: list[str], code: int) -> None:
    """``wg ARGUMENTS`` ends with ``code``."""
    with mock.patch.object(sys, "argv", ["wg", *arguments]):
        if code == 0:
            main()
            return
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == code


def stretched(found: Events, times: float = 60.0) -> None:
    """The same run on a machine that is so much slower, and its alone: CPU seconds are wall
    seconds there. Book-keeping takes what it took."""
    first = found[0]["time"]
    before = {"training": 0.0, "other": 0.0}
    for e in found:
        added = 0.0
        for section, kinds in (e.get("clock") or {}).items():
            if section in ("train", "eval"):
                added += kinds["wall"] * (times - 1)
                kinds["wall"] *= times
            kinds["cpu"] = kinds["wall"]
        before["training"] = max(before["training"], added)
        e["time"] = max(e["time"], first) + before["training"]
