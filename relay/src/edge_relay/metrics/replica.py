"""What this replica counts and times, in a registry of its own."""

from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from edge_relay.limits.kinds import Limit
from edge_schemas.life.model import Verdict

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
WAIT_S = (0.01, 0.1, 1, 5, 15, 60, 300, 1800, 7200, 43200)
"""Few, as each one is a series for each queue; up to half a day."""
RUN_S = (1, 5, 15, 60, 300, 900, 3600, 10800, 43200, 172800)
"""Few too; up to two days."""

QUEUE = ("team", "queue")
RETURN_REASONS = ("unwanted", "poll_gone", "not_served", "already_held")
CREDENTIAL_FAILURES = ("missing", "unknown", "revoked", "forbidden")
REPORTED = (Verdict.SUCCEEDED, Verdict.FAILED, Verdict.CANCELLED)
"""The verdicts of jobs whose worker reports the end; the end of a lost job is not reported."""
STATE_READS = ("record", "entry")
ENROLLMENT_OUTCOMES = ("new", "repeated", "refused")


class OfQueue(Protocol):
    """A job or its record."""

    @property
    def team(self) -> str | None:
        """None where there are no teams."""

    @property
    def queue(self) -> str:
        """The queue's plain name."""


def queue_of(job: OfQueue) -> tuple[str, str]:
    """The values of the labels `team` and `queue`."""
    return job.team or "", job.queue


