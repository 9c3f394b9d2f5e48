"""This process: its version, its connection to NATS, its certificate, and the lag of its event loop."""

import asyncio
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import structlog
from cryptography import x509
from prometheus_client import CollectorRegistry, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from edge_broker.connection.broker import Broker
from edge_schemas.wire.polls import PROTOCOL

log = structlog.get_logger(__name__)

TICK_S = 0.5
_LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class LoopLag:
    """Measures how late a timer fires. Run `run()` in a task group."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "edge_relay_event_loop_lag_seconds",
            f"How late a timer of {TICK_S:g} s fires: no call is served for so long",
            buckets=_LAG_S,
            registry=registry,
        )

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._seconds.observe(max(0.0, loop.time() - due))


class Connection(Collector):
    """The connection to NATS, and the versions of relay and server."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._version = version("edge-relay")
        self._server = ""

    @override
    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        if self._broker.connected:
            self._server = ".".join(map(str, self._broker.server_version))
        connected = GaugeMetricFamily("edge_relay_broker_connected", "1 while NATS is connected")
        connected.add_metric((), self._broker.connected)
        reconnects = CounterMetricFamily("edge_relay_broker_reconnects", "Times the connection to NATS was restored")
        reconnects.add_metric((), self._broker.reconnects)
        build = GaugeMetricFamily(
            "edge_relay_build_info",
            "1; the relay's version, the newest protocol it serves, and the version of the last connected server",
            labels=("version", "protocol", "nats_server"),
        )
        build.add_metric((self._version, str(PROTOCOL), self._server), 1)
        yield from (connected, reconnects, build)

    def describe(self) -> Iterator[Metric]:
        """Names, types and labels."""
        yield from self.collect()


def add_certificate(registry: CollectorRegistry, file: Path | None) -> None:
    """Export when the served certificate expires; nothing without TLS."""
    if file is None:
        return
    try:
        [leaf, *_] = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        # The listener reports whether it can be served.
        log.warning("certificate_not_read", file=str(file), error=str(error))
        return
    gauge = certificate_gauge()
    gauge.set(leaf.not_valid_after_utc.timestamp())
    registry.register(gauge)


def certificate_gauge() -> Gauge:
    """The gauge, in no registry."""
    return Gauge(
        "edge_relay_tls_certificate_expiry_timestamp_seconds",
        "When the certificate of the workers' listener expires, as Unix time; absent without TLS",
        registry=None,
    )
