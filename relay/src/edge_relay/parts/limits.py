"""What one client may use: the parts that count connections, bodies and grants."""

from dataclasses import dataclass

from edge_broker.records import RecordStore
from edge_relay.limits.addresses import ClientAddresses
from edge_relay.limits.connection_table import ConnectionTable
from edge_relay.limits.connections import Connections
from edge_relay.limits.kinds import Limit
from edge_relay.limits.malformed_requests import MalformedRequests
from edge_relay.limits.open_files import connections_allowed
from edge_relay.limits.unstarted_grants import UnstartedGrants
from edge_relay.metrics.replica import Metrics
from edge_relay.settings import Settings
from edge_service.body_memory import BodyMemory, MemoryLimit


@dataclass(frozen=True, slots=True)
class Limits:
    """Of this replica."""

    body_memory: BodyMemory
    worker_connections: ConnectionTable
    operator_connections: ConnectionTable
    addresses: ClientAddresses
    unstarted: UnstartedGrants
    malformed: MalformedRequests


def build_limits(settings: Settings, records: RecordStore, metrics: Metrics) -> Limits:
    """Build the parts."""
    return Limits(
        body_memory=_body_memory(settings, metrics),
        worker_connections=_worker_connections(settings, metrics),
        operator_connections=_operator_connections(settings, metrics),
        addresses=ClientAddresses(settings.trusted_proxies),
        unstarted=UnstartedGrants(records, settings.unstarted_grants, metrics.on_limit),
        malformed=MalformedRequests(metrics.malformed_requests.inc),
    )


def _body_memory(settings: Settings, metrics: Metrics) -> BodyMemory:
    def on_limit(reached: MemoryLimit) -> None:
        metrics.on_limit(Limit(reached))

    memory = BodyMemory(settings.body_memory_bytes, settings.worker_body_memory_bytes, on_limit)
    metrics.body_bytes.set_function(lambda: memory.used)
    return memory


def _worker_connections(settings: Settings, metrics: Metrics) -> ConnectionTable:
    allowed = connections_allowed()
    counted = Connections(
        most=min(allowed, settings.max_connections or allowed),
        strangers_of_address=settings.strangers_per_address,
        of_owner=settings.connections_per_worker,
        on_limit=metrics.on_limit,
    )
    metrics.connections.labels("strangers").set_function(lambda: counted.strangers)
    metrics.connections.labels("workers").set_function(lambda: counted.known)
    return ConnectionTable(counted)


def _operator_connections(settings: Settings, metrics: Metrics) -> ConnectionTable:
    """One sum: who may reach this listener is the operators' own choice."""
    most = settings.operators_connections
    return ConnectionTable(Connections(most=most, strangers_of_address=most, of_owner=most, on_limit=metrics.on_limit))
