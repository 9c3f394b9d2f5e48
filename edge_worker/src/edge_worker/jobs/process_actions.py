"""The actions of a job that concern its processes, and the lines in the task's log that explain them.

A job's processes are frozen from its fence on, until the centre confirms that this worker still holds the job.
A worker cannot distinguish an outage of every relay, which fails no job, from a cut of its own link, after which
another copy of the task may run. A frozen copy is correct in both cases.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn, Protocol
from weakref import WeakKeyDictionary

from edge_schemas.wire.jobs import Job, JobKind
from edge_worker.bundles.unavailable import CodeUnavailable
from edge_worker.host_client import client as host_client
from edge_worker.host_client.hosts import Host
from edge_worker.host_client.job_end import CHECK_EVERY_S
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.events import (
    ContactLost,
    LaunchFailed,
    LaunchRuledOut,
    LaunchSucceeded,
    ProcessGone,
    TaskExited,
    Thawed,
)
from edge_worker.jobs.lease import Fence
from edge_worker.log import EventLog
from edge_worker.processes.tree import freeze_tree, is_alive, kill_tree, stop_tree, thaw_tree
from edge_worker.task_host import job_files

_CHECK_EVERY_S = 0.2

log = EventLog("edge_worker.jobs.process_actions")


class StartWatch(Protocol):
    """Learns how starts of jobs end; `FailingStarts`."""

    def failed(self, reason: str) -> None:
        """The task host could not start a job."""

    def succeeded(self) -> None:
        """A job was started."""


class CodeSource(Protocol):
    """Has the code of jobs; `Bundles`."""

    async def code_of(self, job: Job, say: Callable[[str], None]) -> Path | None:
        """The folder with the code of a job; raises `CodeUnavailable`."""

    def job_ended(self) -> None:
        """A job's folder is no longer there."""


@dataclass(frozen=True)
class ProcessActions:
    """Launch, wait for the end, freeze, thaw, stop.

    Attributes:
        host_of: Which host runs a job.
        code: Has the code of published bundles.
        grace_s: Seconds between SIGTERM and SIGKILL.
    """

    host_of: Callable[[Job], Host]
    fence: Fence
    starts: StartWatch
    code: CodeSource
    grace_s: float
    _frozen_at: WeakKeyDictionary[JobDriver, float] = field(default_factory=WeakKeyDictionary)

    async def launch(self, driver: JobDriver) -> LaunchSucceeded | LaunchFailed | ContactLost:
        """Launch the job, unless it was launched. A job whose fence has passed in the meantime is not launched.

        Its code may have to be fetched first. That can take long; a stop, or the loss of contact, cancels it.
        """
        if (reason := self.fence.reason(driver)) is not None:
            return ContactLost(reason)
        try:
            if not driver.dir.was_launched:
                code = await self.code.code_of(driver.job, partial(log_to_task, driver, level="info"))
                if (reason := self.fence.reason(driver)) is not None:
                    return ContactLost(reason)
                await self.host_of(driver.job).launch(driver.job, driver.dir.path, code)
        except CodeUnavailable as error:
            return self._without_code(driver, error)
        except host_client.LaunchError as error:
            # An earlier request for this launch, by this agent or the one before, may be succeeding at this moment.
            if _rule_out(driver):
                if driver.job.kind is not JobKind.COMMAND:  # a program that is not there says nothing of the worker
                    self.starts.failed(error.reason)
                log.error("job_not_launched", reason=error.reason)  # noqa: TRY400 - the cause is in the event
                _log_stop(driver, f"The {_noun(driver)} could not be launched on this worker: {error.reason}")
                return LaunchFailed(error.reason, error.releases)
        self.starts.succeeded()
        return _started(driver)

    def _without_code(self, driver: JobDriver, error: CodeUnavailable) -> LaunchSucceeded | LaunchFailed:
        if not _rule_out(driver):  # the agent before has launched it at this moment
            return _started(driver)
        log.error("job_without_code", reason=error.reason)
        _log_stop(driver, f"The code of this task is not available on this worker: {error.reason}")
        return LaunchFailed(f"without its code: {error.reason}", error.releases, error.pauses)

    async def rule_out(self, driver: JobDriver) -> LaunchRuledOut | LaunchSucceeded:
        """The job's process may be starting: the first to create `pid.json` decides."""
        return LaunchRuledOut() if _rule_out(driver) else _started(driver)

    async def await_end(self, driver: JobDriver) -> ProcessGone:
        """Wait for the end of the job; returns its result."""
        host = self.host_of(driver.job)
        result = await host.wait(driver.dir.path, lambda: driver.post(TaskExited()))
        return ProcessGone(result.exit_code, result.error)

    async def await_gone(self, driver: JobDriver, *, kills: bool, thaws: bool) -> ProcessGone:
        """Return once no process of the job runs, and none can start."""
        _rule_out(driver)
        while is_alive(driver.dir.path):
            if kills:
                # No other action freezes or ends the job.
                await kill_tree(driver.dir.path, on_step=partial(_log_stop, driver))
            elif thaws:
                await thaw_tree(driver.dir.path)
            await asyncio.sleep(CHECK_EVERY_S)
        return ProcessGone()

    async def freeze(self, driver: JobDriver) -> NoReturn:
        """Freeze the job until cancelled."""
        self._frozen_at[driver] = _mark(driver)
        await freeze_tree(driver.dir.path)

    async def thaw(self, driver: JobDriver) -> Thawed:
        """Continue the job's processes."""
        frozen_at = self._frozen_at.pop(driver, None) or driver.dir.frozen_at() or time.time()
        stood_s, what = max(0.0, time.time() - frozen_at), _noun(driver)
        log_to_task(
            driver,
            f"Edge worker: contact is back after the {what} was frozen for {stood_s:.0f} s; the {what} continues",
        )
        await thaw_tree(driver.dir.path)
        try:
            driver.dir.unmark_frozen()
        except OSError as error:
            log.warning("frozen_not_unmarked", error=str(error), means="the next agent would freeze it and ask again")
        log.info("job_thawed", job=driver.id, stood_s=round(stood_s, 1))
        return Thawed()

    async def stop(self, driver: JobDriver) -> None:
        """End the job's processes. Between start and launch there may be none yet: then wait for them."""
        await _until_alive(driver)
        await stop_tree(driver.dir.path, grace_s=self.grace_s, on_step=partial(_log_step, driver))

    async def kill(self, driver: JobDriver) -> None:
        """End the job's processes without a grace period."""
        await _until_alive(driver)
        await kill_tree(driver.dir.path, on_step=partial(_log_step, driver))


