"""OpenTelemetry spans below the span that Airflow gave a job; for the relay and the bridge.

Off unless the standard environment names a collector; only then are the packages of the extra `otel` imported. A span
is reported when it is over, with both its times, so no span is open in between and any replica can report it. Airflow's
own decision counts: below a parent that is not sampled there is no span, whatever sampler the environment names.

No job waits for a collector: spans go into a bounded queue, a thread sends them, and what does not fit is dropped.
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import structlog
from typing_extensions import override

from edge_schemas.wire.jobs import Job

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = structlog.get_logger(__name__)

SERVICE = "edge-relay"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
CLOSE_S = 2.0
"""For spans that are not sent yet when a process ends."""
_EXPORTER_LOGGER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"

Attributes = Mapping[str, str | int | None]


class Spans:
    """Reports spans to a collector, if there is one.

    Args:
        provider: None if there is no collector.
    """

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("edge_relay")
        self._failed = False

    def report(
        self,
        name: str,
        job: Job | None,
        *,
        start: datetime,
        end: datetime,
        attributes: Attributes,
        failed: bool = False,
    ) -> None:
        """Report one span of a job that is over.

        Args:
            name: Of the span.
            job: Its trace context is the parent; without one, or with one that is not sampled, there is no span.
            start: By the clock of the machine that saw it; if this makes it later than `end`, `end` counts.
            end: By this machine's clock.
            attributes: Those without a value are left out.
            failed: The span shows as an error.
        """
        if self._tracer is None or job is None or job.traceparent is None:
            return
        try:
            self._report(name, job.traceparent, min(start, end), end, attributes, failed=failed)
        except Exception:
            # A job must not fail because of its trace. The next span would fail likewise, so it is logged once.
            if not self._failed:
                log.exception("span_failed", span=name)
            self._failed = True

    def close(self) -> None:
        """Send what is left; blocks for a short time."""
        if self._provider is None:
            return
        # The provider itself waits half a minute for a collector that is unreachable.
        thread = threading.Thread(target=self._provider.shutdown, name="edge-relay-traces-end", daemon=True)
        thread.start()
        thread.join(CLOSE_S)

    def _report(
        self, name: str, traceparent: str, start: datetime, end: datetime, attributes: Attributes, *, failed: bool
    ) -> None:
        from opentelemetry.trace import StatusCode, get_current_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
        context = get_current_span(parent).get_span_context()
        if self._tracer is None or not context.is_valid or not context.trace_flags.sampled:
            return
        values = {f"edge.{key}": value for key, value in attributes.items() if value is not None}
        span = self._tracer.start_span(name, context=parent, attributes=values, start_time=_ns(start))
        if failed:
            span.set_status(StatusCode.ERROR)
        span.end(end_time=_ns(end))


def spans_from_environment(component: str, environment: Mapping[str, str] | None = None) -> Spans:
    """Where spans go by the standard environment: to the collector that it names, by OTLP over HTTP, or nowhere.

    Args:
        component: Which part of Edge Relay this is.
        environment: Default: the environment of the process.
    """
    given = os.environ if environment is None else environment
    if not any(given.get(name) for name in ENDPOINTS):
        return Spans()
    protocol = next((given[name] for name in PROTOCOLS if given.get(name)), PROTOCOL)
    if protocol != PROTOCOL:
        log.error("traces_off", hint=f"set {PROTOCOLS[0]}={PROTOCOL} and its endpoint: {protocol} is not supported")
        return Spans()
    try:
        return Spans(_provider(component))
    except ImportError as error:
        log.error("traces_off", hint="install the extra 'otel', or unset the endpoint", missing=error.name)  # noqa: TRY400
    except Exception:
        # Of the packages' own settings, most likely. Work continues without traces.
        log.exception("traces_off", hint="correct the OTEL_… environment")
    return Spans()


def _provider(component: str) -> "TracerProvider":
    """A provider of our own: one of Airflow in this process would use Airflow's name and sampler."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    exporter = cast("SpanExporter", _QuietExporter(OTLPSpanExporter()))
    resource = Resource.create({"service.name": SERVICE, "edge.component": component})
    # The parent's flag was checked before.
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    log.info("traces_on", component=component)
    return provider


class _QuietExporter:
    """Logs once that a collector does not accept spans, and once that it does again."""

    def __init__(self, exporter: "SpanExporter") -> None:
        self._exporter = exporter
        self._failing = False
        logging.getLogger(_EXPORTER_LOGGER).addFilter(_UNLESS_OURS)

    def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
        """Send spans; in the sending thread."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        _UNLESS_OURS.thread.is_ours = True
        try:
            result = self._exporter.export(spans)
        except Exception:
            log.debug("traces_export_failed", exc_info=True)
            result = SpanExportResult.FAILURE
        finally:
            _UNLESS_OURS.thread.is_ours = False
        failing = result is not SpanExportResult.SUCCESS
        if failing is not self._failing:
            self._failing = failing
            self._log_change(len(spans))
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()

    def _log_change(self, spans: int) -> None:
        if self._failing:
            hint = f"the collector that {' or '.join(ENDPOINTS)} names must accept OTLP over HTTP; spans are dropped"
            log.warning("traces_not_delivered", spans=spans, hint=hint)
        else:
            log.info("traces_delivered_again")


class _UnlessOurs(logging.Filter):
    """Drops what the exporter logs of each attempt in our thread; Airflow may use the same exporter."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.local()

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(self.thread, "is_ours", False)


_UNLESS_OURS = _UnlessOurs()


def _ns(instant: datetime) -> int:
    """Nanoseconds since 1970; whole microseconds, which a float would not keep."""
    since = instant - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
