"""Small archives, the table's rows for them, and what a fetch says."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np

from wg.audio.fetch.sources import Source


def archive(names: dict[str, bytes] | None = None, **attributes: object) -> bytes:
    """A small LJSpeech as a tar.bz2; noise, so that it stays large when compressed."""
    noise = np.random.default_rng(0).bytes(20000)
    names = names or {"LJ/metadata.csv": b"a|A|A\n", "LJ/wavs/a.wav": noise}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:bz2") as tar:
        for name, data in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in attributes.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def source(content: bytes, **changes: object) -> Source:
    row = Source(
        name="lj",
        title="t",
        url="http://127.0.0.1:9/corpus.tar.bz2",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        unpacked=20000,
        folder="LJ",
        form="tar",
        data="ljspeech",
        licence="none",
    )
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


class Log(list):
    def __call__(self, text: str) -> None:
        self.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
