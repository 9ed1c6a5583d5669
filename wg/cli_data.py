"""``wg data``: look a corpus over before training on it, and fetch public ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from wg.console import console
from wg.errors import EXIT_USER_ERROR, UserError, nearest
from wg.files import read_settings_file
from wg.sweep.paths import conf_dir

_PATH = click.Path(path_type=Path)


@click.group()
def data() -> None:
    """Check a corpus before training on it; fetch a public one.

    \b
      wg data fetch ljspeech            into data/LJSpeech-1.1
      wg data check data/LJSpeech-1.1   what would stop training, what deserves a look
      wg train data=ljspeech
    """


class _HeldOut(click.ParamType):
    name = "number|share"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | float:
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        self.fail(f"{value} is neither a number of utterances nor a share of them", param, ctx)


@data.command()
@click.argument("path", type=_PATH)
@click.option("--sampling-rate", type=click.IntRange(1), metavar="HZ",
              help="data.sampling_rate [LJSpeech: 22050, else the commonest].")  # fmt: skip
@click.option("--segment-length", type=click.IntRange(8), metavar="N",
              help="segment_length in samples [as in conf/train.yaml].")  # fmt: skip
@click.option("--held-out", type=_HeldOut(), help="data.held_out [as in conf/data].")
@click.option("--held-out-min-seconds", type=click.FloatRange(0), default=0.0, show_default=True,
              help="data.held_out_min_seconds.")  # fmt: skip
@click.option("--resample", is_flag=True, help="As with data.resample=true.")
@click.option("--short-clips", type=click.Choice(["error", "skip", "pad"]), default="error",
              show_default=True, help="data.short_clips.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), help="Threads [one a core, at most 4].")
@click.option("--json", "json_file", type=_PATH, help="Write everything to this file as well.")
def check(
    path: Path,
    sampling_rate: int | None,
    segment_length: int | None,
    held_out: int | float | None,
    held_out_min_seconds: float,
    resample: bool,
    short_clips: str,
    jobs: int | None,
    json_file: Path | None,
) -> None:
    """Decode all of PATH once (LJSpeech's folder, any folder, or one file) and say what is there.

    Exit code 2 when something would stop training, else 0. Nothing in PATH is changed; --json
    replaces no file but an earlier check's.
    """
    from wg.audio.bar import LateBar
    from wg.audio.check.findings import Expected, inspect, recognise
    from wg.audio.check.show import show, to_json
    from wg.audio.check.target import check_target
    from wg.audio.check.verdict import verdict
    from wg.audio.config import DataConfig
    from wg.files import write_json

    if json_file is not None:
        check_target(json_file)  # now: decoding a corpus takes minutes
    kind = "ljspeech" if recognise(path) == "ljspeech" else "folder"
    config = read_settings_file(conf_dir() / f"data/{kind}.yaml")
    if kind == "ljspeech" and sampling_rate is None:
        sampling_rate = config["sampling_rate"]
    share = config["held_out"] if held_out is None else held_out
    # The same sentences as training has for impossible values.
    DataConfig(
        name=kind,
        kind="folder",
        path=None,
        sampling_rate=22050,
        held_out=share,
        held_out_min_seconds=held_out_min_seconds,
    )
    expected = Expected(
        sampling_rate=sampling_rate,
        segment_length=segment_length
        or read_settings_file(conf_dir() / "train.yaml")["segment_length"],
        held_out=share,
        held_out_min_seconds=held_out_min_seconds,
        resample=resample,
        short_clips=short_clips,  # type: ignore[arg-type]  # click checked the choice
        f_max=config["mel"]["f_max"],
    )
    with LateBar(1, f"decoding {path}") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.move_to(done)

        findings = inspect(path, expected, jobs, progress)
    remarks = verdict(findings)
    show(findings, remarks, console())
    if json_file is not None:
        try:
            write_json(json_file, to_json(findings, remarks))
        except OSError as error:
            raise UserError(
                f"--json={json_file} cannot be written ({error.strerror}): name another file"
            ) from None
        click.echo(f"written: {json_file}")
    if any(remark.level == "stop" for remark in remarks):
        sys.exit(EXIT_USER_ERROR)


@data.command()
@click.argument("name", required=False)
@click.option("-o", "--out", type=_PATH, default=Path("data"), show_default=True,
              help="Folder to put the corpus's own folder into.")  # fmt: skip
@click.option("--url", help="Another address of the same file; the checksum stays.")
@click.option("--file", type=_PATH, help="The archive, if you have it already.")
@click.option("--keep-archive", is_flag=True, help="Leave the downloaded archive in OUT.")
def fetch(
    name: str | None, out: Path, url: str | None, file: Path | None, keep_archive: bool
) -> None:
    """Fetch the corpus NAME, or list what there is. The same command again goes on or is done."""
    from wg.audio.fetch.fetch import fetch as run
    from wg.audio.fetch.sources import SOURCES

    if name is None:
        _list_sources()
        return
    if name not in SOURCES:
        raise UserError(f"there is no corpus '{name}' to fetch; {nearest(name, SOURCES)}")
    if url and file:
        raise UserError("--url and --file exclude each other: name one of them")
    source = SOURCES[name]
    _say(f"{source.title}; licence: {source.licence}")
    folder = run(source, out, url=url, file=file, keep=keep_archive, say=_say)
    config = read_settings_file(conf_dir() / f"data/{source.data}.yaml")
    where = "" if Path(config["path"]) == folder else f" data.path={folder}"
    click.echo(f"train on it: wg train data={source.data}{where}")


def _say(text: str) -> None:
    click.echo(text, err=True)


def _list_sources() -> None:
    from rich.table import Table

    from wg.audio.fetch.sources import SOURCES

    table = Table("name", "what", "download", "on disk", "licence", "then")
    for s in SOURCES.values():
        sizes = (f"{s.size / 1e6:,.0f} MB", f"{s.unpacked / 1e6:,.0f} MB")
        table.add_row(s.name, s.title, *sizes, s.licence, f"wg train data={s.data}")
    console().print(table)
    click.echo("wg data fetch NAME")
