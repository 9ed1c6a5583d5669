"""A web server on this machine that serves one file, as badly as a test wants it to."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """``cuts``: bytes after which each answer in turn breaks off (None: it does not).
    ``statuses``: given instead of the file, one an answer. ``requests``: the Range of each."""

    content: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    length: int | None = None
    cuts: list[int | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: list[str | None] = field(default_factory=list)
    url: str = ""


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            served.requests.append(asked)
            if served.statuses:
                self.send_error(served.statuses.pop(0))
                return
            total = len(served.content) if served.length is None else served.length
            start = 0
            condition = self.headers.get("If-Range")
            same = condition in (None, served.etag, served.modified)
            if asked and served.ranges and same:
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
                if start >= total:
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            else:
                self.send_response(200)
            if served.etag:
                self.send_header("ETag", served.etag)
            if served.modified:
                self.send_header("Last-Modified", served.modified)
            self.send_header("Content-Length", str(total - start))
            self.end_headers()
            cut = served.cuts.pop(0) if served.cuts else None
            stop = None if cut is None else start + cut
            self.wfile.write(served.content[start:stop])

    return Handler


@contextmanager
def serve(content: bytes, **how: object) -> Iterator[Served]:
    served = Served(content, **how)  # type: ignore[arg-type]
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/corpus.tar.bz2"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
