"""A collector of OpenTelemetry spans: receives them by OTLP over HTTP and keeps them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from typing_extensions import override

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class CollectedSpan:
    """A span as it arrived."""

    name: str
    trace: str
    parent: str
    start: datetime
    end: datetime
    attributes: dict[str, Any]
    failed: bool
    service: dict[str, Any]


@dataclass
class Collector:
    """What has arrived.

    Attributes:
        url: For `OTEL_EXPORTER_OTLP_ENDPOINT`.
        refuse: Answer 500.
    """

    url: str = ""
    refuse: bool = False
    requests: int = 0
    spans: list[CollectedSpan] = field(default_factory=list)

    def of(self, trace: str) -> dict[str, CollectedSpan]:
        """The spans of a trace by name; no name twice."""
        found = [span for span in self.spans if span.trace == trace]
        by_name = {span.name: span for span in found}
        assert len(by_name) == len(found), found
        return by_name

    def take(self, body: bytes) -> None:
        """A request of an exporter."""
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for resource_spans in request.resource_spans:
            service = _plain(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                self.spans += [_span(span, service) for span in scope_spans.spans]


@contextmanager
def running_collector() -> Iterator[Collector]:
    """On a free port of loopback, in a thread of its own: it answers whatever a test's event loop does."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.requests += 1
            if not collector.refuse:
                collector.take(body)
            self.send_response(400 if collector.refuse else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, format: str, *args: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _span(span: Any, service: dict[str, Any]) -> CollectedSpan:
    return CollectedSpan(
        name=span.name,
        trace=span.trace_id.hex(),
        parent=span.parent_span_id.hex(),
        start=_instant(span.start_time_unix_nano),
        end=_instant(span.end_time_unix_nano),
        attributes=_plain(span.attributes),
        failed=span.status.code == 2,
        service=service,
    )


def _instant(nanoseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=nanoseconds // 1000)


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
