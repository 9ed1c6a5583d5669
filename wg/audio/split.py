"""The split into training and held-out utterances: one rule, which never leaks an utterance."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from wg.errors import UserError

# Raise the number when the rule gives other splits.
RULE_ID = "last-by-sha256-of-id/1"
RULE = (
    "ids are ordered by the SHA-256 of the id and the last data.held_out of them are held out, "
    "passing over clips shorter than data.held_out_min_seconds and files that have a "
    "byte-identical copy; the rest is trained on. A held-out clip whose decoded samples occur a "
    "second time is refused."
)


def order(ident: str) -> str:
    """The key of the split's order: SHA-256 of the id, in hexadecimal."""
    return hashlib.sha256(ident.encode()).hexdigest()


def held_out_count(held_out: int | float, total: int) -> int:
    """Utterances to hold out: the number itself, or a share of the total (at least 1)."""
    return max(1, round(held_out * total)) if isinstance(held_out, float) else held_out


def hold_out(
    files: Mapping[str, str],
    held_out: int | float,
    where: str,
    too_short: Collection[str] = (),
) -> list[str]:
    """Ids to hold out, by :data:`RULE`, the last in the order first.

    ``files`` maps an id to the SHA-256 of its file; ``too_short`` are ids that are trained on
    whatever their place in the order (a share ``held_out`` is still one of all utterances). It
    depends on ids and bytes alone: not on where the folder is, nor on the order of listing; and a
    smaller ``held_out`` gives a prefix of what a larger gives. ``where`` names the corpus in
    errors.

    Errors: UserError when there are too few utterances.
    """
    total = len(files)
    wanted = held_out_count(held_out, total)
    twins = Counter(files.values())
    # Identical bytes in both splits would be a leak, and twice in one a double count.
    single = [ident for ident, digest in files.items() if twins[digest] == 1]
    short = set(too_short)
    allowed = [ident for ident in single if ident not in short]
    if wanted >= total or wanted > len(allowed):
        passed_over = [
            f"{n} of them {why}"
            for n, why in (
                (total - len(single), "with identical copies"),
                (len(single) - len(allowed), "shorter than data.held_out_min_seconds"),
            )
            if n
        ]
        lower = "data.held_out or data.held_out_min_seconds," if short else "data.held_out"
        raise UserError(
            f"data.held_out={held_out} needs {wanted} utterances beside those to train on, "
            f"but {where} has {total}"
            + (f" ({', '.join(passed_over)})" if passed_over else "")
            + f": lower {lower} or add audio"
        )
    return sorted(allowed, key=order, reverse=True)[:wanted]


def is_too_short(n_samples: int, sampling_rate: int, min_seconds: float) -> bool:
    """Whether a clip, at the rate that is trained at, is too short to be held out."""
    return n_samples < min_seconds * sampling_rate


def leaks(contents: Iterable[tuple[str, str]], held_out: set[str]) -> list[tuple[str, str]]:
    """Pairs (held-out id, other id) with the same content, from (id, digest of the content)."""
    groups: dict[str, list[str]] = defaultdict(list)
    for ident, digest in contents:
        groups[digest].append(ident)
    pairs = []
    for group in groups.values():
        held = [ident for ident in group if ident in held_out]
        rest = [ident for ident in group if ident not in held_out]
        if held:
            # Of copies that are all held out, one might stay.
            other = rest[0] if rest else held.pop(0)
            pairs += [(ident, other) for ident in held]
    return sorted(pairs)


def refuse_leaks(
    ids: Sequence[str],
    paths: Sequence[Path],
    held_out: set[str],
    lengths: Sequence[int],
    samples: Callable[[int], np.ndarray],
) -> None:
    """Refuse a corpus in which a held-out clip's decoded audio occurs a second time.

    The same recording as WAV and as FLAC, or with another header, has other bytes, so
    :func:`hold_out` cannot know it for a copy. ``samples(i)`` are the int16 (T,) of utterance i;
    only clips as long as a held-out one are compared. Lossy copies, and those that were trimmed
    or rescaled, are beyond this.

    Errors: UserError that names both files.
    """
    # Refused and not moved: the split must follow from ids and bytes alone, the same before and
    # after decoding, or runs of one corpus would be judged on different utterances. And which
    # copy is to go is the user's choice.
    suspect = {n for ident, n in zip(ids, lengths, strict=True) if ident in held_out}
    contents = (
        (ident, hashlib.sha256(samples(i).tobytes()).hexdigest())
        for i, (ident, n) in enumerate(zip(ids, lengths, strict=True))
        if n in suspect
    )
    found = leaks(contents, held_out)
    if not found:
        return
    where = dict(zip(ids, paths, strict=True))
    held, other = found[0]
    both = "both held out" if other in held_out else "held out and trained on"
    more = f" ({len(found)} such pairs, see `wg data check`)" if len(found) > 1 else ""
    raise UserError(
        f"{where[held]} and {where[other]} hold the same audio and would be {both}{more}: "
        "remove one of them"
    )
