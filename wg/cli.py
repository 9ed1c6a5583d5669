"""The commands, thin: parse, call, turn a user's mistake into one sentence and exit code 2."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click

from wg import __version__
from wg.cli_bench import bench
from wg.cli_check import verify
from wg.cli_data import data
from wg.cli_plan import plan
from wg.cli_sweep import sweep
from wg.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError

_PATH = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wg")
def cli() -> None:
    """Which training recipe reaches a given audio quality soonest, by how much, how surely?

    \b
      wg train -m +sweep=demo          train arms x seeds
      wg score runs/demo/RUN --ends    more metrics, and the ends of their scales
      wg report runs/demo              compare them: a page, tables, results.json, the winner
      wg export --winner reports/demo  ONNX and a TensorRT engine, with a parity check
      wg vocode reports/demo a.wav     speech through the winner

    \b
      wg data check PATH               is this corpus fit to train on?
      wg bench step                    how fast is a step, with each strategy?
      wg plan model=paper              hours, memory, energy and money, before it starts
      wg convert waveglow.pt model     a checkpoint from elsewhere, read without running it
    """


cli.add_command(bench)
cli.add_command(data)
cli.add_command(plan)
cli.add_command(sweep)
cli.add_command(verify)


@cli.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True,
                      "help_option_names": []},
    add_help_option=False,
)  # fmt: skip
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> None:
    """Train runs; Hydra's syntax, -m for a sweep. The same command again skips what is done."""
    if "-h" in arguments or "--help" in arguments:
        click.echo(_train_help())
        return
    from wg.sweep.app import train as run

    sys.exit(run(arguments))


def _train_help() -> str:
    from wg.sweep.paths import conf_dir

    head = (conf_dir() / "train.yaml").read_text().split("defaults:")[0]
    lines = ["Usage: wg train [-m] [key=value ...]", ""]
    lines += ["  " + line.lstrip("# ").rstrip() for line in head.splitlines()]
    for group in ("recipe", "strategy", "model", "data", "target", "logger", "sweep", "debug"):
        names = sorted(p.stem for p in (conf_dir() / group).glob("*.yaml"))
        lines.append(f"  {group + ':':<10} {', '.join(names)}")
    lines += [
        "",
        "  --cfg job shows the resolved configuration (it does not check it).",
        "  --config-dir DIR looks in DIR/recipe, DIR/data and so on too.",
    ]
    return "\n".join(lines)


@cli.command()
@click.argument("name", required=False)
@click.option("--pairs", is_flag=True, help="Only which go together, and why others do not.")
def strategies(name: str | None, pairs: bool) -> None:
    """List the strategies and which go together, or show the method card of one."""
    from wg.sweep.listing import show_card, show_strategies
    from wg.sweep.pairs import show_pairs

    if name and pairs:
        raise UserError("--pairs is of all strategies: leave the name out.")
    if name:
        show_card(name)
        return
    if not pairs:
        show_strategies()
    show_pairs(words=pairs)


@cli.command()
@click.argument("sweep", type=_PATH)
def runs(sweep: Path) -> None:
    """List the runs of a sweep: how far each is and what it has cost."""
    from wg.sweep.listing import show_runs

    show_runs(sweep)


@cli.command()
@click.argument("run", type=_PATH)
@click.option("--metrics", metavar="A,B", help="Names of metrics [evaluation.metrics of the run].")
@click.option("--ends", is_flag=True,
              help="Also what lies at the scales' ends on its corpus: the recordings themselves, "
              "Griffin-Lim, noise in the mel's spectrum.")  # fmt: skip
@click.option("--data-path", type=_PATH, help="Where the run's corpus lies on this machine.")
def score(run: Path, metrics: str | None, ends: bool, data_path: Path | None) -> None:
    """Add metrics to the snapshots of a trained run that are still on disk, without training.

    A run whose training ended and whose scoring did not is finished by it.
    """
    from wg.train.score_again import score_again

    names = None if metrics is None else [m.strip() for m in metrics.split(",") if m.strip()]
    score_again(run, names, ends=ends, data_path=data_path, say=click.echo)


