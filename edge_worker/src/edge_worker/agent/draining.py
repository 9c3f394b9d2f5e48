"""What the agent does about its jobs in each stage of a shutdown, until it may leave."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from edge_worker.agent.shutdown import Shutdown, ShutdownStage
from edge_worker.jobs.registry import JobTable
from edge_worker.log import EventLog

DELIVERY_GRACE_S = 10.0
"""How long the delivery of outcomes and logs of stopped jobs may take. The rest is delivered after the next start."""

log = EventLog("edge_worker.agent.draining")


class Runner(Protocol):
    """What runs the jobs; `JobRunner`."""

    @property
    def busy(self) -> int:
        """How many jobs are not over."""

    async def until_idle(self) -> None:
        """Waits until none is left."""

    def drain(self, why: str) -> None:
        """Returns jobs that were not started; those that run may finish."""

    def stop_all(self, why: str) -> None:
        """Ends every job now."""

    def log_to_tasks(self, text: str) -> None:
        """Writes a line into the log of each running job."""


@dataclass
class Draining:
    """Brings the jobs to an end, as far as the stage of the shutdown requires.

    Attributes:
        grace_s: Between SIGTERM and SIGKILL when a job is stopped.
        drain_timeout_s: How long jobs may take to end by themselves; None sets no limit.
    """

    shutdown: Shutdown
    table: JobTable
    runner: Runner
    grace_s: float
    drain_timeout_s: float | None

    async def until_leaving(self) -> None:
        """Returns when all jobs are finished, when stopped jobs have had their time, or at once in the last stage."""
        async with asyncio.TaskGroup() as group:
            stages = [
                group.create_task(self._drain(), name="drain"),
                group.create_task(self._stop(), name="stop"),
                group.create_task(self.shutdown.at(ShutdownStage.LEAVE), name="leave"),
            ]
            await asyncio.wait(stages, return_when=asyncio.FIRST_COMPLETED)
            for stage in stages:
                stage.cancel()
        self.runner.log_to_tasks(
            "Edge worker: the worker leaves without waiting for this task; its next start continues it"
        )
        if self.runner.busy:
            log.warning("jobs_left_behind", jobs=self.runner.busy, means="the next start continues them")

    async def _drain(self) -> None:
        await self.shutdown.at(ShutdownStage.DRAIN)
        self.table.drain()
        self.runner.drain(self.shutdown.for_tasks)
        self.runner.log_to_tasks(f"Edge worker: {self.shutdown.for_tasks}; it waits for this task to end")
        try:
            async with asyncio.timeout(self.drain_timeout_s):
                await self.runner.until_idle()
        except TimeoutError:
            self.shutdown.reach(ShutdownStage.STOP, "drain_timeout_s has passed")
            await self.runner.until_idle()

    async def _stop(self) -> None:
        await self.shutdown.at(ShutdownStage.STOP)
        if self.shutdown.stage is ShutdownStage.LEAVE:
            # Both stages were reached at once. Jobs that the next start continues are not stopped.
            return
        self.runner.stop_all(self.shutdown.for_tasks)
        await asyncio.sleep(self.grace_s + DELIVERY_GRACE_S)
