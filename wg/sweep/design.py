"""``wg sweep design``: the sweep that tells what each strategy of a recipe contributes."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from wg.errors import UserError, nearest
from wg.files import write_atomic
from wg.measure.design import Design, fractional_factorial, full_factorial, leave_one_out
from wg.strategies import beside_defaults, known_strategy
from wg.sweep.compose import beside, configurations
from wg.sweep.paths import conf_dir
from wg.train.settings import Settings

Kind = Literal["full", "fraction", "leave-one-out"]
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Parts:
    """A recipe taken apart.

    settings    what it sets beside strategies, such as segment_length
    fixed       strategies that every row keeps, with their settings
    strategies  the design's factors, with their settings
    design      rows are sets of factors
    """

    recipe: str
    settings: Mapping[str, Any]
    fixed: Mapping[str, Mapping[str, Any]]
    strategies: Mapping[str, Mapping[str, Any]]
    design: Design

    @property
    def name(self) -> str:
        """What the rows' recipe is called: not the recipe itself, which is one of the rows."""
        return f"{self.recipe}-parts"

    def row(self, factors: frozenset[str]) -> dict[str, Any]:
        """What one row adds to ``fixed``, in the recipe's order."""
        return {n: dict(s) for n, s in self.strategies.items() if n in factors}


def write_design(
    recipe: str,
    strategies: Sequence[str] | None,
    kind: Kind,
    runs: int | None,
    out: Path,
    say: Callable[[str], None] = print,
    config_dir: Path | None = None,
) -> None:
    """Write the sweep file ``out`` and say how many runs it is and what it cannot tell apart.

    Errors: UserError as :func:`take_apart`, and when ``out`` exists or does not end in .yaml.
    """
    if out.suffix != ".yaml":
        raise UserError(f"-o {out}: a sweep is a YAML file, such as sweeps/{recipe}_parts.yaml.")
    if out.exists():
        raise UserError(f"{out} exists: delete it, or give another name with -o.")
    parts = take_apart(recipe, strategies, kind, runs, config_dir)
    write_atomic(out, sweep_file(parts, out.stem).encode())
    n = len(parts.design.rows)
    say(f"{out}: {_what(parts.design)}, {n} recipes x {len(SEEDS)} seeds = {n * len(SEEDS)} runs")
    for line in _cannot_tell(parts.design):
        say(line)
    if out.resolve().parent != (conf_dir() / "sweep").resolve():
        say(f"wg train finds it as +sweep={out.stem} once it lies in {conf_dir() / 'sweep'}.")


def take_apart(
    recipe: str,
    strategies: Sequence[str] | None,
    kind: Kind,
    runs: int | None = None,
    config_dir: Path | None = None,
) -> Parts:
    """The design of ``strategies`` (None: all of the recipe's) with the recipe's own settings.
    Strategies of the recipe that are not named stay in every row; a named one that the recipe
    lacks enters with its defaults. ``config_dir``: a folder with recipes of the user's own.

    Errors: UserError for an unknown recipe or strategy, a design that does not exist, and a row
    that cannot be trained, such as two strategies that conflict.
    """
    look = beside(config_dir)
    folders = [conf_dir(), *([config_dir] if config_dir else [])]
    options = [p.stem for folder in folders for p in (folder / "recipe").glob("*.yaml")]
    if recipe not in options:
        raise UserError(f"there is no recipe '{recipe}'; {nearest(recipe, options)}")
    for name in strategies or ():
        known_strategy(name)
    (whole,), (plain,) = (
        configurations([f"recipe={recipe}", *look]),
        configurations(["recipe=nvidia"]),
    )
    # Rows say what the recipe sets of a strategy, and leave its defaults to it.
    own = {n: beside_defaults(n, s) for n, s in whole["strategy"].items()}
    names = list(own) if strategies is None else list(strategies)
    if not names:
        raise UserError(f"recipe '{recipe}' has no strategies to take apart: name some.")
    if runs is not None and kind != "fraction":
        raise UserError("--runs chooses the size of a fraction: give it with --kind fraction.")
    makers: dict[Kind, Callable[[], Design]] = {
        "full": lambda: full_factorial(names),
        "fraction": lambda: fractional_factorial(names, runs),
        "leave-one-out": lambda: leave_one_out(names),
    }
    parts = Parts(
        recipe,
        {
            k: v
            for k, v in whole.items()
            if k not in ("arm", "recipe", "strategy") and v != plain.get(k)
        },
        {n: s for n, s in own.items() if n not in names},
        {n: own.get(n, {}) for n in names},
        makers[kind](),
    )
    for row in sorted(parts.design.rows, key=len):  # the smallest that cannot be trained is told
        given = {**parts.fixed, **parts.row(row)}
        try:
            Settings.from_config({**whole, "strategy": given}).plan()
        except UserError as e:
            raise UserError(f"the row [{', '.join(given)}] cannot be trained: {e}") from None
    return parts


