"""The reference page of all metrics, from the registries that export them."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics import MetricWrapperBase

from edge_bridge.executor.metrics import ExecutorMetrics
from edge_bridge.keeper.bundles.metrics import BundleMetrics as KeeperBundleMetrics
from edge_bridge.keeper.cluster_view import ClusterView
from edge_bridge.keeper.metrics import KeeperMetrics, KeeperState
from edge_bridge.keeper.policy.figures import PolicyFigures
from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import KEEPER, RELAY
from edge_broker.record_mover import RecordMover
from edge_broker.records import RecordStore
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.desired.state import DesiredState
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.lookups import Lookups
from edge_relay.identity.operators.access_credentials import OperatorCredentials
from edge_relay.identity.operators.access_tokens import AccessTokenStore
from edge_relay.identity.operators.ended_sessions import EndedSessions
from edge_relay.identity.operators.token_uses import TokenUses
from edge_relay.identity.rotation import SecretRotation
from edge_relay.limits.kinds import ignore
from edge_relay.metrics.bundles import BundleMetrics
from edge_relay.metrics.exports import exports
from edge_relay.metrics.process import certificate_gauge
from edge_relay.metrics.producers import ProducerMetrics
from edge_relay.metrics.replica import Metrics
from edge_relay.upkeep.figures import SubmittedJobs, UpkeepFigures


@dataclass(frozen=True)
class Exporter:
    """A component with metrics.

    Attributes:
        name: Of the component, for the heading.
        about: Where it is scraped, and notes on all its metrics. Markdown.
        registry: Creates the registry of its metrics, without a running component.
    """

    name: str
    about: str
    registry: Callable[[], CollectorRegistry]


def _credentials(broker: Broker, lookups: Lookups) -> Credentials:
    rotation = SecretRotation(broker)
    ended = EndedSessions(Bucket(broker, ACCESS_BUCKET), lookups, ignore)
    operators = OperatorCredentials(lookups, TokenUses(AccessTokenStore(broker)), ended)
    return Credentials(broker, lookups, DesiredState(broker), rotation, operators)


def _relay() -> CollectorRegistry:
    broker = Broker(BrokerSettings((), RELAY, ""))
    lookups = Lookups(Bucket(broker, ACCESS_BUCKET), per_s=1, per_address_per_s=1, on_limit=ignore)
    exported = exports(Metrics(), broker, _credentials(broker, lookups), None)
    exported.metrics.registry.register(certificate_gauge())
    UpkeepFigures(exported.metrics)
    exported.metrics.registry.register(SubmittedJobs(Counter))
    ProducerMetrics(exported.metrics.registry, lambda: 0)
    BundleMetrics(exported.metrics.registry)
    return exported.metrics.registry


def _keeper() -> CollectorRegistry:
    broker = Broker(BrokerSettings((), KEEPER, ""))
    metrics = KeeperMetrics()
    mover = RecordMover(RecordStore(broker))
    metrics.registry.register(KeeperState(broker, ClusterView(broker, mover, metrics.put_aside), mover, lambda: None))
    PolicyFigures(metrics.registry, lambda: False)
    KeeperBundleMetrics(metrics.registry)
    return metrics.registry


def _executor() -> CollectorRegistry:
    return ExecutorMetrics().registry


# Each component that exports metrics. Add an entry for a new component.
EXPORTERS: tuple[Exporter, ...] = (
    Exporter(
        "Relay",
        "`GET /metrics` on the operators' listener of each replica.\n\n"
        "`edge_relay_*` counts the work of this replica. `edge_queue_*`, `edge_broker_*`, `edge_workers` and\n"
        "`edge_worker_*` are the shared state: each replica reads it every ten seconds and exports the same figures,\n"
        "so use `max by (...)` over replicas, never a sum. While NATS is unreachable the last figures stay, and\n"
        "`edge_shared_state_age_seconds` grows. A worker sends its own figures with its polls; a figure that its\n"
        "machine does not provide is absent.",
        _relay,
    ),
    Exporter(
        "Keeper",
        "`GET /metrics` on the gate's port of each keeper.\n\n"
        "`edge_queue_*` is the same at all keepers: use `max by (...)` over them, never a sum. While NATS is\n"
        "unreachable the last figures stay. `call` is the class of a call of the Execution API, as in the\n"
        "relay's metrics.",
        _keeper,
    ),
    Exporter(
        "Executor",
        "`GET /metrics` on `[edge_relay] metrics_port` of each scheduler; off unless the port is set. The same events\n"
        "go to Airflow's own metrics: [set up Airflow](../howto/airflow-settings.md#what-shows-how-it-goes).",
        _executor,
    ),
)


def page() -> str:
    """The page."""
    sections = "".join(f"\n## {one.name}\n\n{one.about}\n\n{_table(one.registry())}" for one in EXPORTERS)
    return (
        "# Metrics\n\n"
        "Times are in seconds, sizes in bytes, ratios from 0 to 1. Labels come from the server, never from input of\n"
        "a task or an unknown client, and no label contains a job's id: the number of series depends on queues,\n"
        "workers and sites only. `queue` is the queue's plain name, `team` is empty where there are no teams. A\n"
        "histogram has the series `_bucket`, `_sum` and `_count`. Each process also exports `process_*`, as\n"
        "Prometheus clients do.\n"
        f"{sections}"
    )


def _table(registry: CollectorRegistry) -> str:
    rows = sorted(_rows(registry))
    return "| metric | type | labels | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _rows(registry: CollectorRegistry) -> Iterator[str]:
    """A row for each family; the library's own collectors do not describe their metrics, and are left out."""
    for collector in registry._collector_to_names:  # noqa: SLF001  # the library has no public access to labels
        if isinstance(collector, MetricWrapperBase):
            yield from (_row(family, collector._labelnames) for family in collector.describe())  # noqa: SLF001
        elif hasattr(collector, "describe"):
            yield from (_row(family, getattr(family, "_labelnames", ())) for family in collector.describe())


def _row(family: Metric, labels: tuple[str, ...]) -> str:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    shown = ", ".join(f"`{label}`" for label in labels)
    return f"| `{name}` | {family.type} | {shown} | {family.documentation} |\n"
