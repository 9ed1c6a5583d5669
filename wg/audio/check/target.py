"""Where ``wg data check --json`` may write, looked at before any file is decoded."""

from __future__ import annotations

import json
import os
from pathlib import Path

from wg.audio.names import kind_of
from wg.errors import UserError

FORMAT = "wg-data-check/1"  # in every file that it writes, so that it knows its own


def check_target(path: Path) -> None:
    """UserError unless ``path`` can be written and is new, or an earlier check's own file."""
    kind = kind_of(path)
    if kind == "folder":
        raise UserError(f"--json={path} is a folder: name a file in it, as {path / 'check.json'}")
    if kind is not None and not (kind == "file" and _is_own(path)):
        raise UserError(
            f"--json={path} exists and was not written by `wg data check --json`: name another file"
        )
    above = next(p for p in path.absolute().parents if kind_of(p) is not None)
    if kind_of(above) != "folder":
        raise UserError(f"--json={path} cannot be written, {above} is a file: name another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"--json={path} cannot be written, {above} is not yours: name another file")


def _is_own(path: Path) -> bool:
    try:
        # A recording given by mistake may be large; ours begins with its format.
        with path.open("rb") as file:
            if not file.read(64).lstrip().startswith(b"{"):
                return False
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and str(facts.get("format")).startswith("wg-data-check/")
