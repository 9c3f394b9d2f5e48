"""The actions of a job that concern its processes, and the lines in the task's log that explain them.

A job's processes are frozen from its fence on, until the centre confirms that this worker still holds the job.
A worker cannot distinguish an outage of every relay, which fails no job, from a cut of its own link, after which
another copy of the task may run. A frozen copy is correct in both cases.
"""

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn, Protocol
from weakref import WeakKeyDictionary

from edge_schemas.wire.jobs import Job
from edge_worker.host_client import client as host_client
from edge_worker.host_client.job_end import CHECK_EVERY_S, JobResult
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.events import ContactLost, LaunchFailed, LaunchRuledOut, LaunchSucceeded, ProcessGone, Thawed
from edge_worker.jobs.lease import Fence
from edge_worker.log import EventLog
from edge_worker.processes.tree import freeze_tree, is_alive, kill_tree, stop_tree, thaw_tree
from edge_worker.task_host import job_files

_CHECK_EVERY_S = 0.2

log = EventLog("edge_worker.jobs.process_actions")


class Host(Protocol):
    """Runs the processes of jobs; `TaskHost`."""

    async def launch(self, job: Job, job_dir: Path) -> None:
        """Start a job; raises `LaunchFailed`."""

    async def wait(self, job_dir: Path) -> JobResult:
        """Wait for the end of a job."""


@dataclass(frozen=True)
class ProcessActions:
    """Launch, wait for the end, freeze, thaw, stop.

    Attributes:
        grace_s: Seconds between SIGTERM and SIGKILL.
    """

    host: Host
    fence: Fence
    grace_s: float
    _frozen_at: WeakKeyDictionary[JobDriver, float] = field(default_factory=WeakKeyDictionary)

    async def launch(self, held: JobDriver) -> LaunchSucceeded | LaunchFailed | ContactLost:
        """Launch the job, unless it was launched. A job whose fence has passed in the meantime is not launched."""
        reason = self.fence.reason(held)
        if reason is not None:
            return ContactLost(reason)
        try:
            if not held.dir.was_launched:
                await self.host.launch(held.job, held.dir.path)
        except host_client.LaunchFailed as error:
            # An earlier run of the agent may have requested the launch too, and that launch may have succeeded.
            if not held.dir.was_launched:
                log.error("job_not_launched", reason=error.reason)  # noqa: TRY400 - the cause is in the event
                _log_stop(held, f"The task could not be launched on this worker: {error.reason}")
                return LaunchFailed(error.reason, error.releases)
        return _started(held)

    async def rule_out(self, held: JobDriver) -> LaunchRuledOut | LaunchSucceeded:
        """The job's process may be starting: the first to create `pid.json` decides."""
        if job_files.claim(held.dir.path, job_files.no_process(held.id)):
            return LaunchRuledOut()
        return _started(held)

    async def await_end(self, held: JobDriver) -> ProcessGone:
        """Wait for the end of the job; returns its result."""
        result = await self.host.wait(held.dir.path)
        return ProcessGone(result.exit_code, result.error)

    async def await_gone(self, held: JobDriver, *, kills: bool, thaws: bool) -> ProcessGone:
        """Return once no process of the job runs."""
        while is_alive(held.dir.path):
            if kills:
                # No other action freezes or ends the job.
                await kill_tree(held.dir.path, on_step=partial(_log_stop, held))
            elif thaws:
                await thaw_tree(held.dir.path)
            await asyncio.sleep(CHECK_EVERY_S)
        return ProcessGone()

    async def freeze(self, held: JobDriver) -> NoReturn:
        """Freeze the job until cancelled."""
        self._frozen_at[held] = _mark(held)
        await freeze_tree(held.dir.path)

    async def thaw(self, held: JobDriver) -> Thawed:
        """Continue the job's processes."""
        frozen_at = self._frozen_at.pop(held, None) or held.dir.frozen_at() or time.time()
        stood_s = max(0.0, time.time() - frozen_at)
        log_to_task(
            held, f"Edge worker: contact is back after the task was frozen for {stood_s:.0f} s; the task continues"
        )
        await thaw_tree(held.dir.path)
        try:
            held.dir.unmark_frozen()
        except OSError as error:
            log.warning("frozen_not_unmarked", error=str(error), means="the next agent would freeze it and ask again")
        log.info("job_thawed", job=held.id, stood_s=round(stood_s, 1))
        return Thawed()

    async def stop(self, held: JobDriver) -> None:
        """End the job's processes. Between start and launch there may be none yet: then wait for them."""
        await _until_alive(held)
        await stop_tree(held.dir.path, grace_s=self.grace_s, on_step=partial(_log_step, held))

    async def kill(self, held: JobDriver) -> None:
        """End the job's processes without a grace period."""
        await _until_alive(held)
        await kill_tree(held.dir.path, on_step=partial(_log_step, held))


async def _until_alive(held: JobDriver) -> None:
    while not is_alive(held.dir.path):  # noqa: ASYNC110 - a lock sets no event
        await asyncio.sleep(_CHECK_EVERY_S)


def log_to_task(held: JobDriver, text: str) -> None:
    """Write a line into the task's log."""
    try:
        job_files.write_log_line(held.dir.path, text, level="warning")
    except OSError as error:
        log.warning("log_line_not_written", error=str(error))


def _log_stop(held: JobDriver, text: str) -> None:
    """Write a line into the task's log that explains why the task ended."""
    log.info("job_stopping", step=text)
    log_to_task(held, text)


def _log_step(held: JobDriver, step: str) -> None:
    reason = held.now.stop.reason if held.now.stop else ""
    _log_stop(held, f"Edge worker stops this task ({reason}): {step}")


def _started(held: JobDriver) -> LaunchSucceeded:
    log.info("job_started", queue=held.job.queue, **_what(held.job))
    return LaunchSucceeded()


def _what(job: Job) -> dict[str, str]:
    """The fields that identify the work, for the agent's log."""
    if job.task is not None:
        return {"dag": job.task.dag_id, "task": job.task.task_id}
    return {"auxiliary": job.auxiliary.kind} if job.auxiliary is not None else {}


def _mark(held: JobDriver) -> float:
    """Mark the job as frozen, and log it unless an earlier agent has; returns since when, by the wall clock."""
    frozen_at = held.dir.frozen_at()
    if frozen_at is not None:
        log.info("job_still_frozen", job=held.id)
        return frozen_at
    try:
        held.dir.mark_frozen()
    except OSError as error:
        log.warning("frozen_not_marked", error=str(error), means="the next agent would not know of it")
    reason = held.now.frozen_because
    log.warning("job_frozen", job=held.id, reason=reason)
    log_to_task(
        held,
        f"Edge worker freezes this task ({reason}): it continues once the centre confirms that this worker "
        "still holds it, and is killed otherwise",
    )
    return time.time()
