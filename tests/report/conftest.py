"""Fixtures: a sweep whose times to target are known, and a writer of more runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.known_sweeps import WriteRun, falling, write_one


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """nvidia crosses at 25 s (seed 0), 50 s (seed 1), 25 s (2); fast in half the time."""
    folder = tmp_path / "runs" / "s"
    for seed, step in ((0, 10.0), (1, 20.0), (2, 10.0)):
        write_one(folder, "nvidia", seed, falling(step))
        write_one(folder, "fast", seed, falling(step / (2.0 + 0.1 * seed)))
    return folder


@pytest.fixture
def write_run() -> WriteRun:
    return write_one
