"""Answers relays why a task instance has no job."""

import asyncio
from datetime import UTC, datetime
from functools import partial

from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches
from edge_bridge.keeper.why.airflow_causes import airflow_causes, bundle_not_published
from edge_bridge.keeper.why.read_task import read_task
from edge_bridge.keeper.why.task_facts import TaskFacts
from edge_broker.bundles.published import PublishedBundles
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_schemas.admin.why import Cause
from edge_schemas.why.task_query import TaskInstanceFindings, TaskQuery
from edge_schemas.wire.errors import EdgeError, ErrorCode

READ_WITHIN_S = 1.5
"""An operator waits for the answer; without these reads it says less."""


class TaskAnswers:
    """Reads Airflow's database, in a thread and within the keeper's limit of queries.

    Args:
        dispatches: Limits the queries.
        published: The published versions of bundles.
    """

    def __init__(self, dispatches: Dispatches, published: PublishedBundles) -> None:
        self._dispatches = dispatches
        self._published = published

    async def findings(self, query: TaskQuery) -> TaskInstanceFindings:
        """What Airflow's database shows.

        Raises:
            EdgeError: `not_found`: there is no such task instance; `gate_unavailable`: the database does not answer.
        """
        try:
            task = await self._dispatches.query(partial(read_task, query))
        except DatabaseUnavailable as error:
            text = f"Airflow's database does not answer the keeper: {error}"
            raise EdgeError(ErrorCode.GATE_UNAVAILABLE, text) from None
        if task is None:
            text = "Airflow has no such task instance: check DAG, run, task and map index"
            raise EdgeError(ErrorCode.NOT_FOUND, text)
        return TaskInstanceFindings(
            queue=task.queue,
            state=task.state,
            try_number=task.try_number,
            dispatch=task.dispatch,
            causes=airflow_causes(task, datetime.now(UTC)) or await self._unpublished(task),
        )

    async def _unpublished(self, task: TaskFacts) -> tuple[Cause, ...]:
        """The cause of a queued task whose version is not published, while others of its bundle are.

        Then the executor has no record of it yet: it waits, as `choose` of the executor's room `bundles` decides.
        """
        runs = task.runs
        if task.state != "queued" or runs is None:
            return ()
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                if await self._published.current(runs.bundle) is None:
                    return ()
                if await self._published.digest_of(runs.bundle, runs.version) is not None:
                    return ()
        except (BrokerUnavailable, JetStreamError, TimeoutError):
            return ()
        return (bundle_not_published(runs, task.since),)
