"""The executor: Airflow's scheduler on one side, everything else in the background.

Each method returns at once, whatever state NATS is in, and none raises for it. The key of a task is in `running` from
the moment it was handed out, also while it waits, as Airflow's `has_task` wants it; `slots_occupied` counts only what
runs, so that a queue nobody serves takes nothing from other executors.
"""

import uuid
from collections.abc import Hashable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, cast

import structlog
from airflow import __version__ as airflow_version
from airflow.executors.base_executor import BaseExecutor, ExecutorConf
from airflow.executors.workloads import ExecuteTask
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm.attributes import set_committed_value

from edge_bridge import settings
from edge_bridge.airflow import tasks
from edge_bridge.airflow.dispatch_table import Entry, Report, Verb
from edge_bridge.airflow.mapping import JobMaker, JobRefused, auxiliary_of, identity_of, is_dispatch_id
from edge_bridge.executor import metrics_listener
from edge_bridge.executor.adoption import READ_S, decide
from edge_bridge.executor.background import Background
from edge_bridge.executor.metrics import ExecutorStats, process_metrics
from edge_bridge.executor.settings import executor_settings
from edge_bridge.portal import Portal
from edge_bridge.tracing import JobSpans
from edge_schemas.wire.jobs import Job
from edge_service.tracing import spans_from_environment

if TYPE_CHECKING:
    from airflow.executors.workloads.types import WorkloadKey
    from airflow.models.taskinstance import TaskInstance

log = structlog.get_logger(__name__)

ADOPTION_S = READ_S + 0.3
FLUSH_S = 5.0
STOP_S = 3.0
LOG_HINT = "This task was handed to an edge site. Its log shows here as soon as its first lines have arrived."


