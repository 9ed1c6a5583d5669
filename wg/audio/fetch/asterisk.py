"""Debian's packages of Asterisk's prompts, one a voice -> a folder of FLAC files.

A .deb is an ``ar`` archive that holds ``data.tar.xz``; in it are prompts in G.722, the 16 kHz
telephone codec (ITU-T), which ffmpeg decodes.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile

from wg.audio.bar import LateBar
from wg.errors import UserError

RATE = 16000  # Hz; what G.722 carries


@dataclass(frozen=True)
class Voice:
    """Who speaks in a package: ``corpus`` is its name for ``wg data fetch``."""

    corpus: str
    language: str
    credit: str
    licence: str


_BY = "(https://creativecommons.org/licenses/{}/3.0/)"
# By the folder that holds a voice's prompts.
VOICES = {
    "en_US_f_Allison": Voice(
        "asterisk-en",
        "English",
        "Allison Smith (theivrvoice.com), financed by Digium, Inc. (digium.com)",
        f"Creative Commons Attribution-ShareAlike 3.0\n{_BY.format('by-sa')}",
    ),
    "it_IT_m_Carlo": Voice(
        "asterisk-it",
        "Italian",
        "Carlo Flora (carloflora.com), translated by Silvia Petrin",
        f"Creative Commons Attribution 3.0\n{_BY.format('by')}",
    ),
}
NOT_SPEECH_FOLDERS = {"silence"}
NOT_SPEECH = {
    *("beep", "beeperr", "ascending-2tone", "descending-2tone"),
    *("confbridge-join", "confbridge-leave", "tt-monkeys"),
}
JOBS = 4

ABOUT = """\
Asterisk's core sounds, {voice.language}: {n} prompts, {minutes:.1f} min, one speaker, 16 kHz FLAC.

Recorded by {voice.credit}.
Licence: {voice.licence};
the package's own statement is in copyright.txt.

Made by `wg data fetch {voice.corpus}` from Debian's
{package}: decoded from G.722, nothing trimmed or
rescaled. All that is spoken is here; silence, tones and monkeys ({not_speech} of {total}) are left
out.
"""
# Of the voice that wg's demo has, too.
DEMO = """
wg's demo corpus is a part of these prompts: never judge on the demo's held-out clips what was
trained on this folder.
"""


def check_ffmpeg() -> None:
    """Errors: UserError when ffmpeg is not installed."""
    if shutil.which("ffmpeg") is None:
        raise UserError(
            "ffmpeg is not installed and G.722 cannot be decoded without it: install it "
            "(Debian: apt-get install ffmpeg) and run the same command again"
        )


def decode_g722(data: bytes, name: str) -> np.ndarray:
    """A G.722 stream -> int16 (T,) at 16 kHz. ``name`` is for errors.

    Errors: UserError when ffmpeg refuses it.
    """
    command = ["ffmpeg", "-v", "error", "-f", "g722", "-i", "pipe:0"]
    command += ["-ar", str(RATE), "-ac", "1", "-f", "s16le", "pipe:1"]
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"status {done.returncode}"
        raise UserError(f"ffmpeg cannot decode {name} ({reason}): try another build of ffmpeg")
    return np.frombuffer(done.stdout, dtype="<i2")


def ar_member(archive: Path, prefix: str) -> tuple[str, bytes]:
    """(name, bytes) of the first member of an ``ar`` archive whose name starts with ``prefix``.

    Errors: UserError when it is no such archive or has no such member.
    """
    with archive.open("rb") as file:
        if file.read(8) == b"!<arch>\n":
            while len(header := file.read(60)) == 60:
                name = header[:16].decode("ascii", "replace").rstrip(" /")
                size = int(header[48:58])
                if name.startswith(prefix):
                    return name, file.read(size)
                file.seek(size + size % 2, io.SEEK_CUR)  # members start on even bytes
    raise UserError(f"{archive} is no Debian package with {prefix} in it: fetch it again")


def unpack_asterisk(archive: Path, into: Path) -> None:
    """Decode a .deb of prompts into ``into`` as 16-bit FLAC, with README and licence.

    Errors: UserError when the package or a prompt cannot be read, ffmpeg is missing, or a file
    cannot be written.
    """
    check_ffmpeg()
    voice, prompts, licence = _read_package(archive)
    speech = {
        name: data
        for name, data in prompts.items()
        if name.split("/")[0] not in NOT_SPEECH_FOLDERS and name not in NOT_SPEECH
    }
    seconds = 0.0
    with (
        LateBar(len(speech), "decoding prompts") as bar,
        ThreadPoolExecutor(JOBS) as pool,
    ):
        try:
            decoded = pool.map(lambda item: decode_g722(item[1], item[0]), speech.items())
            for name, samples in zip(speech, decoded, strict=True):
                bar.advance()
                path = into / f"{name}.flac"
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    soundfile.write(str(path), samples, RATE, format="FLAC", subtype="PCM_16")
                except soundfile.LibsndfileError as error:
                    raise UserError(
                        f"{path} cannot be written ({error.error_string.rstrip('.')}): is the "
                        "disk full?"
                    ) from None
                seconds += len(samples) / RATE
        finally:
            pool.shutdown(cancel_futures=True)  # an error or Ctrl-C does not wait for the rest
    about = ABOUT.format(
        voice=voice,
        n=len(speech),
        minutes=seconds / 60,
        package=archive.name.removesuffix(".part"),
        total=len(prompts),
        not_speech=len(prompts) - len(speech),
    )
    (into / "README.txt").write_text(about + (DEMO if voice.corpus == "asterisk-en" else ""))
    (into / "copyright.txt").write_bytes(licence)


def _read_package(archive: Path) -> tuple[Voice, dict[str, bytes], bytes]:
    """(who speaks, G.722 streams by name, the copyright file) of the package."""
    _, data = ar_member(archive, "data.tar")
    prompts: dict[str, bytes] = {}
    voices: set[str] = set()
    licence = b""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                file = tar.extractfile(member) if member.isfile() else None
                if file is None:
                    continue
                voice = next((part for part in path.parts if part in VOICES), None)
                if path.suffix == ".g722" and voice is not None:
                    voices.add(voice)
                    below = path.parts[path.parts.index(voice) + 1 :]
                    prompts[str(PurePosixPath(*below).with_suffix(""))] = file.read()
                elif path.name == "copyright":
                    licence = file.read()
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{archive} cannot be read ({error}): fetch it again") from None
    unsafe = [name for name in prompts if ".." in PurePosixPath(name).parts]
    if len(voices) != 1 or unsafe:
        names = " or ".join(VOICES)
        raise UserError(f"{archive} holds no prompts of {names}: fetch the package again")
    return VOICES[voices.pop()], dict(sorted(prompts.items())), licence
