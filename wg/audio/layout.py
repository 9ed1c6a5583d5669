"""Which files of a folder are a corpus: LJSpeech's layout, or any folder of recordings."""

from __future__ import annotations

import os
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from wg.audio.names import check_name, shown
from wg.errors import UserError

SUFFIXES = {".wav", ".flac", ".ogg"}
# Audio that others read; such files are not taken, and a user should know.
FOREIGN_SUFFIXES = {
    *(".mp3", ".m4a", ".aac", ".opus", ".wma", ".mp4", ".webm", ".aif", ".aiff", ".aifc"),
    *(".au", ".snd", ".sph", ".g722", ".pcm", ".raw", ".caf", ".w64", ".rf64", ".amr", ".oga"),
}


@dataclass(frozen=True)
class Listing:
    """Audio files of a folder, each tuple sorted by path.

    found    files of the wanted suffixes
    hidden   files left out because a part of their name below the folder starts with a dot
    foreign  files left out because they are audio of other kinds
    closed   folders that were not entered: links to folders, and what may not be read
    """

    found: tuple[Path, ...]
    hidden: tuple[Path, ...] = ()
    foreign: tuple[Path, ...] = ()
    closed: tuple[Path, ...] = ()


def audio_files(root: Path, suffixes: Set[str] = SUFFIXES, deep: bool = True) -> Listing:
    """Which files of a folder are audio: the one rule, for training and for vocoding.

    ``suffixes`` (lower case, with the dot) match in any case. Hidden files, and all in hidden
    folders, are left out: ``._a.wav`` is a leftover of macOS and no audio. Linked files are
    taken; linked folders are not entered, because a link may lead back up, or to files that are
    here already. ``deep=False`` looks at the folder's own files alone.

    Errors: UserError when the folder cannot be read, or a file to be taken has a name that is
    not UTF-8.
    """
    found, hidden, foreign, closed = [], [], [], []

    def refuse(error: OSError) -> None:
        if os.fspath(error.filename) == os.fspath(root):
            raise UserError(
                f"{shown(root)} cannot be read ({error.strerror}): name another folder, or change "
                "its permissions"
            ) from None
        if not _hidden(path := Path(error.filename), root):
            closed.append(path)

    for folder, below, names in os.walk(root, onerror=refuse):
        here = Path(folder)
        if deep:
            links = [here / name for name in below if (here / name).is_symlink()]
            closed += [link for link in links if not _hidden(link, root)]
        else:
            below.clear()
        for name in names:
            path = here / name
            suffix = path.suffix.lower()
            # is_file: no broken link, no device.
            if suffix not in {*suffixes, *SUFFIXES, *FOREIGN_SUFFIXES} or not path.is_file():
                continue
            if _hidden(path, root):
                hidden.append(path)
            elif suffix in suffixes:
                check_name(path)
                found.append(path)
            else:
                foreign.append(path)
    return Listing(*(tuple(sorted(paths)) for paths in (found, hidden, foreign, closed)))


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


@dataclass(frozen=True)
class Layout:
    """``files``: id -> path, sorted by path. ``hidden``: audio files that are ignored because a
    part of their name starts with a dot. ``foreign``: audio files of a kind that is not read.
    ``closed``: folders that were not entered (see :class:`Listing`).

    Of LJSpeech also ``listed``, the ids of metadata.csv; ``absent``, those of them without a
    file; ``unlisted``, ids of files that it leaves out (they are used all the same).
    """

    root: Path
    files: dict[str, Path]
    hidden: tuple[Path, ...] = ()
    foreign: tuple[Path, ...] = ()
    listed: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    closed: tuple[Path, ...] = ()


def missing_part(root: Path) -> str | None:
    """The part of LJSpeech's layout that a folder lacks, None when it has it."""
    if not (root / "metadata.csv").is_file():
        return "metadata.csv"
    return None if (root / "wavs").is_dir() else "wavs"


def ljspeech_layout(root: Path) -> Layout:
    """LJSpeech-1.1: metadata.csv (id|text|normalised text) and wavs/ID.wav.

    Every file of wavs/ is an utterance, also one that metadata.csv leaves out.

    Errors: UserError when either cannot be read, or two files have one id.
    """
    found = audio_files(root / "wavs", {".wav"}, deep=False)
    files: dict[str, Path] = {}
    for path in found.found:
        if path.stem in files:
            raise UserError(
                f"{files[path.stem]} and {path} are both the utterance {path.stem}: remove one"
            )
        files[path.stem] = path
    listed = _ids(root / "metadata.csv")
    known = set(listed)
    return Layout(
        root,
        files,
        found.hidden,
        found.foreign,
        listed,
        absent=tuple(i for i in listed if i not in files),
        unlisted=tuple(i for i in files if i not in known),
        closed=found.closed,
    )


def _ids(metadata: Path) -> tuple[str, ...]:
    try:
        # -sig: a spreadsheet program puts a byte order mark before the first id.
        text = metadata.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(
            f"{metadata} cannot be read ({error.strerror}): change its permissions, or use "
            "data=folder to do without it"
        ) from None
    # Not splitlines, which also splits at separators that a transcript may hold.
    return tuple(i for line in text.split("\n") if (i := line.split("|")[0].strip()))


def folder_layout(root: Path) -> Layout:
    """Audio files of a folder, recursively; an id is the path in the folder, with slashes."""
    listing = audio_files(root)
    files = {path.relative_to(root).as_posix(): path for path in listing.found}
    return Layout(root, files, listing.hidden, listing.foreign, closed=listing.closed)
