"""What arms are called on a page: their recipe and what tells them apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

# Overrides that set the question, not the recipe; which runs differ in them is a warning's to say.
_QUESTION = ("data", "budget", "snapshots", "evaluation", "device", "threads", "log_every")
_SETTINGS = re.compile(r"\([^()]*\)")  # of a strategy in a row: fast +[adamw(lr=0.0006)]


def short_names(arms: Collection[str]) -> dict[str, str]:
    """Full name of each arm -> the same without what all arms share and without what is not the
    recipe's, where names stay different."""
    words = {arm: arm.split(" ") for arm in arms}
    shared = set.intersection(*(set(w[1:]) for w in words.values())) if len(words) > 1 else set()

    def kept(word: str) -> bool:
        return word not in shared and word.lstrip("+~").split("=")[0].split(".")[0] not in _QUESTION

    short = {arm: " ".join([w[0], *filter(kept, w[1:])]) for arm, w in words.items()}
    bare = {arm: _SETTINGS.sub("", name) for arm, name in short.items()}
    if len(set(bare.values())) == len(set(short.values())):
        short = bare  # a design's rows set the same of each strategy
    counts = Counter(short.values())
    return {arm: name if counts[name] == 1 else arm for arm, name in short.items()}
