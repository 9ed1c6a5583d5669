"""``wg train``: Hydra composes, this makes run directories of it and starts them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.markup import escape
from rich.table import Table

from wg.console import console
from wg.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError, nearest
from wg.files import read_json
from wg.strategies import all_strategies
from wg.sweep.launch import launch
from wg.sweep.paths import conf_dir
from wg.sweep.rundir import arm_name, prepare
from wg.sweep.session import Outcome, in_a_worker, session, stopping, tell
from wg.train.settings import Settings

# Hydra plugins by the first letters of their config, and the extra that brings them.
_PLUGINS = {"submitit": "slurm", "ray": "ray", "optuna": "optuna"}


def job(config: DictConfig) -> None:
    """One Hydra job. Never raises for what a user can cause: the other jobs go on."""
    in_a_worker()
    tell(_run(config, list(HydraConfig.get().overrides.task)))


def _run(config: DictConfig, overrides: Sequence[str]) -> Outcome:
    arm, seed = str(config.get("recipe")), 0
    try:
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        assert isinstance(resolved, dict)
        plain: dict[str, Any] = {str(k): v for k, v in resolved.items()}
        arm, seed = arm_name(plain, overrides), plain["seed"]
        if stopping():
            return Outcome(arm, seed, "not started", None)
        run_dir = prepare(plain, overrides)
        arm = str(read_json(run_dir / "run.json")["arm"])  # as its sweep spells it
        settings = Settings.from_config(plain)
        return launch(run_dir, arm, seed, settings.plan().ranks.n, settings.threads)
    except UserError as e:
        print(f"wg: {e}", file=sys.stderr, flush=True)
        return Outcome(arm, seed, "refused", None, str(e))
    except OmegaConfBaseException as e:
        sentence = f"the configuration is not complete: {_first_line(e)}"
        print(f"wg: {sentence}", file=sys.stderr, flush=True)
        return Outcome(arm, seed, "refused", None, sentence)


def train(arguments: Sequence[str]) -> int:
    """Run ``wg train ARGUMENTS`` (Hydra's syntax). Returns the exit code: 0, 1 when a run failed,
    2 for a user's mistake, 130 when interrupted."""
    # Hydra prints and exits on errors of its own; this makes it raise, so that they can be told
    # in one sentence.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Hydra wants flags before overrides; -m is natural anywhere.
    sweeping = [a for a in arguments if a in ("-m", "--multirun")]
    arguments = [*sweeping[:1], *(a for a in arguments if a not in sweeping)]
    with session() as here:
        argv, sys.argv = sys.argv, ["wg train", *arguments]
        try:
            hydra.main(config_path=str(conf_dir()), config_name="train", version_base="1.3")(job)()
        except (HydraException, OmegaConfBaseException) as e:
            raise UserError(sentence_of(e)) from None
        except ValueError as e:  # of Hydra's own flags
            if not str(e).startswith("Only one of --run"):
                raise
            raise UserError(
                "--cfg and --info are of one run and go without -m: leave -m out."
            ) from None
        except OSError as e:
            if not str(e.filename or "").endswith(".hydra"):
                raise
            raise UserError(
                f"out={Path(e.filename).parent} cannot be written ({e.strerror})."
            ) from None
        finally:
            sys.argv = argv
        outcomes, interrupted = here.outcomes(), here.interrupted
    if not outcomes and not interrupted:
        return 0  # --cfg, --info and the like
    summarise(outcomes)
    results = {o.result for o in outcomes}
    if interrupted or "interrupted" in results:
        print("interrupted: the same command again goes on where it stopped", flush=True)
        return EXIT_INTERRUPTED
    return EXIT_USER_ERROR if "refused" in results else int("failed" in results)


def summarise(outcomes: Sequence[Outcome]) -> None:
    """A table of what became of every run, and where it lies."""
    table = Table(box=None, pad_edge=False)
    for column in ("arm", "seed", "result", "run directory"):
        table.add_column(column, overflow="fold")
    for o in outcomes:
        where = os.path.relpath(o.run_dir) if o.run_dir else "-"
        note = f": {o.reason}" if o.reason and o.result != "refused" else ""
        table.add_row(escape(o.arm), str(o.seed), escape(o.result + note), escape(where))
    console().print(table)


def sentence_of(error: Exception) -> str:
    """Hydra's and OmegaConf's errors in one sentence with the nearest names."""
    text = _first_line(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_such_config(error)
    if isinstance(error, OverrideParseException):
        return (
            f"cannot read '{error.override}': write key=value, with quotes around spaces and "
            "brackets."
        )
    if text.startswith("Ambiguous value"):
        return (
            f"{text.rstrip('.')}: a sweep over several values needs -m, and several strategies "
            "in one run are strategy=[a,b]."
        )
    if found := re.search(r"Could not override '([^']+)'", text):
        return _no_such_setting(found.group(1))
    if found := re.search(r"Could not delete from config. 'strategy\.(\w+)' does not", text):
        return f"there is no strategy '{found.group(1)}' in this recipe to take out."
    return text


def _no_such_config(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    options = [o.removesuffix(".yaml") for o in error.options or _options(group)]
    for word, extra in _PLUGINS.items():
        if group in ("hydra/launcher", "hydra/sweeper") and name.startswith(word):
            return f"{group}={name} is not installed: pip install 'wg[{extra}]'"
    if group == "strategy" and name in all_strategies():
        return f"strategy '{name}' has no conf/strategy/{name}.yaml: write one with its defaults."
    return f"there is no {group or 'config'} '{name}'; {nearest(name, options)}"


def _no_such_setting(key: str) -> str:
    if key in _keys() and key.startswith("strategy."):
        name = key.split(".")[1]
        return (
            f"strategy '{name}' is not in the recipe that {key} would change: add it with "
            f"strategy=[{name}], or, where a sweep or a file of your own has it as {name}: {{}}, "
            f"set it with ++{key}=..."
        )
    # lr is adamw's: the last part says more than the letters do.
    same = [k for k in _keys() if k.rsplit(".", 1)[-1] == key]
    hint = f"did you mean {' or '.join(same)}?" if same else nearest(key, _keys())
    return (
        f"there is no setting '{key}'; {hint} (Hydra wants +{key}=... to add a key that is not in "
        "the config)"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _options(group: str) -> list[str]:
    return [p.stem for p in (conf_dir() / group).glob("*.yaml")]


def _keys() -> list[str]:
    """Every dotted key of the default configuration."""
    config = OmegaConf.load(conf_dir() / "train.yaml")
    assert isinstance(config, DictConfig)
    keys = [p.name for p in conf_dir().iterdir() if p.is_dir() and p.name != "strategy"]
    for s in all_strategies().values():
        keys += [f"strategy.{s.name}", *(f"strategy.{s.name}.{k}" for k in s.defaults())]

    def walk(node: Any, prefix: str) -> None:
        for key in node:
            if key in ("hydra", "defaults"):
                continue
            name = f"{prefix}{key}"
            keys.append(name)
            child = node._get_node(key)
            if isinstance(child, DictConfig):
                walk(child, f"{name}.")

    walk(config, "")
    return sorted(set(keys))