@cli.command()
@click.argument("sweep", type=_PATH)
@click.option("-o", "--out", type=_PATH, help="Directory of the report [reports/NAME].")
@click.option("--baseline", help="The arm that speed-ups are relative to [the nvidia recipe].")
@click.option("--target", "targets", multiple=True,
              help="A name in conf/target, or a file; several: the first is the headline's "
              "[the target of the runs].")  # fmt: skip
@click.option("--price", type=click.FloatRange(0),
              help="Of an hour of a GPU (or of a CPU process), in any currency.")  # fmt: skip
@click.option("--against", type=_PATH, metavar="RESULTS.JSON",
              help="Earlier results of the same arms: does this repetition agree?")  # fmt: skip
def report(
    sweep: Path,
    out: Path | None,
    baseline: str | None,
    targets: tuple[str, ...],
    price: float | None,
    against: Path | None,
) -> None:
    """Compare the runs of a sweep: a page, a table, a picture, results.json, the winner."""
    from wg.report.build import write_report
    from wg.report.propose import read_target
    from wg.sweep.paths import conf_dir

    given = [read_target(t, conf_dir() / "target") for t in targets]
    out = out or Path("reports") / sweep.resolve().name
    write_report(sweep, out, baseline, more_targets=given, price=price, against=against)


@cli.command()
@click.argument("sweep", type=_PATH)
@click.option("--arm", default="nvidia", show_default=True, help="The baseline arm.")
@click.option("--at", default=0.75, show_default=True, help="Share of the audio budget.")
@click.option("--after", type=float, help="Headline seconds, in place of a share.")
@click.option("--metric", "metrics", multiple=True, default=("nats_per_sample", "log_mel_l1"),
              show_default=True, help="May be given several times.")  # fmt: skip
@click.option("-o", "--out", type=_PATH, help="File to write, such as conf/target/NAME.yaml.")
def target(
    sweep: Path, arm: str, at: float, after: float | None, metrics: tuple[str, ...],
    out: Path | None,
) -> None:  # fmt: skip
    """Freeze a quality target: the median over a baseline's seeds at a share of the budget."""
    from wg.report.propose import write_target

    click.echo(write_target(sweep, arm, at, metrics, out, after), nl=False)


@cli.command()
@click.argument("model", type=_PATH, required=False)
@click.option("--winner", type=_PATH, help="A report directory: export its winner.")
@click.option("-o", "--out", type=_PATH, help="Directory to write to.")
@click.option("--backend", default="auto", show_default=True,
              type=click.Choice(["auto", "tensorrt", "rtx"]))  # fmt: skip
@click.option("--precision", default="fp32", show_default=True,
              type=click.Choice(["fp32", "fp16"]))  # fmt: skip
def export(
    model: Path | None, winner: Path | None, out: Path | None, backend: str, precision: str
) -> None:
    """Export a model (a run, a folder of weights, or a report's winner) to ONNX and TensorRT."""
    from wg.export.export import export_model, find_model, held_out_mels

    if model is not None and winner is None:
        source = model
    elif winner is not None and model is None:
        source = winner
    else:
        raise UserError("name one model: wg export RUN_DIR, or wg export --winner REPORT_DIR.")
    folder = find_model(source)
    if folder.is_file():
        raise UserError(f"{folder} is a checkpoint file: first wg convert {folder} FOLDER.")
    engine = export_model(
        folder,
        out or source / "export",
        backend=backend,  # type: ignore[arg-type]  # click checked the choice
        precision=precision,  # type: ignore[arg-type]
        mels=held_out_mels(folder),
        say=click.echo,
    )
    click.echo(f"engine: {engine}")


@cli.command()
@click.argument("source", type=_PATH)
@click.argument("out", type=_PATH)
@click.option("--to", default="wg", show_default=True,
              type=click.Choice(["wg", "nvidia", "deeplearningexamples"]))  # fmt: skip
@click.option("--coupling", default="auto", show_default=True,
              type=click.Choice(["auto", "glow", "glow_old"]),
              help="glow_old: halves swap on odd flows, as in NVIDIA's first release.")  # fmt: skip
