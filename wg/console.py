"""The terminal: tables as wide as it is, and wide enough for a log when there is none."""

from __future__ import annotations

import os
import sys

from rich.console import Console


def console() -> Console:
    """A rich console on standard output."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=160 if piped else None)
