"""The registry of one replica with all its collectors."""

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
    """The collectors, all in the registry of `metrics`. Run `fleet`, `shared` and `lag`."""

    metrics: Metrics
    fleet: Fleet
    shared: SharedState
    lag: LoopLag


def exports(metrics: Metrics, broker: Broker, credentials: Credentials, certificate: Path | None) -> Exports:
    """Create all other collectors, in the registry of `metrics`.

    Args:
        metrics: What this replica counts; its registry gets all collectors.
        broker: The relay's.
        credentials: Of all workers; their owner runs them.
        certificate: Of the workers' listener, None without TLS.
    """
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
