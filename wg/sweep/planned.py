"""``planned.jsonl``: the runs that a sweep has begun, one line each, which it has to show for.

A run that went badly and was taken away would not be missed otherwise.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from wg.errors import UserError

FILE = "planned.jsonl"  # in the sweep's directory


def note_planned(run_dir: Path, arm: str, seed: int) -> None:
    """Append a run to its sweep's list, unless it is there. Any number of processes may: a short
    line that is appended in one go is never mixed with another.

    Errors: UserError when it cannot be written.
    """
    if any(row["run"] == run_dir.name for row in read_planned(run_dir.parent)[0]):
        return
    row = {"run": run_dir.name, "arm": arm, "seed": seed, "time": time.time()}
    path = run_dir.parent / FILE
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, (json.dumps(row, ensure_ascii=False) + "\n").encode())
        finally:
            os.close(file)
    except OSError as e:
        raise UserError(f"{path} cannot be written ({e.strerror}).") from None


def read_planned(sweep_dir: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """(the runs, the numbers of lines that name none); both empty without a list."""
    try:
        text = (sweep_dir / FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [], []
    rows, damaged = [], []
    for n, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and isinstance(row.get("run"), str):
            rows.append(row)
        else:
            damaged.append(n)
    return rows, damaged
