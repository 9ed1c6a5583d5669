"""Forging whole runs: their pace, and their configuration with all that is named after it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from verify_forge import Events, events, write

from wg.train.settings import identity


def paced(found: Events, seconds: float = 2.0) -> None:
    """The same run with steps of so many seconds, all of them computed."""
    added = 0.0
    for e in found:
        if "clock" in e and "step" in e:
            train = e["clock"]["train"]
            added = seconds * e["step"] - train["wall"]
            train["wall"] = train["cpu"] = seconds * e["step"]
        e["time"] += added


def reconfigured(run: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The run under another configuration, and all that names it after that."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    key = identity(config)
    name = f"{run.name.rsplit('-s', 1)[0]}-s{config['seed']}-{key}"
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    about = json.loads((run / "run.json").read_text())
    about |= {"id": name, "config_hash": key, "seed": config["seed"]}
    (run / "run.json").write_text(json.dumps(about))
    found = events(run)
    for e in found:
        if e["event"] == "start":
            e.update(run=name, seed=config["seed"])
    write(run, found)
    return run.rename(run.with_name(name))
