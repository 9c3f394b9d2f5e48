"""All that one replica exports, put together."""

from dataclasses import dataclass
from pathlib import Path

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector

from edge_broker.connection.broker import Broker
from edge_relay.identity.credentials import Credentials
from edge_relay.metrics.fleet import Fleet
from edge_relay.metrics.process import Connection, LoopLag, add_certificate
from edge_relay.metrics.replica import Metrics
from edge_relay.metrics.shared import SharedState


@dataclass(frozen=True, slots=True)
class Exports:
    """What is exported; `fleet`, `shared` and `lag` are to be run. All are in the registry of `metrics`."""

    metrics: Metrics
    fleet: Fleet
    shared: SharedState
    lag: LoopLag


def exports(broker: Broker, credentials: Credentials, certificate: Path | None) -> Exports:
    """Everything in one registry.

    Args:
        broker: The relay's.
        credentials: Who the workers are; followed by whoever owns them.
        certificate: That of the workers' listener, None without TLS.
    """
    metrics = Metrics()
    registry = metrics.registry
    fleet = Fleet(broker, credentials)
    shared = SharedState(broker, (fleet.complete, credentials.complete))
    for collector in (fleet, shared, Connection(broker)):
        registry.register(collector)
    add_certificate(registry, certificate)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return Exports(metrics, fleet, shared, LoopLag(registry))
