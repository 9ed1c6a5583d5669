"""Run directories: named by what determines a run's result."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from wg.commit import code_commit
from wg.errors import UserError
from wg.fields import fit
from wg.files import read_json, read_settings_file, write_atomic, write_json
from wg.measure.record import read_events
from wg.strategies import recipe_with_defaults
from wg.sweep.planned import note_planned, read_planned
from wg.train.settings import Settings, identity

# Groups of configurations that a run has one of; conf/strategy alone is a list.
_ONE = ("recipe", "model", "data", "target", "logger", "sweep")
# Overrides that say nothing about the recipe, so they are left out of an arm's name.
_NOT_ARM = {"seed", "recipe", "out", "arm", "sweep", "debug", "logger", "target", "hydra"}


def arm_name(config: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """The arm: its given name, or the recipe and what the command line changed about it, in one
    order whatever the order on the command line: strategies first, then settings by name."""
    if config.get("arm"):
        return str(config["arm"])
    strategies, changes = [], []
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0].split("@", 1)[0]
        group = key.split(".", 1)[0].split("/", 1)[0]
        if group in _NOT_ARM or key == "evaluation.metrics":
            continue
        if override in ("strategy=[]", "strategy="):
            continue
        if override.startswith("++strategy={"):
            strategies += _row(override)
        elif override.startswith("strategy="):
            strategies.append(_listed(override))
        else:
            changes.append((key, override.replace("strategy.", "")))
    return " ".join([str(config["recipe"]), *strategies, *(c for _, c in sorted(changes))])


def check_overrides(overrides: Sequence[str]) -> None:
    """What Hydra takes and wg does not mean.

    Errors: UserError for a list where one choice is to be made, which Hydra would merge under the
    last one's name, and for a strategy that is listed twice.
    """
    for override in overrides:
        parsed = OverridesParser.create().parse_override(override)
        key, value = parsed.key_or_group, parsed.value()
        if not isinstance(value, list):
            continue
        if key in _ONE:
            given = ",".join(map(str, value))
            raise UserError(
                f"{override} names {len(value)} and a run has one {key}: choose one, or make a "
                f"run of each with wg train -m {key}={given}."
            )
        if key == "strategy" and (twice := [n for n in value if value.count(n) > 1]):
            raise UserError(f"{override} lists strategy '{twice[0]}' twice: once is all of it.")


def _listed(override: str) -> str:
    """``strategy=[b,a]`` as ``+[a,b]``: order never matters."""
    value = OverridesParser.create().parse_override(override).value()
    if not isinstance(value, list):
        return f"+{value}"
    return f"+[{','.join(sorted(map(str, value)))}]"


def _row(override: str) -> list[str]:
    """A row of a design, ``++strategy={a:{},b:{x:1}}``, as ``+[a,b(x=1)]``: strategies and what
    the recipe sets of them."""
    added = OverridesParser.create().parse_override(override).value()
    assert isinstance(added, Mapping)
    names = []
    for name, settings in added.items():
        given = ",".join(f"{k}={v}".replace(" ", "") for k, v in (settings or {}).items())
        names.append(f"{name}({given})" if given else str(name))
    return [f"+[{','.join(names)}]"] if names else []


def prepare(config: dict[str, Any], overrides: Sequence[str]) -> Path:
    """Make (or find) the run directory of a resolved configuration.

    Raises :class:`UserError` when the configuration cannot be run at all.
    """
    check_overrides(overrides)
    out, arm = Path(str(config["out"])).resolve(), arm_name(config, overrides)
    if not config.get("arm"):
        arm = _as_its_seeds(out, arm)
    config = {**config, "arm": arm}
    settings = Settings.from_config(config)
    settings.plan()
    key = identity(config)
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", arm).strip("-").lower()[:48]
    start = f"{slug}-s{settings.seed}-"
    run_dir = out / f"{start}{key}"
    if not run_dir.exists():  # others are read only then
        run_dir = _spelt_otherwise(out, start, config) or run_dir
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"out={config['out']} cannot be written ({e.strerror}).") from None
    if (run_dir / "run.json").exists():
        written = read_settings_file(run_dir / "config.yaml")
        if not run_dir.name.endswith(f"-{identity(written)}"):
            raise UserError(
                f"{run_dir / 'config.yaml'} was changed by hand: it is not the configuration that "
                "the directory is named after; delete the directory to start again."
            )
        _judge_by(run_dir, config.get("target"))
        _score_on(run_dir, written, config)
        _begin_with_this_code(run_dir)
        return run_dir
    note_planned(run_dir, arm, settings.seed)
    _write_config(run_dir, config)
    write_json(
        run_dir / "run.json",
        {
            "id": run_dir.name,
            "arm": arm,
            "recipe": settings.recipe,
            "seed": settings.seed,
            "config_hash": key,
            "command": "wg train " + shlex.join(overrides),
            "commit": code_commit(),
            "target": config.get("target"),
            # One W&B run a directory: the same configuration elsewhere is another run.
            "wandb_id": f"{run_dir.name}-{secrets.token_hex(3)}",
        },
    )
    return run_dir


def _as_its_seeds(out: Path, arm: str) -> str:
    """``arm`` as the sweep in ``out`` has it already: names once kept the order of the command
    line, and an arm's seeds belong together."""
    rows = read_planned(out)[0] or [about for _, about in runs_in(out)]
    others = (str(row.get("arm")) for row in rows)
    return next((a for a in others if _parts(a) == _parts(arm)), arm)


