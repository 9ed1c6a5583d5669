"""Where the findings of ``wg bench step`` are written: FILE.json, and FILE.md beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wg.bench.rows import FORMAT
from wg.bench.show import markdown
from wg.errors import UserError
from wg.files import write_atomic, write_json


def check_target(path: Path) -> None:
    """UserError unless ``path`` can be written and is new, or an earlier bench's own file. Asked
    before anything is measured, which takes minutes."""
    if path.suffix != ".json":
        raise UserError(f"--out={path} must end in .json: the table goes to .md beside it")
    if path.exists() and not _is_own(path):
        raise UserError(f"--out={path} exists and was not written by `wg bench step`: name another")
    page = path.with_suffix(".md")
    if page.exists() and not path.exists():
        raise UserError(f"{page} exists and would be replaced: name another --out")
    above = next(p for p in path.absolute().parents if p.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"--out={path} cannot be written below {above}: name another place")


def _is_own(path: Path) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    # An earlier version's table is this command's too: it may be measured anew.
    kind = FORMAT.rsplit("/", 1)[0]
    return isinstance(found, dict) and str(found.get("format")).rsplit("/", 1)[0] == kind


def write(path: Path, findings: Mapping[str, Any]) -> None:
    """Both files, each whole or as it was."""
    write_json(path, findings)
    write_atomic(path.with_suffix(".md"), markdown(findings).encode())
