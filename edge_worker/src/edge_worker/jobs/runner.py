"""The jobs of this worker: accepted when granted or recovered, each with a driver of its own."""

import asyncio
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from edge_schemas.wire.ids import JobId
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.polls import Grant, StopDirective
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.jobs.compatibility import RuntimeCompatibility
from edge_worker.jobs.driver import JobDriver, Performer
from edge_worker.jobs.events import Granted, Recovered, StopWanted, StopWish
from edge_worker.jobs.process_actions import log_to_task
from edge_worker.jobs.recovery import recover
from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog
from edge_worker.signing.signed_work import Refused, SignedWork
from edge_worker.state.job_dir import JobDir
from edge_worker.state.state import StateDir

RETRY_UNREAD_EVERY_S = 3.0
SHUT_DOWN = "the worker is being shut down"
"""The reason with which a worker ends its jobs when it stops."""

_JOB_ID: TypeAdapter[str] = TypeAdapter(JobId)

log = EventLog("edge_worker.jobs.runner")


@dataclass
class JobRunner:
    """Runs jobs.

    Attributes:
        group: Runs the asyncio tasks of the jobs.
        rule: Rejects jobs that the runtime is too new for.
        signed: Rejects jobs that the executor has not signed.
    """

    performer: Performer
    state: StateDir
    table: JobRegistry
    group: asyncio.TaskGroup
    rule: RuntimeCompatibility
    signed: SignedWork
    _driven: list[JobDriver] = field(default_factory=list)

    def accept(self, grant: Grant) -> None:
        """Run a granted job, or release it if no slot is free."""
        driver = self.table.get(grant.job.id)
        if driver is not None:
            # The message was delivered again because our start has not arrived yet.
            driver.post(Granted(grant.receipt))
            return
        log.info("job_granted", job=grant.job.id, queue=grant.job.queue)
        try:
            job = self.signed.opened(grant.job)
        except Refused as error:
            self._drive(grant.job).post(Granted(grant.receipt, str(error), counts=error.counts))
            return
        forbidden = self.rule.forbidden(job)
        refusal = forbidden or self.table.refusal() or self.rule.refusal(job)
        if job.id in self.table.unread:
            refusal = "what an earlier run left of this job cannot be read"
        driver = self._drive(job)
        if refusal is None:
            self.table.add(driver)
        driver.post(Granted(grant.receipt, refusal, counts=forbidden is not None))

    def stop(self, directive: StopDirective) -> None:
        """End a job. A job without a process is finished soon in any case."""
        driver = self.table.get(directive.job)
        if driver is None or driver.phase is JobPhase.FINISHING:
            return
        stop = driver.now.stop
        if stop is None or (directive.drop and not stop.drop):
            log.info("job_stop_wanted", job=driver.id, reason=directive.reason, drop=directive.drop)
        driver.post(StopWanted(StopWish(directive.reason, drop=directive.drop)))

    def drain(self, why: str = SHUT_DOWN) -> None:
        """Release jobs whose start is not confirmed; running jobs may finish."""
        for driver in self.table:
            if driver.phase is JobPhase.GRANTED:
                driver.post(StopWanted(StopWish(why, releases=True)))

    def stop_all(self, why: str = SHUT_DOWN) -> None:
        """End every job now."""
        for driver in self.table:
            driver.post(StopWanted(StopWish(why, releases=True)))

    def log_to_tasks(self, text: str) -> None:
        """Write a line into the log of each running task."""
        for driver in self.table:
            if driver.phase is JobPhase.RUNNING and driver.dir.was_launched:
                log_to_task(driver, text)

    def recover_all(self) -> None:
        """Recover the jobs of an earlier run of the agent."""
        for job_dir in self.state.job_dirs():
            self._recover_one(job_dir)

    async def watch_unread(self) -> None:
        """Recover jobs whose folders could not be read at the start, once they can be read."""
        while True:
            await asyncio.sleep(RETRY_UNREAD_EVERY_S)
            for job_id in self.table.unread:
                self._recover_one(self.state.job_dir(job_id))

    async def until_idle(self) -> None:
        """Return once every job is finished and its log is uploaded."""
        while self.busy:
            await self._driven[0].until_over()

    @property
    def busy(self) -> int:
        """Number of jobs that are not finished or whose log is not uploaded."""
        self._driven = [driver for driver in self._driven if not driver.is_over]
        return len(self._driven)

    def close_all(self) -> None:
        """Abandon all jobs at once. Their processes continue; the next run of the agent recovers the jobs."""
        for driver in self._driven:
            driver.close()

    def _drive(self, job: Job) -> JobDriver:
        self._driven = [driver for driver in self._driven if not driver.is_over]
        earlier = [driver for driver in self._driven if driver.id == job.id and driver.now.has_folder]
        driver = JobDriver(job, self.state.job_dir(job.id), self.performer, self.group, earlier)
        self._driven.append(driver)
        return driver

    def _recover_one(self, job_dir: JobDir) -> None:
        job_id = job_dir.path.name
        try:
            found = recover(self.state, job_dir) if job_dir.path.exists() else None
        except OSError as error:
            self._cannot_read(job_dir, error)
            return
        if found is not None:
            driver = self._drive(found.job)
            if not found.facts.is_finished:
                self.table.add(driver)
            driver.post(Recovered(found.facts))
        if job_id in self.table.unread:
            log.info("job_dir_readable", job=job_id)
            self.table.forget_unread(job_id)

    def _cannot_read(self, job_dir: JobDir, error: OSError) -> None:
        """Log the error once. The job stays reported: it must not count as lost while its process may run."""
        if job_dir.path.name in self.table.unread:
            return
        log.error("job_dir_not_readable", path=str(job_dir.path), error=str(error))
        if _is_job_id(job_dir.path.name):
            self.table.add_unread(job_dir.path.name)


def _is_job_id(name: str) -> bool:
    """Whether a poll could name such a job."""
    try:
        _JOB_ID.validate_python(name)
    except ValidationError:
        return False
    return True
