"""One corpus into a folder: download, checksum, extract, and only then give it its name."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from wg.audio.bar import LateBar
from wg.audio.fetch.asterisk import check_ffmpeg, unpack_asterisk
from wg.audio.fetch.download import CHUNK, download
from wg.audio.fetch.sources import Source
from wg.audio.fetch.unpack import unpack_tar
from wg.audio.names import kind_of
from wg.errors import UserError
from wg.files import fsync_dir, write_json

MARK = ".fetched.json"  # in a folder that this module made, and made whole


def fetch(
    source: Source,
    out: Path,
    *,
    url: str | None = None,
    file: Path | None = None,
    keep: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """The corpus of ``source`` in ``out/FOLDER``, which is returned.

    A second call finds it there. An interrupted one is gone on with: a download from its .part,
    an extraction from the archive. ``url``: another address of the same file; ``file``: a copy
    that is here already. ``keep`` leaves the downloaded archive.

    Errors: UserError, one sentence, for whatever a network, a server or a disk can do.
    """
    final = out / source.folder
    if file is not None and kind_of(file) != "file":
        raise UserError(
            f"--file={file} is not a file: name the archive {source.file} that you have"
        )
    try:
        if _is_there(source, final, say):
            return final
        if source.form == "asterisk_deb":
            check_ffmpeg()
        out.mkdir(parents=True, exist_ok=True)
        with _only_one(out):
            if _is_there(source, final, say):  # made by the one that was waited for
                return final
            archive = file or _download(source, out, url or source.url, keep, say)
            if file is not None:
                _check_room(out, source.unpacked)
                _check_sum(file, source, "name another file, or leave --file out to download it")
            _extract(source, archive, final, say)
            if file is None and archive == _part(source, out):
                archive.unlink()
                say("removed the downloaded archive (--keep-archive keeps it)")
            elif file is None and not keep:
                say(f"left the archive {archive}, which was there before")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"the disk of {out} is full: make room and run the same command again, it goes on "
                "where it stopped"
            ) from None
        raise UserError(
            f"{out} cannot be written or {file or 'the archive'} read ({error.strerror or error}): "
            "name a folder of yours with -o"
        ) from None
    return final


def _is_there(source: Source, final: Path, say: Callable[[str], None]) -> bool:
    if not final.exists():
        return False
    mark = final / MARK
    if not mark.exists():
        raise UserError(
            f"{final} exists and was not made by `wg data fetch`: look at it with "
            f"`wg data check {final}`, or name another folder with -o"
        )
    # Whoever made the folder did so before there were editions, or says which one it is.
    facts: dict[str, object] = {}
    with contextlib.suppress(ValueError):
        facts = json.loads(mark.read_text())
    if facts.get("edition", 1) != source.edition:
        raise UserError(
            f"{final} was made by another version of wg, which took other files of the archive: "
            "move it away or name another folder with -o, and run the same command again"
        )
    say(f"{final} is already there")
    return True


def _part(source: Source, out: Path) -> Path:
    return out / f"{source.file}.part"


def _download(source: Source, out: Path, url: str, keep: bool, say: Callable[[str], None]) -> Path:
    """The archive in ``out``, whole and of the right checksum.

    Only with ``keep`` a download gets its final name. Else it stays the .part, also when the
    extraction is interrupted: what has the final name is the user's and never removed.
    """
    archive, part = out / source.file, _part(source, out)
    have = part.stat().st_size if part.exists() else 0
    if archive.exists():
        _check_room(out, source.unpacked)
        _check_sum(archive, source)
        return archive
    _check_room(out, source.size - have + source.unpacked)
    goes_on = f", going on at {have / 1e6:.1f} MB" if have else ""
    if have != source.size:
        say(f"fetching {url} ({source.size / 1e6:.1f} MB{goes_on}) to {part}")
    try:
        download(url, part, source.size, say)
    except KeyboardInterrupt:
        say(f"stopped; {part} is kept, and the same command goes on from there")
        raise
    _check_sum(part, source)
    if not keep:
        return part
    os.replace(part, archive)
    return archive


_MEND = "delete it and fetch again, from another --url if it comes back the same"


def _check_sum(path: Path, source: Source, mend: str = _MEND) -> None:
    size = path.stat().st_size
    digest = hashlib.sha256()
    if size == source.size:
        text = f"checking {path.name}"
        with path.open("rb") as file, LateBar(size, text, as_bytes=True) as bar:
            while data := file.read(CHUNK):
                digest.update(data)
                bar.advance(len(data))
        if digest.hexdigest() == source.sha256:
            return
        found, wanted = f"the SHA-256 {digest.hexdigest()}", source.sha256
    else:
        found, wanted = f"{size} bytes", f"{source.size}"
    raise UserError(
        f"{path} has {found} where {source.name} has {wanted}, so it is damaged or another file: "
        f"{mend}"
    )


def _check_room(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out).free
    if free < needed:
        raise UserError(
            f"{out} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed: make room, "
            "or name a folder on another disk with -o"
        )


def _extract(source: Source, archive: Path, final: Path, say: Callable[[str], None]) -> None:
    """Extract aside, then rename: the folder is whole or absent."""
    aside = final.with_name(f".{final.name}.extracting")
    shutil.rmtree(aside, ignore_errors=True)  # of one that was killed
    aside.mkdir()
    say(f"extracting to {final}")
    try:
        if source.form == "tar":
            unpack_tar(archive, aside)
            made = aside / source.folder
        else:
            made = aside / source.folder
            made.mkdir()
            unpack_asterisk(archive, made)
        if not made.is_dir():
            raise UserError(f"{archive} holds no folder {source.folder}: fetch it again")
        facts = {"name": source.name, "sha256": source.sha256, "licence": source.licence}
        write_json(made / MARK, {**facts, "edition": source.edition})
        os.rename(made, final)
        fsync_dir(final.parent)
    except KeyboardInterrupt:
        say(f"stopped; {archive} is kept, and the same command extracts it again")
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Two at once would write into one .part."""
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise UserError(
            f"another `wg data fetch` is writing to {out}: wait for it, or name another folder "
            "with -o"
        ) from None
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(folder)
