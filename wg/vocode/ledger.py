"""What is done already: a vocoding that was interrupted goes on where it stopped, and nothing that
somebody else made is overwritten."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wg.errors import UserError
from wg.vocode.inputs import STDIN, Input

NAME = "vocode.jsonl"
_FORMAT = "wg-vocode-1"


class Ledger:
    """``vocode.jsonl`` in the output folder: a line for each output begun and each finished.

    An output counts as done when it is there and was made by the same model and settings from
    a source of the same size and time. One that was begun, or made differently, is made anew. One
    that no line mentions is not ours to overwrite.

    settings  JSON-able: everything that decides what comes out

    Raises :class:`UserError` when a file of that name is something else.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.path = folder / NAME
        self.folder, self.settings = folder, settings
        text = json.dumps(settings, sort_keys=True)
        self._key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._lines: dict[str, dict[str, Any]] = {}  # the last of each output
        self._new = True
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        try:
            lines = self.path.read_text().splitlines()
            head = json.loads(lines[0])
            sound = isinstance(head, dict) and head.get("format") == _FORMAT
        except (OSError, ValueError, IndexError):
            sound = False
        if not sound:
            raise UserError(
                f"{self.path} is not the record of a vocoding; name another output folder."
            )
        self._new = False
        for line in lines[1:]:
            try:
                entry = json.loads(line)
                self._lines[entry["name"]] = entry
            except (ValueError, TypeError, KeyError):
                continue  # a line that a crash cut short

    def check(self, items: Iterable[Input]) -> None:
        """Raises :class:`UserError` when an output is in the way that no vocoding wrote."""
        foreign = [
            i.name for i in items if (self.folder / i.name).exists() and i.name not in self._lines
        ]
        if foreign:
            more = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
            raise UserError(
                f"{self.folder / foreign[0]}{more} exists and `wg vocode` did not write it; name "
                "another output folder, or move it away."
            )

    def has(self, item: Input) -> bool:
        made = self._lines.get(item.name, {})
        return (
            item.source != STDIN
            and made.get("done") is True
            and made.get("settings") == self._key
            and made.get("source") == _stamp(item)
            and (self.folder / item.name).is_file()
        )

    def begin(self, item: Input) -> None:
        """Before the output appears: should we be stopped then, it is known to be ours."""
        self._append({"name": item.name, "done": False})

    def finish(self, item: Input, facts: dict[str, Any]) -> None:
        line = {"name": item.name, "done": True, "settings": self._key, "source": _stamp(item)}
        self._append({**line, **facts})

    def _append(self, line: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a") as file:
            if self._new:
                file.write(json.dumps({"format": _FORMAT}) + "\n")
                self._new = False
            file.write(json.dumps(line) + "\n")
        self._lines[line["name"]] = line


def _stamp(item: Input) -> list[Any]:
    if item.source == STDIN:
        return ["-"]
    status = item.source.stat()
    return [str(item.source.resolve()), status.st_size, status.st_mtime_ns]
