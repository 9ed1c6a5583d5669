"""A record, run.json and config.yaml against each other, and against what this wg and other runs
say: identity, target, strategies, donor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wg.audio.split import held_out_count
from wg.errors import UserError
from wg.files import read_settings_file
from wg.measure.clock import headline, headline_kind
from wg.measure.record import Event, last_clock
from wg.measure.target import Target
from wg.measure.verify_schema import read_lines
from wg.strategies import all_strategies
from wg.sweep.paths import conf_dir
from wg.sweep.verify_subject import Subject
from wg.train.settings import identity

# Share by which the seconds of a donor may differ: it ends its log after its last clock.
DONOR = 0.01


def check_identity(run: Subject) -> Iterator[str]:
    """Directory, run.json and start name one run, and the one that config.yaml determines."""
    try:
        key = identity(run.config)
    except TypeError as error:
        yield f"config.yaml holds what no configuration does ({error})"
        return
    if not run.name.endswith(f"-{key}"):
        yield f"config.yaml has the hash {key}, and the directory is not named after it"
    told = {
        "config_hash": key,
        "id": run.name,
        "seed": run.config.get("seed"),
        "recipe": run.config.get("recipe"),
        "arm": run.config.get("arm"),
    }
    for name, value in told.items():
        if run.identity.get(name) != value:
            yield f"run.json says {name}={run.identity.get(name)} and the run has {value}"
    if not run.start:
        return
    for name, value in (("run", run.name), *((n, told[n]) for n in ("seed", "recipe", "arm"))):
        if run.start.get(name) != value:
            yield f"the record is of {name}={run.start.get(name)} and the run has {value}"
    if run.start["threads"] != run.config.get("threads"):
        yield f"it ran with {run.start['threads']} threads, not {run.config.get('threads')}"
    device, asked = run.start["device"], run.config.get("device", "auto")
    if asked not in ("auto", device):
        yield f"it ran on {device}, and config.yaml has device={asked}"
    if run.start["clock_kind"] != headline_kind(device):
        yield f"it is charged {run.start['clock_kind']} seconds, which is not what {device} is"
    yield from _strategies(run)
    yield from _made_by(run)
    yield from _held_out(run)


def _made_by(run: Subject) -> Iterator[str]:
    """By the command and the code that run.json was written with, which an attempt of its own, or
    a later one, may differ from in code."""
    starts = [e for e in run.events if e["event"] == "start"]
    said = run.identity.get("command")
    for start in starts:
        if start.get("command", said) != said:
            yield (
                f"attempt {start['attempt']} was started by '{start.get('command')}', and run.json "
                f"has '{said}'"
            )
    commit, began = run.identity.get("commit"), starts[0].get("commit")
    if commit is not None and began is None:
        yield f"its start records no commit of the code, and run.json has {str(commit)[:10]}"
    elif starts[0]["attempt"] == 1 and str(commit).rstrip("+") != str(began).rstrip("+"):
        yield (
            f"run.json has the code of commit {str(commit)[:10]}, and its start {str(began)[:10]}: "
            "one was edited, or a commit was made as the run began"
        )


def _held_out(run: Subject) -> Iterator[str]:
    """As much speech as config.yaml asks for, in every attempt."""
    data = run.config.get("data") or {}
    asked, shortest = data.get("held_out"), data.get("held_out_min_seconds") or 0.0
    starts = [e for e in run.events if e["event"] == "start"]
    for corpus in (e["corpus"] for e in starts):
        held, trained = (corpus.get(f"{s}_utterances") for s in ("held_out", "train"))
        if corpus.get("name", data.get("name")) != data.get("name"):
            yield f"it was trained on {corpus['name']}, and config.yaml has {data.get('name')}"
        if isinstance(held, int) and isinstance(trained, int):
            yield from _share_held_out(data, asked, held, trained)
            seconds = corpus.get("held_out_seconds")
            if isinstance(seconds, (int, float)) and seconds < held * shortest - 0.001:
                yield (
                    f"{held} utterances of {seconds:g} s were held out, and "
                    f"data.held_out_min_seconds is {shortest:g}"
                )
    if len({e["corpus"]["digest"] for e in starts}) > 1:
        yield "attempts differ in corpus or split"


def _share_held_out(data: Mapping[str, Any], asked: Any, held: int, trained: int) -> Iterator[str]:
    """The packaged corpus has a split of its own, and clips that are too short may have been left
    out of training: then a share is not known."""
    if isinstance(asked, float):
        if data.get("kind") == "demo" or data.get("short_clips") == "skip":
            return
        asked = held_out_count(asked, held + trained)
    if isinstance(asked, int) and held != asked:
        yield f"{held} utterances were held out, and data.held_out is {data.get('held_out')}"


def _strategies(run: Subject) -> Iterator[str]:
    """Of the kinds that the registry says: a kind decides how a speed-up is judged."""
    said, known = run.start["strategies"], all_strategies()
    if set(said) != set(run.config.get("strategy") or {}):
        yield "the record names other strategies than config.yaml"
    for name, kind in said.items():
        if name in known and kind != known[name].kind:
            yield f"the record says that '{name}' is a {kind} strategy: it is {known[name].kind}"


# -- target ---------------------------------------------------------------------------------------


def check_target(run: Subject) -> tuple[list[str], list[str]]:
    """(faults, notes): a named target is frozen, in run.json, config.yaml and conf/target alike.
    run.json has the newest that a run is judged by, config.yaml the one that it began with."""
    faults, notes = [], []
    given = {"run.json": run.identity.get("target"), "config.yaml": run.config.get("target")}
    found: dict[str, tuple[str, Any]] = {}
    for where, target in given.items():
        try:
            read = Target.from_mapping(target if isinstance(target, Mapping) else None)
        except UserError as error:
            faults.append(f"{where}: {error}")
            continue
        name = str(target.get("name") or "none") if isinstance(target, Mapping) else "none"
        conditions = read.to_dict()["conditions"] if read else {}
        found[where] = name, conditions
        frozen = frozen_target(name)
        if frozen is None and conditions:
            notes.append(f"{where}: target '{name}' is none of conf/target, so it is not compared")
        elif frozen is not None and frozen != conditions:
            faults.append(
                f"{where}: target '{name}' is {_words(conditions)}, and conf/target/{name}.yaml "
                f"has {_words(frozen)}"
            )
    if len(found) == 2 and found["run.json"] != found["config.yaml"]:
        (name, conditions), (began, others) = found["run.json"], found["config.yaml"]
        if name == began:
            faults.append(
                f"target '{name}' is {_words(conditions)} in run.json and {_words(others)} in "
                "config.yaml"
            )
        else:
            notes.append(f"it began with target '{began}', and is judged by '{name}' now")
    return faults, notes


def frozen_target(name: str) -> dict[str, float] | None:
    """Conditions of conf/target/NAME.yaml; None when there is no such file."""
    path = conf_dir() / "target" / f"{name}.yaml"
    if Path(name).name != name or not path.is_file():
        return None
    target = Target.from_mapping(read_settings_file(path))
    return dict(target.to_dict()["conditions"]) if target else {}


def _words(conditions: Mapping[str, Any]) -> str:
    return ", ".join(f"{m} {v:g}" for m, v in sorted(conditions.items())) or "no condition"


# -- donor ----------------------------------------------------------------------------------------


def check_donor(run: Subject) -> tuple[list[str], list[str]]:
    """(faults, notes): what a run began from, and what that cost, where it still lies there."""
    asked = (run.config.get("strategy") or {}).get("warm_start") or {}
    starts = [e for e in run.events if e["event"] == "start"]
    if not asked.get("donor"):
        warm = any(e.get("donor") for e in starts)
        return (["the record names a donor, and config.yaml has none"] if warm else []), []
    faults, notes = [], []
    given = asked.get("donor_seconds")
    for start in starts[-1:]:
        donor = start.get("donor")
        if not donor or not isinstance(donor.get("train_seconds"), (int, float)):
            return [f"config.yaml has the donor {asked['donor']}, and the record no cost of it"], []
        seconds = float(donor["train_seconds"])
        if str(donor.get("path")) != str(asked.get("donor")):
            faults.append(f"the record's donor is {donor.get('path')}, not {asked.get('donor')}")
        if given is not None and abs(seconds - given) > DONOR * abs(given):
            faults.append(f"the donor is charged {seconds:g} s, and config.yaml has {given:g} s")
        costs = _costs(Path(str(donor.get("path"))), start)
        if not costs:
            notes.append("its donor's record is not here: the donor's seconds were not checked")
        elif seconds < (1 - DONOR) * min(costs) or (
            given is None and seconds > (1 + DONOR) * max(costs)
        ):
            faults.append(
                f"the donor is charged {seconds:g} s, and its own record says {costs[0]:g} s"
            )
    return faults, notes


def _costs(path: Path, start: Event) -> list[float]:
    """What a donor cost by its own record, its own donor's included: as it is, and as it was when
    the run began; empty when there is no such record here."""
    folder = path.absolute()
    if folder.name == "final":
        folder = folder.parent
    events, _ = read_lines(folder)
    found = []
    for known in (events, [e for e in events if e["time"] <= start["time"]]):
        totals = last_clock(known)
        if totals is not None:
            inherited = next((e["donor"] for e in known if e.get("donor")), {"train_seconds": 0.0})
            kind = headline_kind(start["device"])
            found.append(headline(totals, kind) + float(inherited["train_seconds"]))
    return found
