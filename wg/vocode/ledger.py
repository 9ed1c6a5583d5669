"""What is done already: a vocoding that was interrupted goes on where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wg.errors import UserError
from wg.files import read_json, write_json
from wg.vocode.inputs import STDIN, Input

NAME = "vocode.json"
_FORMAT = "wg-vocode-1"


class Ledger:
    """``vocode.json`` in the output folder: the settings, and the files that were finished.

    An output counts as done when it is there and was made by the same weights and settings from
    a source of the same size and time. Anything else is made anew.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        self.done: dict[str, dict[str, Any]] = {}
        try:
            found = read_json(folder / NAME)
        except UserError:
            return
        if isinstance(found, dict) and found.get("settings") == settings:
            files = found.get("files")
            self.done = files if isinstance(files, dict) else {}

    def has(self, item: Input) -> bool:
        made = self.done.get(item.name)
        return (
            item.source != STDIN
            and (self.folder / item.name).is_file()
            and isinstance(made, dict)
            and made.get("source") == _stamp(item)
        )

    def add(self, item: Input, facts: dict[str, Any]) -> None:
        self.done[item.name] = {**facts, "source": _stamp(item)}
        body = {"format": _FORMAT, "settings": self.settings, "files": self.done}
        write_json(self.folder / NAME, body)


def _stamp(item: Input) -> list[Any]:
    if item.source == STDIN:
        return ["-"]
    status = item.source.stat()
    return [str(item.source.resolve()), status.st_size, status.st_mtime_ns]
