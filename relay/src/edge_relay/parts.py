"""The parts of one replica: what its handlers and loops share. Built once, before anything is started."""

from dataclasses import dataclass

from edge_broker.audit import Audit
from edge_broker.connection.broker import Broker
from edge_broker.records import RecordStore
from edge_relay.dispatch.dispatcher_pool import DispatcherPool
from edge_relay.dispatch.poll_session import PollParts
from edge_relay.dispatch.polls import ParkedPolls
from edge_relay.gate.centre import Centre
from edge_relay.gate.client import GateClient
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.identity.receipts import ReceiptKey
from edge_relay.jobs.parking import Parking
from edge_relay.jobs.unreadable import UnreadableMessages
from edge_relay.lifecycle import Lifecycle
from edge_relay.metrics.exports import Exports, exports
from edge_relay.metrics.replica import Metrics
from edge_relay.readiness import Readiness
from edge_relay.settings import Settings
from edge_relay.stores.holders import Holders
from edge_relay.stores.job_logs import JobLogs
from edge_relay.stores.log_store import LogStore
from edge_relay.stores.worker_store import WorkerStore
from edge_relay.tracing import RelayJobSpans
from edge_service.tracing import spans_from_environment


@dataclass(frozen=True, slots=True)
class Parts:
    """All parts.

    Attributes:
        gate: None if no gate is set.
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
    credentials: Credentials
    enrollments: EnrollmentStore
    receipt_key: ReceiptKey
    readiness: Readiness
    gate: GateClient | None
    centre: Centre
    polls: ParkedPolls
    dispatchers: DispatcherPool

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
            receipt_key=self.receipt_key,
            centre=self.centre,
            broker=self.broker,
            records=self.records,
            workers=self.workers,
            metrics=self.metrics,
        )


def build_parts(settings: Settings) -> Parts:
    """Build the parts, without starting anything.

    Raises:
        SettingsError: A secret can't be read.
    """
    broker = Broker(settings.broker())
    records = RecordStore(broker)
    credentials = Credentials(broker)
    exported = exports(broker, credentials, settings.tls_cert_file)
    gate = GateClient.from_settings(settings)
    lifecycle, receipt_key = Lifecycle(), ReceiptKey(broker)
    audit = Audit(broker, relay=settings.name)
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
        workers=WorkerStore(broker),
        logs=JobLogs(Holders(records), LogStore(broker)),
        credentials=credentials,
        enrollments=EnrollmentStore(broker),
        receipt_key=receipt_key,
        readiness=Readiness(lifecycle, broker, receipt_key, credentials),
        gate=gate,
        centre=Centre(gate),
        polls=ParkedPolls(exported.metrics),
        dispatchers=DispatcherPool(broker, exported.metrics, unreadable.put_aside),
    )