def sweep_file(parts: Parts, name: str) -> str:
    """The sweep in the form of sweeps/: question, commands, settings, rows."""
    fixed = f" Every row keeps {', '.join(parts.fixed)}." if parts.fixed else ""
    question = (
        f"What does each of these strategies contribute to the recipe `{parts.recipe}`: "
        f"{', '.join(parts.strategies)}? {_what(parts.design, capital=True)}: "
        f"{len(parts.design.rows)} recipes of its settings; `{parts.name}` has none of them."
        f"{fixed} " + " ".join(_cannot_tell(parts.design))
    )
    head = textwrap.wrap(question, 98, initial_indent="# ", subsequent_indent="# ")
    commands = (
        f"wg train -m +sweep={name}",
        f"wg report runs/{name} --baseline {parts.name}",
    )
    rows = ",\n".join(f"        {_flow(parts.row(r))}" for r in parts.design.rows)
    settings: dict[str, Any] = {"recipe": parts.name, **parts.settings}
    if parts.fixed:
        settings["strategy"] = {n: dict(s) for n, s in parts.fixed.items()}
    return "\n".join(
        [
            "# @package _global_",
            *head,
            "#",
            *(f"#   {c}" for c in commands),
            "defaults:",
            "  - override /recipe: nvidia",
            "  - override /target: nvidia-450s",
            "  - override /hydra/launcher: joblib",
            "",
            f"out: runs/{name}",
            "device: cpu            # the same job everywhere; times are CPU seconds of one thread",
            yaml.safe_dump(settings, sort_keys=False).rstrip(),
            "budget:",
            "  audio_seconds: 150",
            "snapshots:",
            "  every: 25",
            "  also: [3, 6, 12]",
            "",
            "hydra:",
            "  sweeper:",
            "    # The seed changes slowest: a slow hour hits all rows.",
            "    params:",
            f"      seed: {','.join(map(str, SEEDS))}",
            "      ++strategy: >-",
            rows,
            "  launcher:",
            "    n_jobs: 1          # one core a run",
            "",
        ]
    )


def _what(design: Design, capital: bool = False) -> str:
    k = len(design.factors)
    if design.kind == "fractional":
        part = f"a fraction of {len(design.fraction)} of {2**k} recipes"
        extra = len(design.rows) - len(design.fraction)
        ends = f" and {extra} of none or all" if extra else ""
        text = f"{part}{ends}, resolution {_roman(design.resolution)}"
    else:
        text = f"a {design.kind} design of {k} strategies"
    return text[0].upper() + text[1:] if capital else text


def _cannot_tell(design: Design) -> Iterator[str]:
    """What the design leaves open, in sentences."""
    if design.kind == "leave-one-out":
        yield (
            "It says what each strategy adds to all the others, and nothing of how they share it."
        )
    pairs: list[str] = []
    for effect, twins in design.aliases().items():
        words = f"{effect} with {', '.join(twins)}"
        if twins and not any(p.startswith(f"{t} with") for t in twins for p in pairs):
            pairs.append(words)
    if pairs:
        yield f"It cannot tell {'; '.join(pairs)} (effects of three or more count as nothing)."


def _roman(resolution: int | None) -> str:
    numerals = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")
    return numerals[resolution or 0]


def _flow(value: Any) -> str:
    """As Hydra's grammar writes it on one line: no quotes where none are needed, no spaces."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
