"""Downloading one large file: it resumes, tries again, and notices another file.

Beside FILE.part lies FILE.part.json: where its bytes came from and the server's validator
(RFC 9110: an entity tag or a date), so that a file that changed in between is not continued.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import requests

from wg.audio.bar import LateBar
from wg.errors import UserError

RETRIES = 5  # in a row without a byte of progress
RETRIES_AT_FIRST = 2  # before any byte has come: there may be no connection at all
BACKOFF = 1.0  # seconds before the first retry, doubled for each further one
TIMEOUTS = (10.0, 60.0)  # seconds to connect, and without a byte
CHUNK = 1 << 20
RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}


class _Again(Exception):
    """Something that may pass: say it, wait, and go on."""


def download(url: str, part: Path, size: int, say: Callable[[str], None]) -> None:
    """Fetch ``url``, a file of ``size`` bytes, into ``part``, continuing what is there.

    Connections that break are taken up again with growing pauses. A server that cannot resume,
    or whose file has changed since, is read from the start.

    Errors: UserError when there is no connection, no such file, or one of another size. What
    was received stays in ``part``. OSError when it cannot be written.
    """
    if _have(part) > size:
        raise UserError(
            f"{part} has {_have(part)} bytes, more than the {size} of {url}: delete it and fetch "
            "again"
        )
    failures, limit = 0, RETRIES_AT_FIRST
    with LateBar(size, part.name.removesuffix(".part"), as_bytes=True) as bar:
        while (before := _have(part)) < size:
            try:
                _receive(url, part, size, bar, say)
            except _Again as problem:
                if _have(part) > before:
                    failures, limit = 0, RETRIES
                failures += 1
                if failures > limit:
                    kept = f"; {part} keeps {_have(part)} of {size} bytes" if _have(part) else ""
                    raise UserError(
                        f"{url} cannot be fetched ({problem}){kept}: run the same command again "
                        "once the connection is better, or give a file with --file"
                    ) from None
                pause = BACKOFF * 2 ** (failures - 1)
                say(f"{problem}; trying again in {pause:g} s ({_have(part)} of {size} bytes)")
                time.sleep(pause)
    _state(part).unlink(missing_ok=True)


def _have(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _state(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _known(part: Path, url: str) -> str | None:
    """The validator of the bytes in ``part`` if they came from ``url``."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        state = json.loads(_state(part).read_text())
        return state.get("validator") if state.get("url") == url else None
    return None


def _validator(response: requests.Response) -> str | None:
    """What If-Range may carry: a strong entity tag, else the date of the last change."""
    tag = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified")


def _receive(url: str, part: Path, size: int, bar: LateBar, say: Callable[[str], None]) -> None:
    """One connection: append what comes. Raises _Again when it ends too soon."""
    have, known = _have(part), _known(part, url)
    # No compression in transit: positions must be those of the file.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known:
            headers["If-Range"] = known
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS) as response:
            _check_status(response, url)
            resumed = response.status_code == requests.codes.partial_content
            _check_size(response, url, size, have if resumed else 0)
            if not resumed:
                if have:
                    changed = known is not None and _validator(response) != known
                    why = "its file has changed" if changed else "it cannot resume"
                    say(f"the server sends the file from the start: {why}")
                state = {"url": url, "validator": _validator(response)}
                _state(part).write_text(json.dumps(state))
                have = 0
            with part.open("ab" if resumed else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    have += len(chunk)
                    if have > size:
                        raise _other_file(url, f"more than the expected {size} bytes")
                    file.write(chunk)
                    bar.move_to(have)
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema) as error:  # fmt: skip
        raise UserError(f"--url={url} is no address that can be fetched: {error}") from None
    except requests.exceptions.Timeout:
        raise _Again(f"no answer within {TIMEOUTS[1]:g} s") from None
    except requests.exceptions.SSLError as error:
        raise _Again(f"no secure connection, {_reason(error)}") from None
    except requests.exceptions.ConnectionError as error:
        raise _Again(f"no connection, {_reason(error)}") from None
    except requests.exceptions.RequestException as error:
        raise _Again(f"the connection broke, {_reason(error)}") from None
    if have < size:
        raise _Again("the connection ended too soon")


def _check_status(response: requests.Response, url: str) -> None:
    status = response.status_code
    if status in RETRY_STATUS:
        raise _Again(f"the server answers {status} {response.reason}")
    if status == requests.codes.requested_range_not_satisfiable:
        raise _other_file(url, "fewer bytes than were fetched already")
    if status >= 400:
        raise UserError(
            f"{url} answers {status} {response.reason}: name another address of the same file "
            "with --url, or a copy that you have with --file"
        )
    if status not in (requests.codes.ok, requests.codes.partial_content):
        raise _Again(f"the server answers {status} {response.reason}")


def _check_size(response: requests.Response, url: str, size: int, have: int) -> None:
    """The server's file must have the expected size, and a resumed answer start at ``have``."""
    if response.status_code == requests.codes.partial_content:
        sent = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", sent)
        if match is None or int(match[1]) != have:
            raise _Again(f"the server sends other bytes than were asked for ({sent})")
        if match[2] not in ("*", str(size)):
            raise _other_file(url, f"{match[2]} bytes where {size} are expected")
        return
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) != size:
        raise _other_file(url, f"{length} bytes where {size} are expected")


def _other_file(url: str, has: str) -> UserError:
    return UserError(
        f"{url} has {has}, so it is another file: name the right one with --url, or a copy that "
        "you have with --file"
    )


def _reason(error: Exception) -> str:
    """The innermost cause, which is the one that says something."""
    inner: BaseException = error
    while True:
        deeper = inner.__cause__ or inner.__context__ or getattr(inner, "reason", None)
        if not isinstance(deeper, BaseException) or deeper is inner:
            break
        inner = deeper
    text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return str(text).rstrip(".")
