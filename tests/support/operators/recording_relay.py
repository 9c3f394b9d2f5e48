"""A relay's operators' listener that records the calls of the page in Airflow's UI."""

import json
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from typing_extensions import override

TOKEN = "era_of-the-tests"
POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'"

ENDED_JOB = {
    "job": "7",
    "queue": "edge",
    "state": "ended",
    "task": "a b.t",
    "dag_id": "a b",
    "run_id": "manual__1+2",
    "task_id": "t",
    "map_index": -1,
    "created_at": "2026-11-29T10:00:00Z",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A call that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeOperators:
    """What it does, and what it has seen.

    Attributes:
        by: What it says about how callers have signed in.
        large: Bytes of the answer to `/v1/admin/large`.
        drops: The paths at which it closes the connection without an answer.
        streams: How many streams are open.
        hurry: Set to end all streams.
    """

    url: str = ""
    by: str = "airflow"
    large: int = 0
    drops: set[str] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)
    streams: int = 0
    hurry: threading.Event = field(default_factory=threading.Event)
    _streams_changed: threading.Condition = field(default_factory=threading.Condition)

    def count_stream(self, change: int) -> None:
        """One more, or one less, is open."""
        with self._streams_changed:
            self.streams += change
            self._streams_changed.notify_all()

    def until_streams(self, number: int) -> None:
        """Wait until so many streams are open."""
        with self._streams_changed:
            assert self._streams_changed.wait_for(lambda: self.streams == number, 10), (
                f"{self.streams} streams are open"
            )

    def calls(self, path: str) -> list[Seen]:
        """The calls of a path, without its query."""
        return [each for each in self.seen if each.path.partition("?")[0] == path]


@contextmanager
def fake_operators() -> Iterator[FakeOperators]:
    """Served on a free port of loopback."""
    fake = FakeOperators()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield fake
    finally:
        fake.hurry.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeOperators
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """It is quiet."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.fake.seen.append(Seen(self.command, self.path, headers, body))
        path = self.path.partition("?")[0]
        if path in self.fake.drops:
            self.close_connection = True
        elif path == "/healthz":
            self._json(200, {"status": "ok"})
        elif headers.get("authorization") != f"Bearer {TOKEN}":
            self._json(401, {"code": "unauthenticated", "status": 401})
        elif path == "/v1/admin/session":
            name, role = unquote(headers.get("edge-acting-for", "")), headers.get("edge-acting-as", "")
            self._json(200, {"name": name, "role": role, "by": self.fake.by, "csrf": None, "airflow_url": None})
        elif path == "/v1/admin/changes":
            self._stream()
        elif path == "/v1/admin/jobs" and "ended=true" in self.path:
            self._json(200, {"items": [ENDED_JOB], "as_of": ENDED_JOB["created_at"]})
        elif path == "/v1/admin/jobs" and "ended=false" in self.path:
            self._json(200, {"items": [], "as_of": ENDED_JOB["created_at"]})
        elif path == "/v1/admin/script":
            self._answer(200, "text/javascript", b"alert(1)", Location="https://elsewhere.example/")
        elif path == "/v1/admin/large":
            self._answer(200, "application/json", b"1" * self.fake.large)
        else:
            self._json(200, {"path": self.path})

    def _json(self, status: int, body: dict[str, object]) -> None:
        self._answer(status, "application/json", json.dumps(body).encode())

    def _answer(self, status: int, kind: str, body: bytes, **more: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **more}.items():
            self.send_header(name, value)
        self.send_header("Set-Cookie", "relay=1")
        self.send_header("Server-Secret", "relay")
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        """One event at once, then silence until the caller leaves."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        self.fake.count_stream(1)
        try:
            event = b'event: change\ndata: {"views": ["workers"]}\n\n'
            self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            while not self.fake.hurry.is_set():
                readable, _, _ = select.select([self.connection], [], [], 0.05)
                if readable and not self.connection.recv(1):
                    return
            self.wfile.write(b"0\r\n\r\n")
        finally:
            self.fake.count_stream(-1)
