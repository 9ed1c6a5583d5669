"""Whether the lines of a record are events at all: what every other check may take for granted.

Only the last line that a process wrote may be half of one: a kill cuts it short, at the end of the
file or before the first line of the next attempt. Any other damage is somebody's doing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from wg.measure.clock import HEADLINE, SECTIONS
from wg.measure.record import Event

Holds = Callable[[Any], bool]


def read_lines(run_dir: Path) -> tuple[list[Event], list[str]]:
    """(events, faults of lines that are none) of a record; both empty when there is no record."""
    path = run_dir / "events.jsonl"
    if not path.is_file():
        return [], []
    lines = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip()]
    parsed = [(n, line, _parsed(line)) for n, line in numbered]
    events: list[Event] = []
    faults = []
    for i, (n, line, found) in enumerate(parsed):
        if found is not None:
            why = damage(found)
            if why:
                faults.append(f"line {n} of events.jsonl is no event: {why}")
            else:
                events.append(found)
            continue
        after = parsed[i + 1][2] if i + 1 < len(parsed) else None
        killed = i + 1 == len(parsed) or (
            isinstance(after, dict)
            and isinstance(after.get("attempt"), int)
            and bool(events)
            and after["attempt"] > events[-1]["attempt"]
        )
        if not (killed and '{"event": '.startswith(line[:10])):
            faults.append(f"line {n} of events.jsonl is cut or is not JSON: {line[:40]!r}...")
    return events, faults


def _parsed(line: str) -> Any:
    """The line's value; None when it is not JSON (JSON's own null is no event either)."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return "null" if found is None else found


def damage(event: Any) -> str:
    """What is wrong with the form of an event, in words; empty when nothing is."""
    return next(_damages(event), "")


def _damages(event: Any) -> Iterator[str]:
    if not isinstance(event, dict):
        yield f"it is {json.dumps(event)[:40]}"
        return
    kind = event.get("event")
    needed = {**_EVERY, **(_KINDS.get(kind, {}) if isinstance(kind, str) else {})}
    for name, holds in needed.items():
        if name not in event:
            yield f"a '{kind}' event without {name}"
        elif not holds(event[name]):
            yield f"a '{kind}' event with {name}={json.dumps(event[name])[:40]}"
    for name, holds in _OPTIONAL.items():
        if name in event and not holds(event[name]):
            yield f"a '{kind}' event with {name}={json.dumps(event[name])[:40]}"


# -- what a field may hold ------------------------------------------------------------------------


def _text(x: Any) -> bool:
    return isinstance(x, str) and bool(x)


def _whole(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


def _count(x: Any) -> bool:
    return _whole(x) and x >= 0


def _positive(x: Any) -> bool:
    return _whole(x) and x >= 1


def _number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)


def _amount(x: Any) -> bool:
    return _number(x) and x >= 0


def _maybe(holds: Holds) -> Holds:
    return lambda x: x is None or holds(x)


def _of(holds: Holds) -> Holds:
    """A mapping with such values."""
    return lambda x: isinstance(x, Mapping) and all(holds(v) for v in x.values())


def _one_of(*values: str) -> Holds:
    return lambda x: isinstance(x, str) and x in values


def _clock(x: Any) -> bool:
    return (
        isinstance(x, Mapping)
        and set(HEADLINE) <= set(x) <= set(SECTIONS)
        and all(_of(_amount)(s) and set(s) == {"wall", "cpu"} for s in x.values())
    )


def _corpus(x: Any) -> bool:
    return isinstance(x, Mapping) and _text(x.get("digest"))


_anything = _of(lambda _: True)
_numbers = _of(_maybe(_number))

_EVERY: dict[str, Holds] = {"event": _text, "time": _number, "attempt": _positive}
_AT: dict[str, Holds] = {"step": _count, "clock": _clock}
# Fields that other checks rely on, and that records of every version have.
_KINDS: dict[str, dict[str, Holds]] = {
    "start": {
        "run": _text,
        "arm": _text,
        "seed": _count,
        "machine": _anything,
        "threads": _positive,
        "ranks": _positive,
        "device": _text,
        "clock_kind": _one_of("cpu", "wall"),
        "corpus": _corpus,
        "strategies": _anything,
    },
    "train": {**_AT, "samples_seen": _count, "audio_seconds": _amount},
    "clock": _AT,
    "snapshot": {
        **_AT,
        "index": _count,
        "audio_seconds": _amount,
        "path": _text,
        "sha256": _text,
    },
    "rollback": {**_AT, "from_step": _count},
    "trained": _AT,
    "score": {
        "index": _count,
        "set": _one_of("grid", "held_out"),
        "metrics": _numbers,
    },
    "ends": {"ends": _of(_numbers)},
    "samples": {"audio": _of(_of(_text))},
    "end": {"status": _one_of("finished", "interrupted", "failed", "refused")},
}
_OPTIONAL: dict[str, Holds] = {
    "clock": _clock,
    "spent": _clock,
    "step": _count,
    "audio_seconds": _amount,
    "model_flops": _maybe(_amount),
    "joules": _maybe(_amount),
    "utterances": _maybe(_of(_numbers)),
    "sha256": _maybe(_text),
    "sigma": _amount,
    "donor": _maybe(_anything),
    "parameters": _count,
    "loss": _maybe(_number),
    "loss_steps": _count,
}
