"""``wg bench``: what strategies cost and save, without training to the end."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.group()
def bench() -> None:
    """Measure parts of training by themselves.

    \b
      wg bench step                     a training step: plain against every system strategy
      wg bench arms runs/demo           all arms of a sweep, in turns: normalised time
    """


@bench.command()
@click.option("--model", default="small", show_default=True, help="Of conf/model.")
@click.option("--batch", type=click.IntRange(1), help="Segments in a step [the model's].")
@click.option("--segment", type=click.IntRange(8), help="Samples in a segment [16000].")
@click.option("--repeats", type=click.IntRange(1), default=15, show_default=True,
              help="Repetitions; from 6 on the interval covers 95%.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True,
              help="CPU threads.")  # fmt: skip
@click.option("--device", default="auto", show_default=True,
              type=click.Choice(["auto", "cpu", "cuda"]))  # fmt: skip
@click.option("--strategy", "strategies", multiple=True, metavar="'[a,b]'",
              help="These together, too; '{a: {lr: 0.1}}' sets hyperparameters.")  # fmt: skip
@click.option("--recipe", "recipes", multiple=True, help="This recipe of conf/recipe, too.")
@click.option("--peer", type=_PATH, metavar="DIR",
              help="A checkout of NVIDIA/waveglow, whose own code is timed, too.")  # fmt: skip
@click.option("--against", type=click.Choice(["plain", "peer"]), default="plain",
              show_default=True, help="What all others are measured against.")  # fmt: skip
@click.option("--only", is_flag=True, help="Nothing but what these options name, and plain.")
@click.option("-o", "--out", type=_PATH,
              help="JSON, and .md beside it [runs/bench/step-MODEL-DEVICE.json].")  # fmt: skip
def step(
    model: str,
    batch: int | None,
    segment: int | None,
    repeats: int,
    threads: int,
    device: str,
    strategies: tuple[str, ...],
    recipes: tuple[str, ...],
    peer: Path | None,
    against: str,
    only: bool,
    out: Path | None,
) -> None:
    """Time one training step of plain WaveGlow against each system strategy.

    Forward, backward and the optimizer's step on a made batch; no corpus is needed. Each variant
    alternates with plain (or, --against peer, with NVIDIA's own code) in one process, and must
    compute its loss and gradients to count.
    Strategies of other kinds may be added with --strategy and --recipe and are marked as other
    mathematics. Ctrl-C keeps what was measured.
    """
    from wg.bench.out import check_target, write
    from wg.bench.run import bench_step, choose
    from wg.bench.show import show
    from wg.bench.variants import Sizes
    from wg.console import console
    from wg.errors import UserError
    from wg.train.build import resolve_device

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    where = resolve_device(device).type
    target = out or Path("runs") / "bench" / f"step-{model}-{where}.json"
    check_target(target)
    if only and not (strategies or recipes or peer):
        raise UserError("--only leaves nothing: add --strategy, --recipe or --peer")
    if against == "peer" and peer is None:
        raise UserError("--against peer needs one: add --peer DIR, a checkout of NVIDIA/waveglow")
    sizes = Sizes(model, batch, segment, threads, where)
    variants = choose(sizes, strategies, recipes, peer, only, against == "peer")
    command = shlex.join(["wg", *sys.argv[1:]])
    findings, complete = bench_step(
        variants,
        repeats,
        command,
        say=lambda text: click.echo(text, err=True),
        keep=lambda found: write(target, found),
    )
    write(target, findings)
    show(findings, console())
    click.echo(f"written: {target} and {target.with_suffix('.md')}")
    if not complete:
        raise click.Abort


@bench.command()
@click.argument("sweep", type=_PATH)
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True,
              help="Turns of every arm; from 6 on the interval covers 95%.")  # fmt: skip
@click.option("--baseline", help="Arm that speeds are relative to [plain nvidia].")
def arms(sweep: Path, rounds: int, baseline: str | None) -> None:
    """Time the steps of all arms of a sweep in turns, for normalised time.

    Each arm waits in a process of its own, with the configuration of one of its runs, and makes a
    few steps of every shape when its turn comes. Written into SWEEP as throughput.json, from where
    `wg report` takes it. Ctrl-C keeps whole rounds.
    """
    from wg.bench.arms import bench_arms, check_writable
    from wg.bench.show import show_arms
    from wg.console import console
    from wg.files import write_json
    from wg.report.read import read_sweep
    from wg.report.throughput import FILE

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found = read_sweep(sweep, baseline)
    check_writable(sweep)
    command = shlex.join(["wg", *sys.argv[1:]])
    findings, complete = bench_arms(
        found, rounds, command, say=lambda text: click.echo(text, err=True)
    )
    if findings is not None:
        write_json(sweep / FILE, findings)
        show_arms(findings, console())
        click.echo(f"written: {sweep / FILE}")
    if not complete:
        raise click.Abort
