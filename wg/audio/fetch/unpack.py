"""Extracting a tar archive in one pass, nothing outside its folder."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import IO

from wg.audio.bar import LateBar
from wg.errors import UserError


class _Watched:
    """A file that moves a bar as it is read."""

    def __init__(self, raw: IO[bytes], bar: LateBar) -> None:
        self.raw, self.bar = raw, bar

    def read(self, n: int = -1) -> bytes:
        data = self.raw.read(n)
        self.bar.advance(len(data))
        return data


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    """A folder or a plain file below ``into``, its owner and mode left out; all else is refused.
    (tarfile's own filter for this is not in every Python 3.11.)"""
    target = (into / member.name).resolve()
    if not target.is_relative_to(into.resolve()):
        raise tarfile.TarError(f"{member.name!r} would land outside")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    data = tar.extractfile(member) if member.isreg() else None
    if data is None:
        raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as f:
        shutil.copyfileobj(data, f)


def unpack_tar(archive: Path, into: Path) -> None:
    """Extract a compressed tar archive into the folder ``into``, read once from front to back.

    Errors: UserError when it is damaged or holds anything that would land elsewhere; OSError
    when the disk is full.
    """
    bar = LateBar(archive.stat().st_size, f"extracting {archive.name}", as_bytes=True)
    try:
        # A stream: bzip2 cannot seek, and going back for each file would be quadratic.
        with (
            bar,
            archive.open("rb") as raw,
            tarfile.open(fileobj=_Watched(raw, bar), mode="r|*") as tar,  # type: ignore[call-overload]
        ):
            for member in tar:
                _extract(tar, member, into)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(
            f"{archive} cannot be extracted ({error}): delete it and fetch again"
        ) from None
