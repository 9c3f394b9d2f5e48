"""The actions of a job that concern its processes, and the lines in the task's log that explain them.

A job's processes are held still from its fence on, until the centre has said whether this worker still holds the job.
A worker cannot distinguish an outage of every relay, which fails no job, from a cut of its own link, after which
another copy of the task may run. A copy that stands still is right in both cases.
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

_LOOK_EVERY_S = 0.2

log = EventLog("edge_worker.jobs.process_actions")


class Host(Protocol):
    """Runs the processes of jobs; `TaskHost`."""

    async def launch(self, job: Job, job_dir: Path) -> None:
        """Starts a job; raises `LaunchFailed`."""

    async def wait(self, job_dir: Path) -> JobResult:
        """Until it has ended."""


@dataclass(frozen=True)
class ProcessActions:
    """Launch, wait for the end, freeze, thaw, stop.

    Attributes:
        grace_s: Between SIGTERM and SIGKILL.
    """

    host: Host
    fence: Fence
    grace_s: float
    _frozen_at: WeakKeyDictionary[JobDriver, float] = field(default_factory=WeakKeyDictionary)

    async def launch(self, held: JobDriver) -> LaunchSucceeded | LaunchFailed | ContactLost:
        """Has a process take the job, unless one has. Nothing is launched whose fence has come down meanwhile."""
        reason = self.fence.reason(held)
        if reason is not None:
            return ContactLost(reason)
        try:
            if not held.dir.was_launched:
                await self.host.launch(held.job, held.dir.path)
        except host_client.LaunchFailed as error:
            # An earlier run of the agent may have asked for the launch as well, and have had its way.
            if not held.dir.was_launched:
                log.error("job_not_launched", reason=error.reason)  # noqa: TRY400 - the cause is in the event
                _log_stop(held, f"The task could not be launched on this worker: {error.reason}")
                return LaunchFailed(error.reason, error.releases)
        return _started(held)

    async def rule_out(self, held: JobDriver) -> LaunchRuledOut | LaunchSucceeded:
        """Perhaps the job's process is about to exist: what makes `pid.json` first decides."""
        if job_files.claim(held.dir.path, job_files.no_process(held.id)):
            return LaunchRuledOut()
        return _started(held)

    async def await_end(self, held: JobDriver) -> ProcessGone:
        """How the job ended, once it has."""
        result = await self.host.wait(held.dir.path)
        return ProcessGone(result.exit_code, result.error)

    async def await_gone(self, held: JobDriver, *, kills: bool, thaws: bool) -> ProcessGone:
        """Returns once nothing of the job runs."""
        while is_alive(held.dir.path):
            if kills:
                # Nothing else holds it still and asks for it, or ends it.
                await kill_tree(held.dir.path, on_step=partial(_log_stop, held))
            elif thaws:
                await thaw_tree(held.dir.path)
            await asyncio.sleep(CHECK_EVERY_S)
        return ProcessGone()

    async def freeze(self, held: JobDriver) -> NoReturn:
        """Freezes the job until cancelled."""
        self._frozen_at[held] = _mark(held)
        await freeze_tree(held.dir.path)

    async def thaw(self, held: JobDriver) -> Thawed:
        """Lets the job's processes run again."""
        frozen_at = self._frozen_at.pop(held, None) or held.dir.frozen_at() or time.time()
        stood_s = max(0.0, time.time() - frozen_at)
        log_to_task(
            held, f"Edge worker: contact is back after the task stood still for {stood_s:.0f} s; the task goes on"
        )
        await thaw_tree(held.dir.path)
        try:
            held.dir.unmark_frozen()
        except OSError as error:
            log.warning("frozen_not_unmarked", error=str(error), means="the next agent would freeze it and ask again")
        log.info("job_thawed", job=held.id, stood_s=round(stood_s, 1))
        return Thawed()

    async def stop(self, held: JobDriver) -> None:
        """Ends the job's processes. Between start and launch there may be none yet: it waits for them."""
        await _until_alive(held)
        await stop_tree(held.dir.path, grace_s=self.grace_s, on_step=partial(_log_step, held))

    async def kill(self, held: JobDriver) -> None:
        """Ends the job's processes without a grace."""
        await _until_alive(held)
        await kill_tree(held.dir.path, on_step=partial(_log_step, held))


async def _until_alive(held: JobDriver) -> None:
    while not is_alive(held.dir.path):  # noqa: ASYNC110 - a lock sets no event
        await asyncio.sleep(_LOOK_EVERY_S)


def log_to_task(held: JobDriver, text: str) -> None:
    """A line in the task's log."""
    try:
        job_files.write_log_line(held.dir.path, text, level="warning")
    except OSError as error:
        log.warning("log_line_not_written", error=str(error))


def _log_stop(held: JobDriver, text: str) -> None:
    """A line in the task's log, for people who wonder there why it ended."""
    log.info("job_stopping", step=text)
    log_to_task(held, text)


def _log_step(held: JobDriver, step: str) -> None:
    reason = held.now.stop.reason if held.now.stop else ""
    _log_stop(held, f"Edge worker stops this task ({reason}): {step}")


def _started(held: JobDriver) -> LaunchSucceeded:
    log.info("job_started", queue=held.job.queue, **_what(held.job))
    return LaunchSucceeded()


def _what(job: Job) -> dict[str, str]:
    """What runs, for the agent's log."""
    if job.task is not None:
        return {"dag": job.task.dag_id, "task": job.task.task_id}
    return {"auxiliary": job.auxiliary.kind} if job.auxiliary is not None else {}


def _mark(held: JobDriver) -> float:
    """Notes that the job is frozen, and logs it unless an earlier agent has; since when, by the wall clock."""
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
        f"Edge worker freezes this task ({reason}): it goes on once the centre confirms that this worker "
        "still holds it, and is killed otherwise",
    )
    return time.time()