def _rule_out(driver: JobDriver) -> bool:
    """Whether no process runs the job, and none will. On a disk that cannot be written, no process can claim it."""
    with suppress(OSError):
        job_files.claim(driver.dir.path, job_files.no_process(driver.id))
    return not driver.dir.was_launched


async def _until_alive(driver: JobDriver) -> None:
    while not is_alive(driver.dir.path):  # noqa: ASYNC110 - a lock sets no event
        await asyncio.sleep(_CHECK_EVERY_S)


def log_to_task(driver: JobDriver, text: str, *, level: str = "warning") -> None:
    """Write a line into the task's log."""
    try:
        job_files.write_log_line(driver.dir.path, text, level=level)
    except OSError as error:
        log.warning("log_line_not_written", error=str(error))


def _log_stop(driver: JobDriver, text: str) -> None:
    """Write a line into the task's log that explains why the task ended."""
    log.info("job_stopping", step=text)
    log_to_task(driver, text)


def _log_step(driver: JobDriver, step: str) -> None:
    reason = driver.now.stop.reason if driver.now.stop else ""
    _log_stop(driver, f"Edge worker stops this {_noun(driver)} ({reason}): {step}")


def _started(driver: JobDriver) -> LaunchSucceeded:
    log.info("job_started", queue=driver.job.queue, **_what(driver.job))
    return LaunchSucceeded()


def _what(job: Job) -> dict[str, str]:
    """The fields that identify the work, for the agent's log."""
    if job.task is not None:
        return {"dag": job.task.dag_id, "task": job.task.task_id}
    if job.terms is not None:
        return {"name": job.terms.name}
    return {"auxiliary": job.auxiliary.kind} if job.auxiliary is not None else {}


def _noun(driver: JobDriver) -> str:
    return "command" if driver.job.kind is JobKind.COMMAND else "task"


def _mark(driver: JobDriver) -> float:
    """Mark the job as frozen, and log it unless an earlier agent has; returns since when, by the wall clock."""
    frozen_at = driver.dir.frozen_at()
    if frozen_at is not None:
        log.info("job_still_frozen", job=driver.id)
        return frozen_at
    try:
        driver.dir.mark_frozen()
    except OSError as error:
        log.warning("frozen_not_marked", error=str(error), means="the next agent would not know of it")
    reason = driver.now.frozen_because
    log.warning("job_frozen", job=driver.id, reason=reason)
    log_to_task(
        driver,
        f"Edge worker freezes this {_noun(driver)} ({reason}): it continues once the centre confirms that this worker "
        "still holds it, and is killed otherwise",
    )
    return time.time()
