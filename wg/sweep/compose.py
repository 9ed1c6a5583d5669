"""The configurations that a ``wg train`` command line would run, without running any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wg.errors import UserError
from wg.sweep.app import sentence_of
from wg.sweep.paths import conf_dir
from wg.sweep.rundir import arm_name, check_overrides

Composed = dict[str, Any]


def configurations(overrides: Sequence[str], sweep: bool = False) -> list[Composed]:
    """Resolved configurations with their arms' names, in the order in which they would run; one
    without ``sweep``, which is what ``-m`` says.

    Raises :class:`UserError` for overrides that ``wg train`` would refuse, and for sweepers whose
    jobs depend on the results of others.
    """
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            jobs = _jobs(list(overrides)) if sweep else [list(overrides)]
            return [_resolved(job) for job in jobs]
    except (HydraException, OmegaConfBaseException) as e:
        raise UserError(sentence_of(e)) from None


def beside(folder: Path | None) -> list[str]:
    """The override that has Hydra look in ``folder`` too, as ``wg train --config-dir`` does.

    Errors: UserError when there is no such folder.
    """
    if folder is None:
        return []
    if not folder.is_dir():
        raise UserError(f"--config-dir {folder} is no directory.")
    return [f'hydra.searchpath=["file://{folder.resolve()}"]']


def _jobs(overrides: list[str]) -> list[list[str]]:
    """Every job's overrides, as Hydra's own sweeper splits them."""
    parser = OverridesParser.create()
    parsed = parser.parse_overrides(overrides)
    fixed = [o for o, p in zip(overrides, parsed, strict=True) if not p.is_sweep_override()]
    sweeper = compose("train", fixed, return_hydra_config=True).hydra.sweeper
    if not str(sweeper._target_).endswith("BasicSweeper"):
        raise UserError(
            f"hydra/sweeper is {str(sweeper._target_).rsplit('.', 1)[-1]}, whose next run depends "
            "on the last one's result: plan one of its runs, without -m."
        )
    params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    batches = BasicSweeper.split_arguments(parser.parse_overrides([*params, *overrides]), None)
    return [list(job) for batch in batches for job in batch]


def _resolved(overrides: list[str]) -> Composed:
    check_overrides(overrides)
    config = compose("train", overrides)
    assert isinstance(config, DictConfig)
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    resolved = {str(key): value for key, value in plain.items()}
    return {**resolved, "arm": arm_name(resolved, overrides)}
