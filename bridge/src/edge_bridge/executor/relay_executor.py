"""The executor: Airflow's scheduler on one side, everything else in the background.

Each method returns at once, whatever state NATS is in, and none raises because of it. The key of a task is in `running`
from the moment it was handed out, also while the job waits, as Airflow's `has_task` requires; `slots_occupied` counts
only what runs, so that a queue that no worker serves takes no slots from other executors.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

import structlog
from airflow import __version__ as airflow_version
from airflow.executors.base_executor import BaseExecutor, ExecutorConf

from edge_bridge import settings
from edge_bridge.airflow.base_executor import remove_queued
from edge_bridge.airflow.dispatch_table import Entry
from edge_bridge.airflow.entry_maker import EntryMaker
from edge_bridge.airflow.mapping import JobMaker, JobRefused, is_dispatch_id
from edge_bridge.executor import metrics_listener
from edge_bridge.executor.adoption import READ_S, decide, load_try_numbers
from edge_bridge.executor.background import Background
from edge_bridge.executor.current_dispatches import CurrentDispatches
from edge_bridge.executor.metrics import ExecutorStats, process_metrics
from edge_bridge.executor.settings import ExecutorSettings, executor_settings
from edge_bridge.portal import Portal
from edge_bridge.tracing import CentreJobSpans
from edge_schemas.wire.jobs import Job
from edge_service.tracing import spans_from_environment

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

    from edge_bridge.airflow.mapping import Workload

log = structlog.get_logger(__name__)

ADOPTION_S = READ_S + 0.3
FLUSH_S = 5.0
STOP_S = 3.0
LOG_HINT = "This task was handed to an edge site. Its log shows here as soon as its first lines have arrived."


class RelayExecutor(BaseExecutor):
    """Runs tasks at edge sites, over NATS JetStream and the HTTPS relay.

    The api-server creates instances too and never starts them: the constructor does no I/O.

    `revoke_task` is not implemented on purpose: a job that waits for an offline site is no fault, and without the
    method Airflow does not fail tasks that are queued for a long time.
    """

    supports_callbacks = True
    supports_connection_test = True
    supports_multi_team = True
    supported_workload_types = frozenset({"ExecuteTask", "ExecuteCallback", "TestConnection"})
    """The same for Airflow 3.4."""
    pre_assigns_external_executor_id: ClassVar[bool] = True
    is_local = False
    is_production = True
    serve_logs = False

    def __init__(self, parallelism: int | None = None, team_name: str | None = None) -> None:
        limit = parallelism or settings.positive(ExecutorConf(team_name), "parallelism")
        super().__init__(parallelism=limit, team_name=team_name)
        self._background: Background | None = None
        self._portal = Portal("edge-relay-executor")
        self._current = CurrentDispatches(self)
        self._entry_maker: EntryMaker | None = None
        self._listens = False

    def start(self) -> None:
        """Start the background; NATS may come later.

        Raises:
            SettingsError: A setting is missing or wrong.
        """
        chosen = executor_settings(self.conf)
        maker = _job_maker(chosen, self.team_name)
        self._entry_maker = EntryMaker(self, maker)
        metrics, spans = process_metrics(), CentreJobSpans(spans_from_environment("executor"))
        self._background = Background(chosen, maker, self.name, metrics.of(self.team_name), spans)
        self._portal.start(self._background.run)
        self._background.metrics.watch(self._stats, self._background.order.waiting)
        if chosen.metrics_port is not None:
            self._listens = metrics_listener.listen(metrics.registry, chosen.metrics_host, chosen.metrics_port)
        log.info("executor_started", nats_urls=chosen.broker.urls, parallelism=self.parallelism)

    def _process_workloads(self, workload_items: "Sequence[Workload]") -> None:
        assert self._background is not None  # noqa: S101  # set by start(), before anything is handed out
        assert self._entry_maker is not None  # noqa: S101  # set by start(), too
        entries: list[Entry] = []
        jobs: list[Job] = []
        for workload in workload_items:
            remove_queued(self, workload)
            try:
                entry, job = self._entry_maker.accept(workload, datetime.now(UTC))
            except JobRefused as error:
                self._refuse(self._background, self._entry_maker, workload, str(error))
                continue
            except Exception as error:
                # A fault of ours; the scheduler and the other workloads must not suffer from it.
                log.exception("workload_not_handled", workload=str(workload.key))
                self._refuse(self._background, self._entry_maker, workload, f"unexpected error: {type(error).__name__}")
                continue
            self._current.follow(entry.key, entry.job)
            entries.append(entry)
            jobs.append(job)
        self._portal.post(self._background.publish, entries, jobs)

    def sync(self) -> None:
        """Deliver the reports of the background, those about current dispatches only."""
        if self._background is None:
            return
        unsent = self._background.reports.unsent
        while unsent:
            report = unsent.popleft()
            if self._current.deliver(report):
                self._background.metrics.reported(report.verb)
        self._background.metrics.send_stats(self._stats())

    def try_adopt_task_instances(self, tis: "Sequence[TaskInstance]") -> "Sequence[TaskInstance]":
        """Take over the tasks of a dead scheduler; returns those that have no known job."""
        background, entry_maker = self._background, self._entry_maker
        if background is None or entry_maker is None:
            return tis
        load_try_numbers(tis)
        by_job = {str(ti.external_executor_id): ti for ti in tis if is_dispatch_id(ti.external_executor_id)}
        entries = [entry_maker.task_entry(ti, job) for job, ti in by_job.items()]
        records = self._portal.call(lambda: background.read_records(by_job), ADOPTION_S) or {}
        adoption = decide(entries, records)
        for entry in adoption.entries:
            self._current.follow(entry.key, entry.job)
        self._portal.post(background.adopt, adoption.known, adoption.undecided)
        adopted = {entry.job for entry in adoption.entries}
        returned = [ti for ti in tis if str(ti.external_executor_id) not in adopted]
        outcomes = {"known": len(adoption.known), "undecided": len(adoption.undecided), "returned": len(returned)}
        for outcome, number in outcomes.items():
            background.metrics.adopted(outcome, number)
        log.info("tasks_adopted", **outcomes)
        return returned

    @property
    def slots_occupied(self) -> int:
        """Jobs that run at a worker; waiting jobs use no slots of `[core] parallelism`."""
        return 0 if self._background is None else self._background.dispatches.started

    def get_task_log(
        self,
        ti: "TaskInstance",  # noqa: ARG002  # Airflow's signature
        try_number: int,  # noqa: ARG002
    ) -> tuple[list[str], list[str]]:
        """One message, so that Airflow does not ask a log server on the worker; the lines come from the log reader."""
        return [LOG_HINT], []

    def end(self) -> None:
        """Publish what is left, for a limited time, and stop."""
        background = self._background
        if background is None:
            return
        left = self._portal.call(lambda: background.flush(FLUSH_S), FLUSH_S + 0.5)
        if left != 0:
            log.warning("jobs_not_published", jobs=left, then="the next scheduler finds and queues them again")
        self.terminate()

    def terminate(self) -> None:
        """Stop without publishing what is left; jobs at the edge continue."""
        if not self._portal.stop(STOP_S):
            log.warning("executor_background_still_stopping")
        if self._listens:
            metrics_listener.close()
        if self._background is not None:
            self._background.spans.close()

    def _stats(self) -> ExecutorStats:
        """For metrics; called in other threads too."""
        background, handed_out, running = self._background, len(self.running), self.slots_occupied
        return ExecutorStats(
            backlog=0 if background is None else len(background.publisher),
            held=0 if background is None else background.order.held,
            without_version=0 if background is None else len(background.publisher.versions),
            open_slots=self.parallelism - handed_out,
            queued=max(0, handed_out - running),
            running=running,
            broker_connected=background is not None and background.connected,
        )

    def _refuse(self, background: Background, entry_maker: EntryMaker, workload: "Workload", reason: str) -> None:
        """Fail a workload that can't be sent; reported through the background, which repeats a lost report."""
        log.warning("workload_refused", workload=str(workload.key), reason=reason)
        background.metrics.refused()
        job = f"refused-{uuid.uuid4()}"
        try:
            entry = entry_maker.entry(workload, job)
        except Exception:  # noqa: BLE001  # the reason above is the one that matters
            self.fail(workload.key, reason)
            return
        self._current.follow(entry.key, job)
        self._portal.post(background.dispatches.add, [entry])
        self._portal.post(background.reports.refuse, job, reason)


def _job_maker(chosen: ExecutorSettings, team: str | None) -> JobMaker:
    return JobMaker(chosen.core_executor, team, chosen.queues, chosen.auxiliary_queues, airflow_version=airflow_version)
