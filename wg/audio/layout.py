"""Which files of a folder are a corpus: LJSpeech's layout, or any folder of recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUFFIXES = {".wav", ".flac", ".ogg"}
# Audio that others read; such files are not taken, and a user should know.
FOREIGN_SUFFIXES = {
    *(".mp3", ".m4a", ".aac", ".opus", ".wma", ".mp4", ".webm", ".aif", ".aiff", ".aifc"),
    *(".au", ".snd", ".sph", ".g722", ".pcm", ".raw", ".caf", ".w64", ".rf64", ".amr", ".oga"),
}


@dataclass(frozen=True)
class Layout:
    """``files``: id -> path, sorted by path. ``hidden``: audio files that are ignored because a
    part of their name starts with a dot. ``foreign``: audio files of a kind that is not read.

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


def missing_part(root: Path) -> str | None:
    """The part of LJSpeech's layout that a folder lacks, None when it has it."""
    return next((part for part in ("metadata.csv", "wavs") if not (root / part).exists()), None)


def ljspeech_layout(root: Path) -> Layout:
    """LJSpeech-1.1: metadata.csv (id|text|normalised text) and wavs/ID.wav.

    Every file of wavs/ is an utterance, also one that metadata.csv leaves out.
    """
    files, hidden, foreign = {}, [], []
    for path in sorted((root / "wavs").glob("*")):
        if path.suffix == ".wav":
            if path.name.startswith("."):
                hidden.append(path)
            else:
                files[path.stem] = path
        elif path.suffix.lower() in SUFFIXES | FOREIGN_SUFFIXES:
            foreign.append(path)
    text = (root / "metadata.csv").read_text(encoding="utf-8", errors="replace")
    listed = tuple(i for line in text.splitlines() if (i := line.split("|")[0].strip()))
    known = set(listed)
    return Layout(
        root,
        files,
        tuple(hidden),
        tuple(foreign),
        listed,
        absent=tuple(i for i in listed if i not in files),
        unlisted=tuple(i for i in files if i not in known),
    )


def folder_layout(root: Path) -> Layout:
    """Audio files of a folder, recursively; an id is the path in the folder, with slashes."""
    files, hidden, foreign = {}, [], []
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES | FOREIGN_SUFFIXES or not path.is_file():
            continue
        if any(part.startswith(".") for part in relative.parts):
            hidden.append(path)
        elif suffix in SUFFIXES:
            files[relative.as_posix()] = path
        else:
            foreign.append(path)
    return Layout(root, files, tuple(hidden), tuple(foreign))
