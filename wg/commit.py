"""Which code a run was started from."""

from __future__ import annotations

import subprocess
from pathlib import Path


def code_commit() -> str | None:
    """The commit of the code, with ``+`` when the checkout differs from it."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        dirty = git(
            "status", "--porcelain", "--untracked-files=normal", "--", "wg", "conf", "sweeps"
        )
        return git("rev-parse", "HEAD") + ("+" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return None
