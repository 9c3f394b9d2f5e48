"""The parts of one replica: what its handlers and loops share. Built once, before anything is started."""

from dataclasses import dataclass

from edge_broker.audit import Audit
from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.records import RecordStore
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.desired.state import DesiredState
from edge_relay.desired.store import DesiredStore
from edge_relay.dispatch.poll_session import PollParts
from edge_relay.dispatch.polls import ParkedPolls
from edge_relay.dispatch.state.reads import StateReads
from edge_relay.dispatch.state.record_mirror import RecordMirror
from edge_relay.fleet.changes import Changes
from edge_relay.fleet.queues.flow import Flow
from edge_relay.fleet.views import FleetViews, Sources
from edge_relay.fleet.workers.outages import Outages
from edge_relay.gate.centre import Centre
from edge_relay.gate.client import GateClient
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.identity.lookups import Lookups
from edge_relay.identity.operators.access_tokens import AccessTokenStore
from edge_relay.identity.operators.token_uses import TokenUses
from edge_relay.identity.receipts import ReceiptKey
from edge_relay.identity.rotation import SecretRotation
from edge_relay.jobs.parking import Parking
from edge_relay.jobs.unreadable import UnreadableMessages
from edge_relay.lifecycle import Lifecycle
from edge_relay.limits.addresses import ClientAddresses
from edge_relay.limits.connection_table import ConnectionTable
from edge_relay.limits.connections import Connections
from edge_relay.limits.kinds import Limit
from edge_relay.limits.log_rates import LogRates
from edge_relay.limits.log_shares import LogShares
from edge_relay.limits.malformed_requests import MalformedRequests
from edge_relay.limits.open_files import connections_allowed
from edge_relay.limits.unstarted_grants import UnstartedGrants
from edge_relay.metrics.exports import Exports, exports
from edge_relay.metrics.replica import Metrics
from edge_relay.pulls.dispatcher_pool import DispatcherPool
from edge_relay.readiness import Readiness
from edge_relay.settings import Settings
from edge_relay.sign_in.oidc import Oidc
from edge_relay.sign_in.sessions import Sessions
from edge_relay.stores.holders import Holders
from edge_relay.stores.job_logs import JobLogs
from edge_relay.stores.log_space import LogSpace
from edge_relay.stores.log_store import LogStore
from edge_relay.stores.logged_jobs import LoggedJobs
from edge_relay.stores.worker_store import WorkerStore
from edge_relay.tracing import RelayJobSpans
from edge_service.body_memory import BodyMemory, MemoryLimit
from edge_service.tracing import spans_from_environment


@dataclass(frozen=True, slots=True)
class Parts:
    """All parts.

    Attributes:
        gate: None if no gate is set.
        oidc: None if no identity provider is set.
        workers: The entries of workers.
        enrollments: The credentials of workers.
    """

    settings: Settings
    lifecycle: Lifecycle
    broker: Broker
    audit: Audit
    exports: Exports
    spans: RelayJobSpans
    records: RecordStore
    workers: WorkerStore
    logs: JobLogs
    log_space: LogSpace
    lookups: Lookups
    credentials: Credentials
    access_tokens: AccessTokenStore
    token_uses: TokenUses
    rotation: SecretRotation
    sessions: Sessions
    oidc: Oidc | None
    desired: DesiredState
    desired_store: DesiredStore
    enrollments: EnrollmentStore
    receipt_key: ReceiptKey
    readiness: Readiness
    gate: GateClient | None
    centre: Centre
    polls: ParkedPolls
    mirror: RecordMirror
    reads: StateReads
    dispatchers: DispatcherPool
    body_memory: BodyMemory
    worker_connections: ConnectionTable
    operator_connections: ConnectionTable
    addresses: ClientAddresses
    unstarted: UnstartedGrants
    malformed: MalformedRequests
    views: FleetViews
    changes: Changes
    outages: Outages

    @property
    def metrics(self) -> Metrics:
        """What this replica counts and times."""
        return self.exports.metrics

    def for_polls(self) -> PollParts:
        """The parts that a poll needs."""
        return PollParts(
            lifecycle=self.lifecycle,
            polls=self.polls,
            dispatchers=self.dispatchers,
            credentials=self.credentials,
            desired=self.desired,
            receipt_key=self.receipt_key,
            centre=self.centre,
            broker=self.broker,
            records=self.records,
            mirror=self.mirror,
            reads=self.reads,
            workers=self.workers,
            unstarted=self.unstarted,
            metrics=self.metrics,
        )


