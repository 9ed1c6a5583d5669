"""Every strategy on a GPU, as far as a machine without one can tell: no operation meets tensors of
two devices, and neither the loss, nor its way back, nor the optimizer asks for a number, which
would make the host wait for the device.

Not seen: numbers; the guard, which asks for one norm a step and decides by it; and strategies that
need what only a GPU has (GPU_ONLY in strategies_table.py), for which the refusal is tested."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from contract import Config, covering_recipes, settled
from strategies_table import TRAINED

from wg.sweep.compose import configurations

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    torch.version.cuda is not None or shutil.which("g++") is None,
    reason="needs a PyTorch without CUDA, and g++",
)


def stand_in(folder: Path) -> Path:
    """The device that steps.py loads."""
    root = Path(torch.__file__).parent
    library = folder / "stand_in.so"
    subprocess.run(
        [
            "g++", "-shared", "-fPIC", "-std=c++20", "-o", str(library), str(HERE / "stand_in.cpp"),
            f"-I{root}/include", f"-L{root}/lib", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{root}/lib",
        ],
        check=True,
    )  # fmt: skip
    return library


def some_recipes() -> list[tuple[str, ...]]:
    """Two that users train, whatever is in them, and of the contract's recipes so many that every
    strategy is in one."""
    chosen = [tuple(configurations([f"recipe={name}"])[0]["strategy"]) for name in ("ear", "grow")]
    held = {name for recipe in chosen for name in recipe}
    for recipe in sorted(covering_recipes(), key=len, reverse=True):
        if not held.issuperset(recipe):
            chosen.append(recipe)
            held.update(recipe)
    return chosen


def test_every_strategy_steps_on_one_device(tiny_config: Config, tmp_path: Path) -> None:
    jobs = {
        "+".join(recipe): tiny_config(strategy=settled(recipe, tiny_config, tmp_path / str(i)))
        for i, recipe in enumerate(some_recipes())
    }
    assert {name for recipe in jobs for name in recipe.split("+")} == set(TRAINED)
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [
            sys.executable, str(HERE / "steps.py"),
            str(tmp_path / "jobs.json"), str(tmp_path / "found.json"),
        ],
        env={
            **os.environ, "PYTHONPATH": str(HERE.parents[1]),
            "LD_PRELOAD": str(stand_in(tmp_path)),
        },
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert sorted(found) == sorted(jobs)
    wrong = {name: trace for name, trace in found.items() if trace}
    assert not wrong, f"{len(wrong)} recipes:\n" + "\n".join(f"{n}\n{t}" for n, t in wrong.items())
