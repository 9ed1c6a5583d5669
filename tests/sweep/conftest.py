"""Runs that `wg verify` looks at, made once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory, corpus_dir: Path) -> Path:
    """A sweep of two arms and two seeds, made by the command line."""
    folder = tmp_path_factory.mktemp("verify")
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [
            sys.executable, "-m", "wg", "train", "-m", "model=tiny", "+debug=smoke", "logger=none",
            "out=runs/t", "data=folder", f"data.path={corpus_dir}", "data.sampling_rate=16000",
            "data.held_out=2", "log_every=1", "strategy=[],[clip]", "seed=0,1",
        ],
        cwd=folder, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(root), "WG_CACHE_DIR": str(folder / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for path in (folder / "runs" / "t").glob("*/run.json"):
        # Somebody may have made a commit meanwhile.
        start = json.loads((path.parent / "events.jsonl").read_text().split("\n", 1)[0])
        path.write_text(json.dumps({**json.loads(path.read_text()), "commit": start["commit"]}))
    return folder / "runs" / "t"


@pytest.fixture
def sweep(honest: Path, tmp_path: Path) -> Path:
    """A copy to forge."""
    shutil.copytree(honest, tmp_path / "t")
    return tmp_path / "t"
