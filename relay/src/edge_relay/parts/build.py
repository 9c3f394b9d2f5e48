"""The parts of one replica: what its handlers and loops share. Built once, before anything is started."""

from dataclasses import dataclass

from edge_broker.audit import Audit
from edge_broker.audited_bucket import PendingEvents
from edge_broker.connection.broker import Broker
from edge_broker.kept_records import KeptRecords
from edge_broker.records import RecordStore
from edge_relay.desired.state import DesiredState
from edge_relay.desired.store import DesiredStore
from edge_relay.dispatch.poll_ends import PollEnds
from edge_relay.dispatch.poll_session import PollParts
from edge_relay.dispatch.polls import ParkedPolls
from edge_relay.dispatch.queue_limits import QueueLimits
from edge_relay.dispatch.state.reads import StateReads
from edge_relay.dispatch.state.record_mirror import RecordMirror
from edge_relay.fleet.changes import Changes
from edge_relay.fleet.queues.flow import Flow
from edge_relay.fleet.views import FleetViews, Sources
from edge_relay.fleet.workers.outages import Outages
from edge_relay.gate.centre import Centre
from edge_relay.gate.client import GateClient
from edge_relay.jobs.parking import Parking
from edge_relay.jobs.unreadable import UnreadableMessages
from edge_relay.lifecycle import Lifecycle
from edge_relay.limits.log_rates import LogRates
from edge_relay.limits.log_shares import LogShares
from edge_relay.metrics.exports import Exports, exports
from edge_relay.metrics.replica import Metrics
from edge_relay.parts.identity import Identity, build_identity
from edge_relay.parts.limits import Limits, build_limits
from edge_relay.pulls.dispatcher_pool import DispatcherPool
from edge_relay.readiness import Readiness
from edge_relay.settings import Settings
from edge_relay.stores.holders import Holders
from edge_relay.stores.job_logs import JobLogs
from edge_relay.stores.log_space import LogSpace
from edge_relay.stores.log_store import LogStore
from edge_relay.stores.logged_jobs import LoggedJobs
from edge_relay.stores.worker_store import WorkerStore
from edge_relay.submissions.known_jobs import KnownJobs
from edge_relay.submissions.waits import Waits
from edge_relay.tracing import RelayJobSpans
from edge_relay.upkeep.service import Upkeep
from edge_service.tracing import spans_from_environment


@dataclass(frozen=True, slots=True)
class Parts:
    """All parts.

    Attributes:
        gate: None if no gate is set.
        workers: The entries of workers.
        known_jobs: The submitted jobs.
        waits: The calls of producers that wait.
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
    identity: Identity
    limits: Limits
    desired: DesiredState
    desired_store: DesiredStore
    readiness: Readiness
    gate: GateClient | None
    centre: Centre
    polls: ParkedPolls
    mirror: RecordMirror
    queue_limits: QueueLimits
    reads: StateReads
    dispatchers: DispatcherPool
    views: FleetViews
    changes: Changes
    outages: Outages
    pending_events: PendingEvents
    known_jobs: KnownJobs
    waits: Waits
    upkeep: Upkeep

    @property
    def metrics(self) -> Metrics:
        """What this replica counts and times."""
        return self.exports.metrics

    def for_polls(self) -> PollParts:
        """The parts that a poll needs."""
        return PollParts(
            lifecycle=self.lifecycle,
            polls=self.polls,
            ends=PollEnds(),
            dispatchers=self.dispatchers,
            credentials=self.identity.credentials,
            desired=self.desired,
            receipt_key=self.identity.receipt_key,
            centre=self.centre,
            broker=self.broker,
            records=self.records,
            mirror=self.mirror,
            reads=self.reads,
            workers=self.workers,
            unstarted=self.limits.unstarted,
            metrics=self.metrics,
        )


def build_parts(settings: Settings) -> Parts:
    """Build the parts, without starting anything.

    Raises:
        SettingsError: A secret can't be read.
    """
    broker, metrics = Broker(settings.broker()), Metrics()
    lifecycle, audit = Lifecycle(), Audit(broker, f"relay {settings.name}")
    kept = KeptRecords()
    records, workers = RecordStore(broker, kept=kept), WorkerStore(broker)
    desired, mirror = DesiredState(broker), RecordMirror(broker)
    mirror.watched.on_value(lambda job, value: kept.keep(job, value, mirror.watched.revision(job)))
    queue_limits = QueueLimits(mirror, desired)
    identity = build_identity(settings, broker, desired, metrics)
    credentials = identity.credentials
    exported = exports(metrics, broker, credentials, settings.tls_cert_file)
    metrics.watched_jobs.set_function(lambda: len(mirror))
    metrics.records_current.set_function(lambda: float(mirror.is_current))
    gate = GateClient.from_settings(settings)
    centre = Centre(gate)
    views = FleetViews(Sources(broker, exported.fleet, credentials, desired, mirror, centre), Flow(mirror))
    log_space = LogSpace(
        broker, LoggedJobs(records, mirror.queue_of), LogShares(metrics.on_limit), metrics.logs_removed.inc
    )
    pending_events = PendingEvents(broker)
    for watched in (desired.watched, credentials.watched, exported.fleet.watched):
        pending_events.follow(watched)
    unreadable = UnreadableMessages(broker, records, Parking(broker, audit, metrics), relay=settings.name)
    return Parts(
        settings=settings,
        lifecycle=lifecycle,
        broker=broker,
        audit=audit,
        exports=exported,
        spans=RelayJobSpans(spans_from_environment("relay")),
        records=records,
        workers=workers,
        logs=JobLogs(broker, Holders(records), LogStore(broker), _log_rates(settings, metrics), log_space),
        log_space=log_space,
        identity=identity,
        limits=build_limits(settings, records, metrics),
        desired=desired,
        desired_store=DesiredStore(broker, desired),
        readiness=Readiness(lifecycle, broker, identity.receipt_key, (credentials.complete, desired.complete)),
        gate=gate,
        centre=centre,
        polls=ParkedPolls(metrics),
        mirror=mirror,
        queue_limits=queue_limits,
        reads=StateReads(broker, RecordStore(broker, patience_s=0), workers, metrics),
        dispatchers=DispatcherPool(broker, metrics, unreadable.put_aside, queue_limits.left),
        views=views,
        changes=Changes(broker, views, lifecycle, of_operator=settings.streams_per_operator, on_limit=metrics.on_limit),
        outages=Outages(broker, exported.fleet, credentials, audit),
        pending_events=pending_events,
        known_jobs=KnownJobs(mirror),
        waits=_waits(settings, lifecycle, metrics),
        upkeep=Upkeep(
            broker, records, mirror, exported.fleet, desired, audit=audit, metrics=metrics, replica=settings.name
        ),
    )


def _waits(settings: Settings, lifecycle: Lifecycle, metrics: Metrics) -> Waits:
    most, of_owner = settings.producer_waits, settings.waits_per_producer
    return Waits(lifecycle, most=most, of_owner=of_owner, on_limit=metrics.on_limit)


def _log_rates(settings: Settings, metrics: Metrics) -> LogRates:
    return LogRates(
        of_job=settings.job_log_bytes_per_s,
        of_worker=settings.worker_log_bytes_per_s,
        of_queue=settings.queue_log_bytes_per_s,
        on_limit=metrics.on_limit,
    )