class RelayExecutor(BaseExecutor):
    """Runs tasks at edge sites, over NATS JetStream and the HTTPS relay.

    The api-server makes instances too and never starts them: making one does no I/O.

    Not implemented on purpose: `revoke_task`. Waiting for a site that is away is no fault, and without it Airflow does
    not fail tasks for being queued long.
    """

    supports_callbacks = True
    supports_connection_test = True
    supports_multi_team = True
    supported_workload_types = frozenset({"ExecuteTask", "ExecuteCallback", "TestConnection"})
    """How Airflow 3.4 asks for the same."""
    pre_assigns_external_executor_id: ClassVar[bool] = True
    is_local = False
    is_production = True
    serve_logs = False

    def __init__(self, parallelism: int | None = None, team_name: str | None = None) -> None:
        limit = parallelism or settings.positive(ExecutorConf(team_name), "parallelism")
        super().__init__(parallelism=limit, team_name=team_name)
        self._background: Background | None = None
        self._portal = Portal("edge-relay-executor")
        self._current: dict[Hashable, str] = {}
        self._maker: JobMaker | None = None
        self._listens = False

    def start(self) -> None:
        """Start the background; NATS may come later.

        Raises:
            SettingsError: A setting is missing or wrong.
        """
        chosen = executor_settings(self.conf)
        self._maker = JobMaker(
            chosen.core_executor,
            self.team_name,
            chosen.queues,
            chosen.auxiliary_queues,
            airflow_version=airflow_version,
        )
        metrics, spans = process_metrics(), JobSpans(spans_from_environment("executor"))
        self._background = Background(chosen, self._maker, self.name, metrics.of(self.team_name), spans)
        self._portal.start(self._background.run)
        self._background.metrics.watch(self._standing)
        if chosen.metrics_port is not None:
            self._listens = metrics_listener.listen(metrics.registry, chosen.metrics_host, chosen.metrics_port)
        log.info("executor_started", nats_urls=chosen.broker.urls, parallelism=self.parallelism)

    def _process_workloads(self, workload_items: Sequence[Any]) -> None:
        entries: list[Entry] = []
        jobs: list[Job] = []
        for workload in workload_items:
            self._forget_queued(workload)
            if (made := self._make(workload)) is not None:
                entries.append(made[0])
                jobs.append(made[1])
        if self._background is not None:
            self._portal.post(self._background.publish, entries, jobs)

    def sync(self) -> None:
        """Hand over what the background found out, for current dispatches only."""
        if self._background is None:
            return
        outbox = self._background.reports.outbox
        while outbox:
            report = outbox.popleft()
            if report.verb is Verb.FOLLOW or self._current.get(report.key) == report.job:
                self._background.metrics.reported(report.verb)
                self._hand_over(report)
            else:
                log.debug("stale_report_dropped", job=report.job)
        self._background.metrics.stands(self._standing())

    def try_adopt_task_instances(self, tis: Sequence["TaskInstance"]) -> Sequence["TaskInstance"]:
        """Take over tasks of a scheduler that is gone; returns those that no job is known of."""
        if self._background is None:
            return tis
        background = self._background
        self._complete(tis)
        by_job = {str(ti.external_executor_id): ti for ti in tis if is_dispatch_id(ti.external_executor_id)}
        entries = [self._task_entry(ti, job) for job, ti in by_job.items()]
        records = self._portal.call(lambda: background.read_records(by_job), ADOPTION_S) or {}
        adoption = decide(entries, records)
        for entry in [entry for entry, _ in adoption.known] + adoption.undecided:
            self._hold(entry.key, entry.job)
        self._portal.post(background.adopt, adoption.known, adoption.undecided)
        outcomes = {"known": len(adoption.known), "undecided": len(adoption.undecided)}
        outcomes["returned"] = len(tis) - sum(outcomes.values())
        for outcome, number in outcomes.items():
            background.metrics.adopted(outcome, number)
        log.info("tasks_adopted", **outcomes)
        kept = {entry.job for entry, _ in adoption.known} | {entry.job for entry in adoption.undecided}
        return [ti for ti in tis if str(ti.external_executor_id) not in kept]

    @property
    def slots_occupied(self) -> int:
        """Jobs that run at a worker; those that wait take none of `[core] parallelism`."""
        return 0 if self._background is None else self._background.dispatches.started

    def get_task_log(
        self,
        ti: "TaskInstance",  # noqa: ARG002  # Airflow's signature
        try_number: int,  # noqa: ARG002
    ) -> tuple[list[str], list[str]]:
        """One message, so that Airflow does not look for a log server on the worker; the lines come from elsewhere."""
        return [LOG_HINT], []

    def end(self) -> None:
        """Publish what is left, for a limited time, and stop."""
        background = self._background
        if background is None:
            return
        left = self._portal.call(lambda: background.flush(FLUSH_S), FLUSH_S + 0.5)
        if left != 0:
            log.warning("jobs_not_published", jobs=left, then="the next scheduler finds and queues them again")
        self._stop()

    def terminate(self) -> None:
        """Stop without publishing what is left; jobs at the edge go on."""
        self._stop()

    def _stop(self) -> None:
        if not self._portal.stop(STOP_S):
            log.warning("executor_background_still_stopping")
        if self._listens:
            metrics_listener.close()
        if self._background is not None:
            self._background.spans.close()

    def _standing(self) -> ExecutorStats:
        """For metrics; asked in other threads too."""
        background, handed_out, running = self._background, len(self.running), self.slots_occupied
        return ExecutorStats(
            backlog=0 if background is None else len(background.publisher),
            open_slots=self.parallelism - handed_out,
            queued=max(0, handed_out - running),
            running=running,
            broker_connected=background is not None and background.connected,
        )

    def _hand_over(self, report: Report) -> None:
        key = cast("WorkloadKey", report.key)
        match report.verb:
            case Verb.SUCCEED:
                self.success(key, report.info)
            case Verb.FAIL:
                self.fail(key, report.info)
            case Verb.FORGET:
                # Of an auxiliary job that another scheduler follows too: that it runs is old news.
                self.event_buffer.pop(key, None)
                self.running.discard(key)
                del self._current[key]
            case Verb.NOTE:
                self.log_task_event(event="edge job parked", extra=report.info or "", ti_key=key)
            case Verb.RUN:
                self.running_state(key)
            case Verb.FOLLOW:
                self._hold(key, report.job)

    def _make(self, workload: Any) -> tuple[Entry, Job] | None:
        """The job of a workload, followed from here on; None if it was refused."""
        assert self._maker is not None  # noqa: S101  # set by start(), before anything is handed out
        make = self._maker.task if isinstance(workload, ExecuteTask) else self._maker.auxiliary
        try:
            job = make(workload, datetime.now(UTC))
        except JobRefused as error:
            self._refuse(workload, str(error))
            return None
        entry = self._entry(workload, job.id)
        self._hold(entry.key, job.id)
        return entry, job

    def _refuse(self, workload: Any, reason: str) -> None:
        """Fail a workload that can't be sent; told through the background, which repeats what gets lost."""
        log.warning("workload_refused", workload=str(workload.key), reason=reason)
        if self._background is not None:
            self._background.metrics.refused()
        job = f"refused-{uuid.uuid4()}"
        try:
            entry = self._entry(workload, job)
        except JobRefused:
            self.fail(workload.key, reason)
            return
        self._hold(entry.key, job)
        if self._background is not None:
            self._portal.post(self._background.dispatches.add, [entry])
            self._portal.post(self._background.reports.refuse, job, reason)

    def _hold(self, key: Hashable, job: str) -> None:
        self.running.add(cast("WorkloadKey", key))
        self._current[key] = job

    def _task_entry(self, ti: Any, job: str) -> Entry:
        dispatch = getattr(ti, "external_executor_id", None)
        return Entry(key=self._key(ti), job=job, dispatch=dispatch, task=identity_of(ti), team=self.team_name)

    def _entry(self, workload: Any, job: str) -> Entry:
        """What is followed of a workload; raises `JobRefused` for an auxiliary job that can't be."""
        if isinstance(workload, ExecuteTask):
            return self._task_entry(workload.ti, job)
        auxiliary = auxiliary_of(workload)
        return Entry(key=workload.key, job=job, dispatch=auxiliary.id, auxiliary=auxiliary, team=self.team_name)

    def _complete(self, tis: Sequence["TaskInstance"]) -> None:
        """Airflow loads orphans without their try, which is part of their key: it would be read for each by itself."""
        try:
            tries = tasks.try_numbers(ti.id for ti in tis)
        except SQLAlchemyError as error:
            log.warning("orphans_read_one_by_one", tasks=len(tis), error=repr(error))
            return
        for ti in tis:
            if ti.id in tries:
                set_committed_value(ti, "try_number", tries[ti.id])

    def _key(self, ti: Any) -> Hashable:
        """Airflow's key of a task instance; 3.4 has a method for it."""
        make = getattr(super(), "get_task_key", None)
        return cast("Hashable", make(ti) if make is not None else ti.key)

    def _forget_queued(self, workload: Any) -> None:
        """Take a workload out of the base class's queue; 3.4 has one for each type."""
        queues = getattr(self, "executor_queues", None)
        if queues is not None:
            queues[workload.type].pop(workload.key, None)
        elif isinstance(workload, ExecuteTask):
            self.queued_tasks.pop(workload.key, None)
        else:
            self.queued_callbacks.pop(workload.key, None)
            # Airflow 3.2 has no connection tests.
            getattr(self, "queued_connection_tests", {}).pop(workload.key, None)
