"""``manifest.json``: what an export is, what it was checked against, and the hash of each file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wg.errors import UserError
from wg.files import read_json, sha256_bytes, sha256_file

NAME = "manifest.json"
FORMAT = "wg-export-1"


def file_facts(data: bytes) -> dict[str, Any]:
    """SHA-256 and size in bytes, as the manifest lists them."""
    return {"sha256": sha256_bytes(data), "bytes": len(data)}


def load_manifest(out_dir: Path) -> dict[str, Any]:
    """The manifest of an export. Raises :class:`UserError` when absent or not wg's."""
    manifest = read_json(out_dir / NAME)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{out_dir / NAME} is not the manifest of an export of this version of wg.")
    if not all(isinstance(manifest.get(key), dict) for key in ("files", "settings")):
        raise UserError(f"{out_dir / NAME} is damaged; export again.")
    return manifest


def verify_manifest(out_dir: Path) -> dict[str, Any]:
    """The manifest, once every file it lists is there with the hash it states.

    Raises :class:`UserError` naming the first file that is not.
    """
    manifest = load_manifest(out_dir)
    for name, facts in manifest["files"].items():
        path = out_dir / name
        if not path.is_file():
            raise UserError(f"{path} is missing; export again.")
        if sha256_file(path) != facts["sha256"]:
            raise UserError(
                f"{path} is not the file that was exported: its SHA-256 differs from the one in "
                f"{NAME}; export again."
            )
    return manifest
