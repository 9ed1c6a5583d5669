"""``wg sweep``: sweeps that are worked out rather than written by hand."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def sweep() -> None:
    """Make sweeps; `wg train -m +sweep=NAME` runs them."""


@sweep.command()
@click.option("--recipe", required=True, help="A name in conf/recipe.")
@click.option("--strategies", metavar="A,B",
              help="Those to vary; the recipe's others stay in every run [all].")  # fmt: skip
@click.option("--kind", default="full", show_default=True,
              type=click.Choice(["full", "fraction", "leave-one-out"]),
              help="full: all subsets, for Shapley values and interactions; fraction: fewer, some "
              "effects aliased; leave-one-out: all, none, and all but one.")  # fmt: skip
@click.option("--runs", type=int,
              help="Recipes of a fraction, a power of two [least of resolution IV].")  # fmt: skip
@click.option("-o", "--out", required=True, metavar="sweeps/X.yaml",
              type=click.Path(path_type=Path), help="File to write.")  # fmt: skip
def design(recipe: str, strategies: str | None, kind: str, runs: int | None, out: Path) -> None:
    """Write the sweep that tells what each strategy of a recipe contributes.

    Its runs are the recipe with some of its strategies, all else equal; `wg report` finds the
    design in them and gives each strategy's contribution.
    """
    from wg.sweep.design import write_design

    names = None if strategies is None else [s.strip() for s in strategies.split(",") if s.strip()]
    write_design(recipe, names, kind, runs, out, say=click.echo)  # type: ignore[arg-type]  # click checked
