"""The operators' API from the contract's models, without a relay: lists by page, etags, actions that are remembered."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel
from typing_extensions import override

from edge_schemas.admin import actions, rows
from edge_schemas.admin.access import AccessToken, AccessTokenRequest, Role
from edge_schemas.admin.desired import DesiredQueue
from edge_schemas.life.model import JobState
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.worker_report import StoredVersions
from edge_schemas.wire.workers import WorkerState

NOW = datetime.now(UTC)
JOB = "01234567-89ab-4def-8123-456789abcdef"
TOKEN = "era_operators"
Answer = tuple[int, BaseModel | dict[str, Any] | None]


def worker_row(name: str, **fields: Any) -> rows.WorkerRow:
    """An idle worker that polled five seconds ago."""
    usual: dict[str, Any] = {
        "site": "plant-7",
        "queues": ("default",),
        "state": WorkerState.ONLINE,
        "settings_version": 1,
        "applied_version": 1,
        "enrolled_at": NOW - timedelta(days=3),
        "last_poll_at": NOW - timedelta(seconds=5),
        "slots": 4,
        "free": 4,
        "running": 0,
        "versions": StoredVersions(agent="0.1.0", python="3.12.3", airflow="3.1.0", platform="Linux"),
    }
    return rows.WorkerRow(worker=name, **{**usual, **fields})


def job_row() -> rows.JobRow:
    """A parked job."""
    return rows.JobRow(
        job=JOB, queue="q", state=JobState.WAITING, task="d.t", created_at=NOW, parked="released 5 times"
    )


def queue_row(name: str, **fields: object) -> rows.QueueRow:
    """A queue with two of everything."""
    counts = dict.fromkeys(("held_back", "waiting", "granted", "running", "workers", "workers_able", "free_slots"), 2)
    return rows.QueueRow.model_validate({"queue": name, "settings": DesiredQueue(), **counts, **fields})


@dataclass
class FakeOperators:
    """What it holds and what it was asked for.

    Attributes:
        lists: Path of a list to its rows.
        documents: Path to a single document.
        failures: Target to why an action can't change it.
        unchanged: Targets that are as wanted already.
        asked: Method, path and query of each call, in their order.
        posted: Path and body of each change.
    """

    url: str
    lists: dict[str, list[BaseModel]] = field(default_factory=dict)
    documents: dict[str, BaseModel] = field(default_factory=dict)
    failures: dict[str, actions.ActionFailure] = field(default_factory=dict)
    unchanged: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    posted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    on_call: Callable[[], None] | None = None

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        """The answer to a call whose token is right."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        self.asked.append((method, parts.path, query))
        if self.on_call is not None:
            self.on_call()
        if method == "GET" and parts.path in self.lists:
            return 200, self._page(self.lists[parts.path], query)
        if method == "GET" and parts.path in self.documents:
            return 200, self.documents[parts.path]
        if method == "POST" and parts.path in _REQUESTS:
            return 200, self._act(parts.path, body)
        if method == "POST" and parts.path == routes.ADMIN_ACCESS_TOKENS:
            order = AccessTokenRequest.model_validate_json(body)
            self.posted.append((parts.path, json.loads(body)))
            return 201, AccessToken(id="0123456789ab", token="era_new", name=order.name, role=Role(order.role))
        if method == "DELETE":
            return 204, None
        raise EdgeError(ErrorCode.NOT_FOUND, "there is no such thing")

    def _page(self, found: list[BaseModel], query: dict[str, str]) -> dict[str, Any]:
        start, limit = int(query.get("cursor", 0)), int(query.get("limit", rows.DEFAULT_PAGE_ROWS))
        shown = found[start : start + limit]
        more = str(start + limit) if start + limit < len(found) else None
        items = [row.model_dump(mode="json") for row in shown]
        return {"items": items, "total": len(found), "next": more, "as_of": NOW.isoformat()}

    def _act(self, path: str, body: bytes) -> actions.ActionResult:
        request: Any = _REQUESTS[path].model_validate_json(body)
        self.posted.append((path, json.loads(body)))
        names = getattr(request, _FIELDS[path], None)
        targets = [self._name(one) for one in names] if names else self._matching(path)
        failures = tuple(self.failures[name] for name in targets if name in self.failures)
        rest = [name for name in targets if name not in self.failures]
        changed = tuple(name for name in rest if name not in self.unchanged)
        return actions.ActionResult(
            changed=changed[:1000],
            changed_count=len(changed),
            unchanged_count=len(rest) - len(changed),
            failures=failures,
            failure_count=len(failures),
            dry_run=request.dry_run,
        )

    def _matching(self, path: str) -> list[str]:
        """It applies no filter: the relay's is tested with the relay."""
        if path == routes.ADMIN_WORKER_ACTIONS:
            return [str(getattr(row, "worker", "")) for row in self.lists.get(routes.ADMIN_WORKERS, [])]
        return [str(getattr(row, "job", "")) for row in self.lists.get(routes.ADMIN_JOBS, [])]

    def _name(self, target: object) -> str:
        return str(getattr(target, "queue", target))


_REQUESTS: dict[str, type[BaseModel]] = {
    routes.ADMIN_WORKER_ACTIONS: actions.WorkerActionRequest,
    routes.ADMIN_SITE_ACTIONS: actions.SiteActionRequest,
    routes.ADMIN_QUEUE_ACTIONS: actions.QueueActionRequest,
    routes.ADMIN_JOB_ACTIONS: actions.JobActionRequest,
}
_FIELDS = {
    routes.ADMIN_WORKER_ACTIONS: "workers",
    routes.ADMIN_SITE_ACTIONS: "sites",
    routes.ADMIN_QUEUE_ACTIONS: "queues",
    routes.ADMIN_JOB_ACTIONS: "jobs",
}


@contextmanager
def serving_operators() -> Iterator[FakeOperators]:
    """The API on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    raise EdgeError(ErrorCode.UNAUTHENTICATED)
                status, found = fake.answer(self.command, self.path, body)
            except EdgeError as error:
                problem = error.problem()
                status, found = problem.status, problem
            content = b"" if found is None else _bytes(found)
            etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            if status == 200 and self.headers.get("If-None-Match") == etag:
                status, content = 304, b""
            self.send_response(status)
            self.send_header("ETag", etag)
            if status not in {204, 304}:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815  # names of the base class

        @override
        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeOperators(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _bytes(found: BaseModel | dict[str, Any]) -> bytes:
    return json.dumps(found).encode() if isinstance(found, dict) else found.model_dump_json().encode()
