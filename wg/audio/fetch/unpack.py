"""Extracting a tar archive in one pass, nothing outside its folder."""

from __future__ import annotations

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


def unpack_tar(archive: Path, into: Path) -> None:
    """Extract a compressed tar archive into the folder ``into``, read once from front to back.

    Errors: UserError when it is damaged or holds anything that would land elsewhere; OSError
    when the disk is full.
    """
    if not hasattr(tarfile, "data_filter"):
        raise UserError(
            "this Python cannot extract archives safely: use Python 3.11.4 or later, or extract "
            f"{archive} by hand"
        )
    bar = LateBar(archive.stat().st_size, f"extracting {archive.name}", as_bytes=True)
    try:
        # A stream: bzip2 cannot seek, and going back for each file would be quadratic.
        with (
            bar,
            archive.open("rb") as raw,
            tarfile.open(fileobj=_Watched(raw, bar), mode="r|*") as tar,  # type: ignore[call-overload]
        ):
            for member in tar:
                tar.extract(member, into, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise UserError(
            f"{archive} cannot be extracted ({error}): delete it and fetch again"
        ) from None
