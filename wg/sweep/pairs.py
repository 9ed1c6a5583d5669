"""Which strategies go together, pair by pair, and why two do not."""

from __future__ import annotations

import itertools
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rich.text import Text

from wg.console import console
from wg.plan import SLOTS
from wg.strategies import Strategy, all_strategies

COMPOSES, SLOT, REFUSAL = ".", "x", "!"
_KEYS = string.ascii_lowercase + string.ascii_uppercase


@dataclass(frozen=True)
class Pair:
    """Two strategies, in alphabetical order. how: they compose, write the same ``slots``, or one
    names the other as refused, with ``why``."""

    a: str
    b: str
    how: Literal["composes", "slot", "refusal"]
    slots: tuple[str, ...] = ()
    why: str = ""


def all_pairs(known: Mapping[str, Strategy]) -> list[Pair]:
    """Every pair of ``known``, with its default hyperparameters: others may write other slots."""
    sets = {name: s.sets() for name, s in known.items()}
    return [_pair(known[a], known[b], sets) for a, b in itertools.combinations(sorted(known), 2)]


def _pair(a: Strategy, b: Strategy, sets: Mapping[str, list[str]]) -> Pair:
    for one, other in ((a, b), (b, a)):
        if other.name in one.refuses:
            why = f"{one.name} refuses {other.name}: {one.refuses[other.name]}"
            return Pair(a.name, b.name, "refusal", why=why)
    shared = tuple(slot for slot in sets[a.name] if slot in sets[b.name])
    return Pair(a.name, b.name, "slot" if shared else "composes", shared)


def show_pairs(words: bool = True) -> None:
    """The triangle of pairs, and with ``words`` why every conflict is one."""
    known = all_strategies()
    pairs = all_pairs(known)
    out = console()
    for line in triangle(list(known), pairs, out.width):
        out.print(Text(line), soft_wrap=True)
    out.print()
    for line in reasons(pairs) if words else reasons(pairs)[:1]:
        out.print(Text(line, overflow="fold"))


def triangle(names: list[str], pairs: list[Pair], width: int) -> list[str]:
    """One line a strategy, one column for each before it; a letter names a column. Columns move
    together where ``width`` characters are too few."""
    signs = {"composes": COMPOSES, "slot": SLOT, "refusal": REFUSAL}
    cells = {(p.a, p.b): signs[p.how] for p in pairs}
    names, keys = sorted(names), column_keys(len(names))
    longest = max(map(len, names), default=0)
    pad = " " * (longest + 3 + max(map(len, keys), default=0))
    gap = " " if len(pad) + 2 * len(names) <= width else ""
    # Keys of two letters are written downwards.
    lines = [pad + gap.join(head) for head in zip(*keys[:-1], strict=True)]
    for row, (key, name) in enumerate(zip(keys, names, strict=True)):
        signs_of_row = gap.join(cells[other, name] for other in names[:row])
        lines.append(f"{key}  {name:<{longest}} {signs_of_row}".rstrip())
    return lines


def column_keys(n: int) -> list[str]:
    """``n`` different keys: letters, or pairs of letters where those run out."""
    length = 1 if n <= len(_KEYS) else 2
    keys = map("".join, itertools.product(_KEYS, repeat=length))
    return list(itertools.islice(keys, n))


def reasons(pairs: list[Pair]) -> list[str]:
    """Counts, then the conflicts: those of a slot together, refusals one by one."""
    conflicts = [p for p in pairs if p.how != "composes"]
    lines = [
        f"{COMPOSES} compose in any order   {SLOT} set the same slot   {REFUSAL} one refuses the "
        f"other   ({len(pairs) - len(conflicts)} of {len(pairs)} pairs compose, as they are by "
        "default; what other settings refuse stands on their cards)"
    ]
    writers: dict[str, set[str]] = {}
    for p in conflicts:
        for slot in p.slots:
            writers.setdefault(slot, set()).update((p.a, p.b))
    lines += [
        f"{SLOT} {slot} ({SLOTS[slot]}), one of: {', '.join(sorted(writers[slot]))}"
        for slot in SLOTS
        if slot in writers
    ]
    lines += [f"{REFUSAL} {p.why}" for p in conflicts if p.how == "refusal"]
    return lines