@click.option("--sampling-rate", type=int, help="Hz, where the checkpoint does not say [22050].")
def convert(source: Path, out: Path, to: str, coupling: str, sampling_rate: int | None) -> None:
    """Read a checkpoint of any known kind and write it in another layout.

    \b
    Reads wg's runs and models, NVIDIA/waveglow's pickled modules of every age, state dicts of
    DeepLearningExamples, and safetensors. No pickle runs code.
    """
    from wg.checkpoint.convert import convert as run

    click.echo(
        run(source, out, to=to, coupling=coupling, sampling_rate=sampling_rate)  # type: ignore[arg-type]
    )


@cli.command()
@click.argument("model", type=_PATH)
@click.argument("inputs", nargs=-1, required=True, type=_PATH)
@click.option("-o", "--out", type=_PATH, default=Path("vocoded"), show_default=True,
              help="Folder to write to; - for raw PCM on standard output.")  # fmt: skip
@click.option("--sigma", type=float, help="Scale of the noise [as in training].")
@click.option("--denoise", default=0.0, show_default=True,
              help="Strength of NVIDIA's denoiser, 0.01 to 0.1.")  # fmt: skip
@click.option("--seed", default=0, show_default=True)
@click.option("--batch", default=1, show_default=True, help="Utterances at a time.")
@click.option("--block", default=128, show_default=True, help="Mel frames at a time.")
@click.option("--device", default="auto", show_default=True,
              type=click.Choice(["auto", "cpu", "cuda"]))  # fmt: skip
@click.option("--backend", default="torch", show_default=True,
              type=click.Choice(["torch", "onnx", "tensorrt"]))  # fmt: skip
@click.option("--resample", is_flag=True, help="Convert recordings of another sampling rate.")
@click.option("--mel-scale", default="auto", show_default=True,
              type=click.Choice(["auto", "log", "magnitude", "power", "db"]),
              help="Of mel files: NVIDIA's are log, librosa's power or magnitude.")  # fmt: skip
def vocode(model: Path, inputs: tuple[Path, ...], out: Path, **options: Any) -> None:
    """Speech through MODEL: recordings (WAV, FLAC, Ogg), mels (.npy, .pt, .safetensors), folders
    of them, or - for raw 16-bit PCM on standard input, to 16-bit WAV files.

    MODEL is a run, a report (its winner), a model folder, an export, or a checkpoint of any kind
    that `wg convert` reads. Any length in bounded memory.
    """
    from wg.vocode.run import vocode as run

    # A job that a scheduler ends cleans up like one that a user interrupts.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run(model, list(inputs), out, say=lambda text: click.echo(text, err=str(out) == "-"), **options)


@cli.command()
@click.argument("run", type=_PATH)
@click.option("--project", default="wg", show_default=True)
@click.option("--mode", default=None, type=click.Choice(["online", "offline"]),
              help="[WANDB_MODE, else offline]")  # fmt: skip
def mirror(run: Path, project: str, mode: str | None) -> None:
    """Write a run's W&B mirror again, from its record on disk."""
    import os

    from wg.files import read_json
    from wg.measure.mirror import rebuild

    mode = mode or os.environ.get("WANDB_MODE", "offline")
    n = rebuild(run, {"project": project, "mode": mode}, read_json(run / "run.json"))
    click.echo(f"{n} events mirrored ({mode}) to {run / 'wandb'}")


@cli.command()
def doctor() -> None:
    """Say what this machine can do: devices, precisions, apex, TensorRT, W&B, launchers."""
    from wg.doctor import show

    show()


def main() -> None:
    try:
        cli(standalone_mode=False)
    except UserError as e:
        click.echo(f"wg: {e}", err=True)
        sys.exit(EXIT_USER_ERROR)
    except OSError as e:
        what = f"{e.filename}" if e.filename else "a file or a pipe"
        click.echo(f"wg: {what} cannot be used ({e.strerror or e}).", err=True)
        sys.exit(EXIT_USER_ERROR)
    except click.ClickException as e:
        click.echo(f"wg: {e.format_message()}", err=True)
        sys.exit(EXIT_USER_ERROR)
    except (click.Abort, KeyboardInterrupt):
        click.echo("wg: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
