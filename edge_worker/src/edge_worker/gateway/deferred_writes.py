"""Writes that a task need not wait for: answered in Airflow's name, and delivered before the job's next write.

The rendered fields of a task (`rtif`) are sent before user code begins, and nothing depends on the answer. Held like
other calls they would keep a task from beginning until the link is back. They are kept in memory only: an agent that
is killed meanwhile loses them, and Airflow shows the task without its rendered fields.
"""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from edge_worker.jobs.driver import JobDriver
from edge_worker.log import EventLog
from edge_worker.relay.client import ExecutionAnswer

AT_ONCE_S = 1.0
"""An answer that arrives within this time is returned unchanged."""
_IN_AIRFLOWS_NAME = ExecutionAnswer(
    201, {"Content-Type": "application/json"}, b'{"message":"Rendered task instance fields successfully set"}'
)

log = EventLog("edge_worker.gateway.deferred_writes")


class DeferredWrites:
    """At most one for each job, until it is delivered or has failed."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Task[ExecutionAnswer]] = {}

    async def answer(self, driver: JobDriver, delivery: Coroutine[Any, Any, ExecutionAnswer]) -> ExecutionAnswer:
        """The answer to a write, or Airflow's usual one if that takes too long; `delivered` comes first."""
        task = asyncio.create_task(delivery, name=f"late-write-{driver.id}")
        self._under_way[driver.id] = task
        task.add_done_callback(lambda _: self._under_way.pop(driver.id))
        try:
            await asyncio.wait({task}, timeout=AT_ONCE_S)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done():
            return task.result()
        task.add_done_callback(partial(self._ended, driver))
        return _IN_AIRFLOWS_NAME

    async def delivered(self, driver: JobDriver) -> None:
        """Waits until no write of the job is under way."""
        while (task := self._under_way.get(driver.id)) is not None:
            await asyncio.wait({task})

    async def drop_all(self) -> None:
        """The agent leaves."""
        for task in list(self._under_way.values()):
            task.cancel()
            await asyncio.wait({task})

    def _ended(self, driver: JobDriver, task: asyncio.Task[ExecutionAnswer]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            log.info("late_write_delivered", job=driver.id, status=task.result().status)
            return
        log.info("late_write_dropped", job=driver.id, reason=str(error))