def _parts(arm: str) -> list[str]:
    """What makes an arm, in whatever order its name has it."""
    parts = []
    for part in arm.split(" "):
        plain = part.startswith("+[") and part.endswith("]") and "(" not in part
        parts.append(f"+[{','.join(sorted(part[2:-1].split(',')))}]" if plain else part)
    return sorted(parts)


def _spelt_otherwise(out: Path, start: str, config: Mapping[str, Any]) -> Path | None:
    """The run of the same settings among the directories that begin with ``start``, if there is
    one: it may leave to their defaults what ``config`` spells out, as recipes once did."""
    meant = identity(_spelt_out(config))
    for path in sorted(out.glob(f"{start}*/config.yaml")):
        try:
            same = identity(_spelt_out(read_settings_file(path))) == meant
        except UserError:  # damaged: told when that run itself is asked for
            continue
        if same:
            return path.parent
    return None


def _spelt_out(config: Mapping[str, Any]) -> dict[str, Any]:
    recipe = fit("strategy", config.get("strategy") or {}, Mapping)
    return {**config, "strategy": recipe_with_defaults(recipe)}


def _judge_by(run_dir: Path, target: Any) -> None:
    """A target is no part of a run's identity: a finished run is judged by the newest one."""
    info = read_json(run_dir / "run.json")
    if info.get("target") != target:
        write_json(run_dir / "run.json", {**info, "target": target})


def _score_on(run_dir: Path, written: dict[str, Any], config: Mapping[str, Any]) -> None:
    """Nor are the metrics that it is scored on: what is not scored yet will be on the newest."""
    metrics = (config.get("evaluation") or {}).get("metrics")
    if metrics and (written.get("evaluation") or {}).get("metrics") != metrics:
        evaluation = {**(written.get("evaluation") or {}), "metrics": list(metrics)}
        _write_config(run_dir, {**written, "evaluation": evaluation})


def _begin_with_this_code(run_dir: Path) -> None:
    """A run that never started may be begun by other code than made its directory."""
    info, commit = read_json(run_dir / "run.json"), code_commit()
    if info.get("commit") == commit or any(e["event"] == "start" for e in read_events(run_dir)):
        return
    write_json(run_dir / "run.json", {**info, "commit": commit})


def _write_config(run_dir: Path, config: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    write_atomic(run_dir / "config.yaml", text.encode())


def runs_in(sweep_dir: Path) -> list[tuple[Path, dict[str, Any]]]:
    """(directory, run.json) of every run below ``sweep_dir``."""
    return [(p.parent, read_json(p)) for p in sorted(sweep_dir.glob("*/run.json"))]
