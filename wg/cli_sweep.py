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
@click.option("--config-dir", type=click.Path(path_type=Path),
              help="A folder of your own with recipe/NAME.yaml, as for wg train.")  # fmt: skip
@click.option("-o", "--out", required=True, metavar="sweeps/X.yaml",
              type=click.Path(path_type=Path), help="File to write.")  # fmt: skip
def design(
    recipe: str,
    strategies: str | None,
    kind: str,
    runs: int | None,
    config_dir: Path | None,
    out: Path,
) -> None:
    """Write the sweep that tells what each strategy of a recipe contributes.

    Its runs are the recipe with some of its strategies, all else equal; `wg report` finds the
    design in them and gives each strategy's contribution.
    """
    from wg.sweep.design import write_design

    names = None if strategies is None else [s.strip() for s in strategies.split(",") if s.strip()]
    write_design(recipe, names, kind, runs, out, click.echo, config_dir)  # type: ignore[arg-type]  # click checked


@sweep.command()
@click.option("--within", type=float, required=True, metavar="FACTOR",
              help="The 95% interval of the speed-up is to lie within this factor of the estimate "
              "either way, such as 1.5.")  # fmt: skip
@click.option("--sd", type=float,
              help="Standard deviation over seeds of log(baseline time / arm time).")  # fmt: skip
@click.option("--from", "study", type=click.Path(path_type=Path), metavar="RESULTS.JSON",
              help="An earlier study (or its report's folder), for the spread of each of its "
              "arms.")  # fmt: skip
@click.option("--arms", type=click.IntRange(1), default=1, show_default=True,
              help="Arms besides the baseline, whose intervals are to hold together.")  # fmt: skip
@click.option("--assurance", type=float, default=0.5, show_default=True,
              help="Share of such studies whose interval is to be that narrow.")  # fmt: skip
def seeds(within: float, sd: float | None, study: Path | None, arms: int, assurance: float) -> None:
    """Say how many seeds a speed-up known to within a factor takes, before any is run.

    At least three, which an interval takes.

    \b
      wg sweep seeds --within 1.5 --sd 0.25
      wg sweep seeds --within 1.5 --from reports/reference --arms 8
    """
    from wg.report.seeds import say_seeds

    say_seeds(within, sd, study, arms, assurance, say=click.echo)
