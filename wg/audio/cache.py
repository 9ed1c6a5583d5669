"""Where derived data is kept, and a memory of file hashes so that no file is hashed twice."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from pathlib import Path

from wg.files import sha256_file


def default_cache_dir() -> Path:
    """The folder for derived data: $WG_CACHE_DIR, else ~/.cache/wg."""
    chosen = os.environ.get("WG_CACHE_DIR")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "wg"


class FileHashes:
    """SHA-256 of files, remembered by (path, size, modification time in ns).

    Only a convenience: a memory that cannot be read or written is forgotten, not an error.
    """

    def __init__(self, cache_dir: Path) -> None:
        self.path = cache_dir / "file_hashes.json"
        self.known: dict[str, list] = {}
        self.changed = False
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self.path.read_text())
            self.known = known if isinstance(known, dict) else {}

    def sha256(self, path: Path) -> str:
        """SHA-256 of the file, read only when its size or time has changed."""
        status = path.stat()
        key = [status.st_size, status.st_mtime_ns]
        entry = self.known.get(str(path))
        if isinstance(entry, list) and len(entry) == 3 and entry[:2] == key:
            return str(entry[2])
        digest = sha256_file(path)
        self.known[str(path)] = [*key, digest]
        self.changed = True
        return digest

    def save(self) -> None:
        """Remember for the next time; of several processes the last one wins."""
        if not self.changed:
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp")
            temporary.write_text(json.dumps(self.known))
            os.replace(temporary, self.path)