class Metrics:
    """The counters of one replica; one object per process.

    A repeated call counts as a call; its effect counts once, on the replica that made the change.
    """

    def __init__(self) -> None:
        # The second series of each one, with its time of creation, is not used and would double what is stored.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no annotations there
        self.registry = CollectorRegistry()
        self._calls()
        self._jobs()
        self._messages()
        self._times()

    def on_limit(self, limit: Limit) -> None:
        """Count that a limit was reached."""
        self.limited.labels(limit).inc()

    def _calls(self) -> None:
        self.polls_parked = Gauge("edge_relay_polls_parked", "Polls that wait for their answer", registry=self.registry)
        self.state_reads = self._counter(
            "edge_relay_state_reads",
            "Reads for parked polls: records of jobs (record) and entries of workers (entry)",
            ("kind",),
            STATE_READS,
        )
        self.state_reads_queued = Gauge(
            "edge_relay_state_reads_queued", "Reads for parked polls that have not begun", registry=self.registry
        )
        self.watched_jobs = Gauge(
            "edge_relay_watched_jobs", "Unfinished jobs whose records are followed", registry=self.registry
        )
        self.records_current = Gauge(
            "edge_relay_records_current",
            "1 if the followed records are current; otherwise polls wait without directives for their jobs",
            registry=self.registry,
        )
        self.requests = self._counter("edge_relay_requests", "Calls answered", ("route", "status"))
        self.request_seconds = self._histogram(
            "edge_relay_request_seconds",
            "Time to answer a call; without polls, which wait on purpose",
            ("route",),
        )
        self.credential_failures = self._counter(
            "edge_relay_credential_failures",
            "Calls refused because the credential is missing, unknown, revoked, or may not do this (forbidden)",
            ("reason",),
            CREDENTIAL_FAILURES,
        )
        self.enrollments = self._counter(
            "edge_relay_enrollments",
            "Enrolments of a new worker, repeated for an enrolled worker, or refused because of the token",
            ("outcome",),
            ENROLLMENT_OUTCOMES,
        )
        self.log_bytes = self._counter("edge_relay_log_bytes", "Log bytes stored")
        self.logs_removed = self._counter(
            "edge_relay_logs_removed", "Logs of ended jobs removed to make room, in whole or from their beginning on"
        )
        self.connections = Gauge(
            "edge_relay_connections",
            "Open connections of the workers' listener: strangers have sent no accepted credential yet",
            ("of",),
            registry=self.registry,
        )
        self.body_bytes = Gauge("edge_relay_body_bytes", "Bytes of request bodies in memory", registry=self.registry)
        self.malformed_requests = self._counter(
            "edge_relay_malformed_requests", "Requests whose head or body is no HTTP"
        )
        self.limited = self._counter(
            "edge_relay_limited", "Calls refused, connections closed and grants withheld by a limit", ("limit",), Limit
        )

    def _jobs(self) -> None:
        self.grants = self._counter("edge_relay_grants", "Jobs offered to a worker", QUEUE)
        self.starts = self._counter("edge_relay_starts", "Jobs started", QUEUE)
        self.finishes = self._counter(
            "edge_relay_finishes", "Jobs whose worker reported their end, by verdict", (*QUEUE, "verdict")
        )
        self.releases = self._counter(
            "edge_relay_releases",
            "Granted jobs released by a worker; a repeat counts only if the release itself does not count",
            QUEUE,
        )
        self.signature_refusals = self._counter(
            "edge_relay_signature_refusals",
            "Granted jobs that a worker released because no key that it trusts has signed them, or they were altered; "
            "they count as releases, too",
            QUEUE,
        )
        self.expired_receipts = self._counter(
            "edge_relay_expired_receipts",
            "Starts and releases refused because their receipt was older than the grant wait by this replica's clock",
        )
        self.started_releases = self._counter(
            "edge_relay_started_releases",
            "Started jobs released by a worker: before user code ran, or to be run again",
            QUEUE,
        )
        self.results = self._counter("edge_relay_results", "Jobs whose worker reported a result", QUEUE)
        self.parked = self._counter("edge_relay_parked_jobs", "Jobs parked after too many releases or attempts", QUEUE)

    def _messages(self) -> None:
        self.redeliveries = self._counter(
            "edge_relay_redeliveries", "Messages of a queue that were delivered again", QUEUE
        )
        self.returns = self._counter(
            "edge_relay_returns",
            "Messages returned to the queue by the relay: no poll waits for them (unwanted), the poll's connection is "
            "gone (poll_gone), its worker no longer serves the queue (not_served) or has the job (already_held)",
            ("reason",),
            RETURN_REASONS,
        )
        self.bad_messages = self._counter("edge_relay_bad_messages", "Messages of a queue that hold no job")
        self.pull_errors = self._counter("edge_relay_pull_errors", "Pulls that ended in an error status", ("status",))

    def _times(self) -> None:
        self.queue_wait_seconds = self._histogram(
            "edge_relay_queue_wait_seconds", "From the hand-out of a job by the scheduler to its grant", QUEUE, WAIT_S
        )
        self.hand_out_seconds = self._histogram(
            "edge_relay_hand_out_seconds", "From the arrival of a message at this replica to the written answer"
        )
        self.start_confirm_seconds = self._histogram(
            "edge_relay_start_confirm_seconds", "From the arrival of a job's message at a replica to its start"
        )
        self.run_seconds = self._histogram(
            "edge_relay_run_seconds", "From the start of a job to its reported end", QUEUE, RUN_S
        )
        self.execution_seconds = self._histogram(
            "edge_relay_execution_seconds",
            "Time of a task's call through the gate; unavailable: no keeper answered, abandoned: the worker left",
            ("call", "outcome"),
        )

    def _counter(self, name: str, about: str, labels: Iterable[str] = (), values: Iterable[str] = ()) -> Counter:
        """A counter; the known `values` of its one label are exported from the start."""
        counter = Counter(name, about, labels, registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    def _histogram(
        self, name: str, about: str, labels: Iterable[str] = (), buckets: tuple[float, ...] = LATENCY_S
    ) -> Histogram:
        return Histogram(name, about, labels, buckets=buckets, registry=self.registry)


def begin_queue(metrics: Metrics, team: str | None, queue: str) -> None:
    """Start the counters of a queue that is served here with 0: else its first job would be no increase."""
    of = team or "", queue
    for counter in (
        metrics.grants,
        metrics.starts,
        metrics.releases,
        metrics.signature_refusals,
        metrics.started_releases,
        metrics.parked,
        metrics.redeliveries,
    ):
        counter.labels(*of)
    for verdict in REPORTED:
        metrics.finishes.labels(*of, verdict)
