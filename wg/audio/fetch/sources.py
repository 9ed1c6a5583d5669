"""The public corpora that ``wg data fetch`` knows, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Source:
    """``size`` and ``unpacked`` in bytes, of the archive and of what it becomes; ``sha256`` of
    the archive; ``folder`` is the name that the corpus gets; ``data`` the config to train with.

    ``form``: a tar archive that holds ``folder`` itself, or Debian's package of Asterisk prompts.
    ``edition``: raised when the same archive becomes other files, so that a folder made before is
    known for what it is.
    """

    name: str
    title: str
    url: str
    size: int
    sha256: str
    unpacked: int
    folder: str
    form: Literal["tar", "asterisk_deb"]
    data: str
    licence: str
    edition: int = 1

    @property
    def file(self) -> str:
        """Name of the archive."""
        return self.url.rsplit("/", 1)[-1]


_ROWS = (
    Source(
        name="ljspeech",
        title="LJ Speech 1.1: 24 h of one English speaker, 22,050 Hz (Keith Ito, Linda Johnson)",
        url="https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
        size=2_748_572_632,
        sha256="be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
        unpacked=3_820_000_000,
        folder="LJSpeech-1.1",
        form="tar",
        data="ljspeech",
        licence="public domain",
    ),
    Source(
        name="asterisk-en",
        title="Asterisk prompts: 24 min of one English speaker, 16,000 Hz (Allison Smith, Digium)",
        url=(
            "http://deb.debian.org/debian/pool/main/a/asterisk-core-sounds/"
            "asterisk-core-sounds-en-g722_1.6.1-1_all.deb"
        ),
        size=10_565_860,
        sha256="38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
        unpacked=30_000_000,
        folder="asterisk-en",
        form="asterisk_deb",
        data="asterisk",
        licence="CC BY-SA 3.0",
        edition=2,  # 1 left out prompts under 1 s
    ),
    Source(
        name="asterisk-it",
        title="Asterisk prompts: 23 min of one Italian speaker, 16,000 Hz (Carlo Flora)",
        url=(
            "http://deb.debian.org/debian/pool/main/a/asterisk-core-sounds/"
            "asterisk-core-sounds-it-g722_1.6.1-1_all.deb"
        ),
        size=10_087_176,
        sha256="46b4cf7afc508a5fcfc051b7ea233251c0d195dd4ef83cc4b7facb4c6429b016",
        unpacked=30_000_000,
        folder="asterisk-it",
        form="asterisk_deb",
        data="asterisk",
        licence="CC BY 3.0",
        edition=2,
    ),
)
SOURCES: dict[str, Source] = {row.name: row for row in _ROWS}
