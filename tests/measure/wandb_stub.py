"""A W&B server in a few lines, on the loopback interface: enough to see what a run sends."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Remembers queries (name, variables), file-stream rows by file, and uploaded files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.queries: list[tuple[str, dict[str, Any]]] = []
        self.streams: dict[str, list[dict[str, Any]]] = {}
        self.uploads: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def _read(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        body = self._read()
        if self.path == "/graphql":
            self._answer({"data": self._query(json.loads(body))})
            return
        if self.path.endswith("/file_stream"):
            for name, part in (json.loads(body).get("files") or {}).items():
                rows = [json.loads(line) for line in part["content"] if line.startswith("{")]
                self.server.streams.setdefault(name, []).extend(rows)
        self._answer({})

    def _query(self, query: dict[str, Any]) -> dict[str, Any]:
        text, variables = query["query"], query.get("variables") or {}
        name = text.split("(")[0].split("{")[0].split()[-1]
        self.server.queries.append((name, variables))
        project = {"id": "p", "name": "t", "entity": {"id": "e", "name": "me"}}
        if "upsertBucket" in text:
            run = {
                "id": "r", "name": variables["name"], "displayName": variables["displayName"],
                "config": "{}", "historyLineCount": 0, "project": project,
            }  # fmt: skip
            return {"upsertBucket": {"bucket": run, "inserted": True}}
        if "createRunFiles" in text:
            files = [{"name": f, "uploadUrl": f"{self.server.url}/{f}"} for f in variables["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        return {"model": {**project, "bucket": None}, "viewer": {"id": "u", "entity": "me"}}

    def do_PUT(self) -> None:
        self.server.uploads[self.path.lstrip("/")] = len(self._read())
        self._answer({})

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serve() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
