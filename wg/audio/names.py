"""Names of files as a user wrote them: whether they are text, and whether they can be looked at."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from wg.errors import UserError

LONGEST = 120  # characters of a path in a sentence


def shown(path: str | Path) -> str:
    """A path as text that can be printed and encoded: bytes that are not UTF-8 as ``\\xff``."""
    # Python stands in for such bytes with surrogates, which nothing can print or hash.
    text = os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text if len(text) <= LONGEST * 2 else f"{text[:LONGEST]}..."


def check_name(path: str | Path) -> None:
    """UserError when the name of a file is not UTF-8: ids, hashes and records are text."""
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"the name of {shown(path)} is not valid UTF-8: rename it") from None


def kind_of(path: Path) -> str | None:
    """'file', 'folder' or 'other'; None when there is nothing.

    Errors: UserError when it cannot be looked at: too long a name, no permission.
    """
    check_name(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{shown(path)} cannot be looked at ({why}): check the path") from None
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "other"
