"""``wg plan``: what a run or a sweep will take, before it starts."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click


class Numbers(click.ParamType):
    """Whole numbers between 1 and 1,024 with commas between them."""

    name = "N,N,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> list[int]:
        if isinstance(value, list):
            return value
        try:
            numbers = [int(part) for part in str(value).split(",")]
        except ValueError:
            numbers = [0]
        if not all(1 <= n <= 1024 for n in numbers):
            self.fail(f"{value} must be numbers from 1 to 1024 with commas, such as 1,8,64", param)
        return numbers


@click.command()
@click.argument("overrides", nargs=-1)
@click.option("-m", "--multirun", is_flag=True, help="The overrides are a sweep, as for wg train.")
@click.option("--hardware", default="h100", show_default=True, metavar="A,B",
              help="Names of GPUs: a100, h100, h200; none for this machine alone.")  # fmt: skip
@click.option("--gpus", type=Numbers(), default="1,8,64,1024", show_default=True)
@click.option("--per-gpu", type=click.IntRange(1),
              help="Segments on each GPU [the recipe's batch, shared out].")  # fmt: skip
@click.option("--efficiency", type=click.FloatRange(0, 1, min_open=True), default=0.4,
              show_default=True, help="Share of a GPU's peak that convolutions reach.")  # fmt: skip
@click.option("--network", type=click.FloatRange(0, min_open=True), default=200.0,
              show_default=True, help="Gb/s for each GPU between hosts.")  # fmt: skip
@click.option("--latency", type=click.FloatRange(0), default=5.0, show_default=True,
              help="Microseconds of a hop of the all-reduce.")  # fmt: skip
@click.option("--price", type=click.FloatRange(0),
              help="Of an hour of a named GPU, in any currency.")  # fmt: skip
@click.option("--price-here", type=click.FloatRange(0),
              help="Of an hour here: of the GPU, or of CPU time without one.")  # fmt: skip
@click.option("--watts", type=click.FloatRange(0, min_open=True),
              help="Of a GPU [its data sheet's].")  # fmt: skip
@click.option("--measure", is_flag=True,
              help="Make a few real steps here, of the first run, and read the meter of energy, "
              "where there is one.")  # fmt: skip
@click.option("--config-dir", type=click.Path(path_type=Path),
              help="Your own folder with recipe/, data/ and so on, as for wg train.")  # fmt: skip
@click.option("--json", "out", type=click.Path(path_type=Path), help="File to write it to.")
def plan(
    overrides: tuple[str, ...],
    multirun: bool,
    hardware: str,
    gpus: list[int],
    per_gpu: int | None,
    efficiency: float,
    network: float,
    latency: float,
    price: float | None,
    price_here: float | None,
    watts: float | None,
    measure: bool,
    config_dir: Path | None,
    out: Path | None,
) -> None:
    """The FLOPs, memory, hours, energy and money of a run, or with -m of a sweep, here and on
    named GPUs. OVERRIDES are those of wg train; nothing is started.

    \b
      wg plan model=paper data=ljspeech strategy=[bf16] --price 2.5
      wg plan -m +sweep=demo --hardware none --measure --price-here 0.05
    """
    from wg.console import console
    from wg.errors import UserError
    from wg.files import write_json
    from wg.forecast.hardware import named
    from wg.forecast.model import Assumptions
    from wg.forecast.run import plan as run
    from wg.forecast.run import to_json
    from wg.forecast.show import show
    from wg.sweep.compose import beside

    names = [] if hardware == "none" else hardware.split(",")
    if price is not None and not names:
        raise UserError("--price is of an hour of a named GPU, and --hardware none names no GPU: "
                        "--price-here is of an hour here.")  # fmt: skip
    assumed = Assumptions(
        efficiency=efficiency,
        network=network * 1e9 / 8,
        latency=latency * 1e-6,
        per_gpu=per_gpu,
        price=price,
        price_here=price_here,
    )
    command = shlex.join(["wg", *sys.argv[1:]])
    found = run(
        [*overrides, *beside(config_dir)],
        command,
        named(names, watts),
        gpus,
        assumed,
        sweep=multirun,
        measure=measure,
    )
    show(found, console())
    if out is not None:
        write_json(out, to_json(found))
        click.echo(f"written: {out}")
