"""A user's mistake, told in one sentence.

Anything that a user can cause (a bad config, a missing file, an absent extra) is raised as
:class:`UserError`; the command line prints its sentence and exits with status 2. Everything
else is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # as shells have it: 128 + SIGINT


class UserError(Exception):
    """One clear sentence that names the thing that is wrong and how to mend it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as ``did you mean 'bf16'?`` or the whole list when nothing is near."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    return "known: " + ", ".join(options)
