"""Writing files so that a crash leaves the old file or the new one, never half of one."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from wg.errors import UserError


def sha256_bytes(data: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def fsync_dir(path: Path) -> None:
    """Make a rename in ``path`` durable; file systems without it are left alone."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)


def write_atomic(path: Path, data: bytes) -> None:
    """Write through a temporary file *in the same folder* (a rename across file systems is
    a copy, and a copy can be cut short), fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, tmp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(tmp, 0o644)
        os.replace(tmp, path)
    except BaseException:
        Path(tmp).unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all, as :func:`write_atomic`."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Parsed JSON; a missing or damaged file is a :class:`UserError` that names it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"{path} is not valid JSON ({e}); it is damaged or not wg's.") from None


def read_settings_file(path: Path) -> dict[str, Any]:
    """The settings of a YAML file; a missing or damaged file, or one without settings, is a
    :class:`UserError` that names it."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{path} is missing or cannot be read.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f"{path} is not YAML; it is damaged or not wg's.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no settings; it is damaged or not wg's.")
    return {str(key): value for key, value in found.items()}