def build_parts(settings: Settings) -> Parts:
    """Build the parts, without starting anything.

    Raises:
        SettingsError: A secret can't be read.
    """
    broker = Broker(settings.broker())
    records = RecordStore(broker)
    workers, mirror = WorkerStore(broker), RecordMirror(broker)
    metrics = Metrics()
    lookups = Lookups(
        Bucket(broker, ACCESS_BUCKET),
        per_s=settings.lookups_per_s,
        per_address_per_s=settings.lookups_per_address_per_s,
        on_limit=metrics.on_limit,
    )
    desired, audit = DesiredState(broker), Audit(broker, f"relay {settings.name}")
    access_tokens, rotation = AccessTokenStore(broker), SecretRotation(broker, audit)
    token_uses = TokenUses(access_tokens)
    credentials = Credentials(broker, lookups, desired, rotation, token_uses)
    sessions = Sessions(broker, credentials, life_s=settings.session_s, issuer=settings.oidc_issuer)
    exported = exports(metrics, broker, credentials, settings.tls_cert_file)
    gate = GateClient.from_settings(settings)
    centre = Centre(gate)
    sources = Sources(broker, exported.fleet, credentials, desired, mirror, centre)
    exported.metrics.watched_jobs.set_function(lambda: len(mirror))
    exported.metrics.records_current.set_function(lambda: float(mirror.is_current))
    views = FleetViews(sources, Flow(mirror))
    lifecycle, receipt_key = Lifecycle(), ReceiptKey(broker)
    log_space = LogSpace(
        broker, LoggedJobs(records, mirror.queue_of), LogShares(metrics.on_limit), metrics.logs_removed.inc
    )
    parking = Parking(broker, audit, exported.metrics)
    unreadable = UnreadableMessages(broker, records, parking, relay=settings.name)
    return Parts(
        settings=settings,
        lifecycle=lifecycle,
        broker=broker,
        audit=audit,
        exports=exported,
        spans=RelayJobSpans(spans_from_environment("relay")),
        records=records,
        workers=workers,
        logs=JobLogs(Holders(records), LogStore(broker), _log_rates(settings, metrics), log_space),
        log_space=log_space,
        lookups=lookups,
        credentials=credentials,
        access_tokens=access_tokens,
        token_uses=token_uses,
        rotation=rotation,
        sessions=sessions,
        oidc=None if settings.oidc_issuer is None else Oidc(settings, sessions.key),
        desired=desired,
        desired_store=DesiredStore(broker, desired),
        enrollments=EnrollmentStore(broker),
        receipt_key=receipt_key,
        readiness=Readiness(lifecycle, broker, receipt_key, (credentials.complete, desired.complete)),
        gate=gate,
        centre=centre,
        polls=ParkedPolls(exported.metrics),
        mirror=mirror,
        reads=StateReads(broker, RecordStore(broker, patience_s=0), workers, exported.metrics),
        dispatchers=DispatcherPool(broker, exported.metrics, unreadable.put_aside),
        body_memory=_body_memory(settings, metrics),
        worker_connections=_worker_connections(settings, metrics),
        operator_connections=_operator_connections(settings, metrics),
        addresses=ClientAddresses(settings.trusted_proxies),
        unstarted=UnstartedGrants(records, settings.unstarted_grants, metrics.on_limit),
        malformed=MalformedRequests(metrics.malformed_requests.inc),
        views=views,
        changes=Changes(broker, views, lifecycle),
        outages=Outages(broker, exported.fleet, credentials, audit),
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


def _log_rates(settings: Settings, metrics: Metrics) -> LogRates:
    return LogRates(
        of_job=settings.job_log_bytes_per_s,
        of_worker=settings.worker_log_bytes_per_s,
        of_queue=settings.queue_log_bytes_per_s,
        on_limit=metrics.on_limit,
    )
