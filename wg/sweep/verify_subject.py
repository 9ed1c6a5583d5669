"""What ``wg verify`` looks at, and what it says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from wg.errors import UserError
from wg.files import read_json
from wg.measure.record import Event
from wg.measure.verify_schema import read_lines


@dataclass
class Verdict:
    """faults: what must not be; notes: what a reader has to know, and may be."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Subject:
    """A run directory as it is found."""

    path: Path
    identity: Mapping[str, Any]
    config: Mapping[str, Any]
    events: list[Event]

    @property
    def start(self) -> Event:
        return next((e for e in reversed(self.events) if e["event"] == "start"), {})

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def finished(self) -> bool:
        return any(e["event"] == "end" and e["status"] == "finished" for e in self.events)

    @property
    def machine(self) -> str:
        machine = self.start.get("machine") or {}
        return ", ".join(str(machine[k]) for k in ("gpu", "cpu", "cores") if machine.get(k))


def read_subject(folder: Path) -> tuple[Subject | None, Verdict]:
    """A run, or what keeps it from being looked at: nothing else can be checked of such a one."""
    try:
        config = _config(folder)
        about = read_json(folder / "run.json")
        if not isinstance(about, Mapping):
            raise UserError("run.json holds no identity")
    except UserError as error:
        return None, Verdict([str(error)])
    events, damaged = read_lines(folder)
    if damaged:
        return None, Verdict(damaged, ["nothing else was checked: mend the record first"])
    return Subject(folder, about, config, events), Verdict()


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise UserError("config.yaml is missing or is not YAML") from None
    if not isinstance(config, dict):
        raise UserError("config.yaml holds no settings")
    parts = ("data", "model", "strategy", "budget", "snapshots", "evaluation", "target", "logger")
    wrong = [k for k in parts if not isinstance(config.get(k) or {}, Mapping)]
    given = config.get("strategy") or {}
    if isinstance(given, Mapping):
        wrong += [f"strategy.{k}" for k in given if not isinstance(given[k] or {}, Mapping)]
    if wrong:
        raise UserError(f"config.yaml holds no settings of {', '.join(wrong)}")
    return config


def listed(items: Any, most: int = 4) -> str:
    """The first few, in words."""
    shown = sorted(map(str, items))
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
