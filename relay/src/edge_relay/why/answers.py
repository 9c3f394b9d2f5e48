"""Answers operators why a job or a task instance has not started."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.records import RecordStore
from edge_broker.subjects import consumer_name
from edge_relay.fleet.job_views import JobViews
from edge_relay.fleet.views import FleetViews
from edge_relay.identity.operators.operator import Operator
from edge_relay.why.airflow_side import AirflowSide
from edge_relay.why.queue_reads import QueueReads
from edge_relay.why.serving_workers import worker_facts, workers_of_queue
from edge_relay.why.unfinished_jobs import QueueJobs, job_of_task, read_queue
from edge_schemas.admin.access import AccessScope
from edge_schemas.admin.why import CauseCode, WhyAnswer
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.why.facts import QueueFacts, Situation
from edge_schemas.why.job import explain
from edge_schemas.why.task_query import TaskInstanceFindings, TaskQuery
from edge_schemas.why.wording import cause, clean
from edge_schemas.wire.errors import EdgeError, ErrorCode

READ_WITHIN_S = 1.5
"""An operator waits for the answer; without a read it says less, or that NATS does not answer."""


class WhyAnswers:
    """Gathers the facts of this moment for an answer.

    Args:
        broker: For the reads.
        records: The records.
        views: Workers, unfinished jobs and what operators have set.
        job_views: Decides who may see a job.
        airflow: The keepers.
    """

    def __init__(
        self, broker: Broker, records: RecordStore, views: FleetViews, job_views: JobViews, airflow: AirflowSide
    ) -> None:
        self._broker = broker
        self._records = records
        self._views = views
        self._job_views = job_views
        self._mirror = views.sources.mirror
        self._desired = views.sources.desired
        self._airflow = airflow
        self._reads = QueueReads(broker)

    async def of_job(self, job: str, operator: Operator) -> WhyAnswer:
        """Why a job has not started, or what became of it.

        Raises:
            EdgeError: `not_found`: there is no such job, no longer, or not for this caller.
            BrokerUnavailable: This replica has not read workers and jobs yet.
        """
        try:
            record = await self._record(job)
        except (BrokerUnavailable, TimeoutError):
            return self._without_nats(job)
        if record is None or not await self._may_see(record, operator.scope):
            raise EdgeError(ErrorCode.NOT_FOUND, "there is no such job, or it ended more than seven days ago")
        return await self.of_record(record, operator.scope)

    async def of_task(self, query: TaskQuery, operator: Operator) -> WhyAnswer:
        """Why a task instance has not started, whether or not it has a job.

        Raises:
            EdgeError: `not_found`, `gate_unavailable`.
            BrokerUnavailable: As for `of_job`.
        """
        job = await job_of_task(self._mirror.jobs(), query)
        if job is not None:
            return await self.of_job(job, operator)
        findings = await self._airflow.findings(query)
        is_visible = await self._job_views.visible(operator.scope)
        if not is_visible(None, findings.queue, None):
            raise _no_task_instance()
        if findings.dispatch is None:
            return _of_airflow(query, findings)
        try:
            record = await self._record(findings.dispatch)
        except (BrokerUnavailable, TimeoutError):
            answer = self._without_nats(findings.dispatch)
        else:
            if record is not None and not await self._may_see(record, operator.scope):
                raise _no_task_instance()
            answer = await self.of_record(record, operator.scope) if record is not None else _not_published(findings)
        return answer.model_copy(
            update={
                "task": _task_text(query, findings.try_number),
                "queue": findings.queue,
                "airflow_state": findings.state,
            }
        )

    async def _record(self, job: str) -> JobRecord | None:
        if not self._broker.connected:
            raise BrokerUnavailable("not connected")
        async with asyncio.timeout(READ_WITHIN_S):
            return await self._records.get(job)

    async def _may_see(self, record: JobRecord, scope: AccessScope) -> bool:
        """As in the list of jobs."""
        is_visible = await self._job_views.visible(scope)
        return is_visible(record.team, record.queue, None if record.holder is None else record.holder.worker)

    async def of_record(self, record: JobRecord, scope: AccessScope) -> WhyAnswer:
        """The same for a record that the caller may see.

        Raises:
            BrokerUnavailable: As for `of_job`.
        """
        if record.state is not JobState.WAITING:
            return explain(record, Situation(()), datetime.now(UTC))
        known = (await self._views.all_workers()).value
        serving, hidden = workers_of_queue(known, record.team, record.queue, scope)
        workers = [worker_facts(view) for view in serving]
        jobs = await read_queue(
            self._mirror.jobs(),
            self._mirror.get(record.id),
            team=record.team,
            queue=record.queue,
            workers={worker.name for worker in workers},
        )
        busy = tuple(replace(worker, running=jobs.held.get(worker.name, ())) for worker in workers)
        return explain(record, Situation(busy, await self._queue(record, jobs), hidden), datetime.now(UTC))

    async def _queue(self, record: JobRecord, jobs: QueueJobs) -> QueueFacts:
        consumer = consumer_name(record.team, record.queue, record.kind)
        has_message, paused = None, False
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                has_message = await self._reads.has_message(record)
                paused = await self._reads.is_paused(consumer)
        except (BrokerUnavailable, JetStreamError, TimeoutError):
            # What memory has is answered: the causes that need these reads are left out.
            has_message = None
        return QueueFacts(
            desired=self._desired.queue(record.team, record.queue),
            running=jobs.running,
            position=jobs.position,
            has_message=has_message,
            consumer_paused=paused,
            group_ahead=jobs.group_ahead,
        )

    def _without_nats(self, job: str) -> WhyAnswer:
        text = (
            "NATS does not answer this relay: until it does, nothing is published or granted; check NATS and the link"
        )
        return WhyAnswer(job=job, causes=(cause(CauseCode.NOT_PUBLISHED, text),), as_of=datetime.now(UTC))


def _no_task_instance() -> EdgeError:
    return EdgeError(ErrorCode.NOT_FOUND, "there is no such task instance")


def _not_published(findings: TaskInstanceFindings) -> WhyAnswer:
    if findings.causes:
        return WhyAnswer(job=findings.dispatch, causes=findings.causes, as_of=datetime.now(UTC))
    text = (
        f"Airflow has queued it as job {findings.dispatch}, and its executor has not published it yet; if this lasts, "
        "check that the scheduler runs and reaches NATS"
    )
    return WhyAnswer(job=findings.dispatch, causes=(cause(CauseCode.NOT_PUBLISHED, text),), as_of=datetime.now(UTC))


def _of_airflow(query: TaskQuery, findings: TaskInstanceFindings) -> WhyAnswer:
    return WhyAnswer(
        task=_task_text(query, findings.try_number),
        queue=findings.queue,
        airflow_state=findings.state,
        causes=findings.causes,
        as_of=datetime.now(UTC),
    )


def _task_text(query: TaskQuery, try_number: int) -> str:
    index = "" if query.map_index < 0 else f"[{query.map_index}]"
    return f"{clean(query.dag)}.{clean(query.task)}{index}, run {clean(query.run)}, try {try_number}"
