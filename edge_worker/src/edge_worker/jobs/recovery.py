"""The folders of jobs: making one, and reading those of earlier runs of the agent."""

import errno
from dataclasses import dataclass

from edge_schemas.wire.jobs import Job
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.events import Facts, FolderMade, FolderUnwritable
from edge_worker.log import EventLog
from edge_worker.processes.tree import is_alive
from edge_worker.state.job_dir import JobDir
from edge_worker.state.state import StateDir

log = EventLog("edge_worker.jobs.recovery")


@dataclass(frozen=True)
class RecoveredJob:
    """A job of an earlier run, and what its folder shows."""

    job: Job
    facts: Facts


def recover(state: StateDir, job_dir: JobDir) -> RecoveredJob | None:
    """The job of an earlier run; None if its folder holds none, and is put aside.

    Raises:
        OSError: It cannot be read now. A process of the job may live all the same.
    """
    job = job_dir.job()
    if job is None and is_alive(job_dir.path):
        raise OSError(errno.EBUSY, "it is damaged, and a process of the job lives", str(job_dir.path))
    if job is None:
        # It was never started: the folder is written before the relay is asked.
        log.warning("job_dir_incomplete", path=str(job_dir.path))
        archive(state, job_dir)
        return None
    return RecoveredJob(job, read_facts(job_dir))


def read_facts(job_dir: JobDir) -> Facts:
    """What is left to do for a job.

    Raises:
        OSError: It cannot be read now.
    """
    facts = Facts(
        receipt=job_dir.receipt(),
        is_started=job_dir.was_started,
        is_launched=job_dir.was_launched,
        is_finished=job_dir.was_finished,
        is_frozen=job_dir.frozen_at() is not None,
        final_state=job_dir.final_state(),
        finish=job_dir.finish(),
    )
    if facts.is_launched and facts.finish is None and not facts.is_finished:
        log.info("job_recovered", job=job_dir.path.name, is_alive=is_alive(job_dir.path))
    return facts


async def make_folder(state: StateDir, driver: JobDriver, *, is_new: bool) -> FolderMade | FolderUnwritable:
    """Writes the job down. A folder that an earlier tenure of the job has left is put aside first."""
    for earlier in driver.earlier:
        # The earlier driver would upload its log as the log of this tenure and archive the new folder.
        await earlier.closed()
    try:
        if is_new:
            discard_stale_dir(state, driver.dir)
        driver.dir.create(driver.job, driver.now.receipt)
    except OSError as error:
        log.error("job_dir_not_writable", error=str(error))  # noqa: TRY400 - the cause is in the event
        return FolderUnwritable(f"the job's folder cannot be made: {error.strerror}")
    return FolderMade()


def discard_stale_dir(state: StateDir, job_dir: JobDir) -> None:
    """Puts aside the folder that an earlier tenure of a job has left, before a new tenure makes its own.

    Its process, outcome or log offset would be taken for those of the new tenure.

    Raises:
        OSError: The folder cannot be moved, or a process of it lives.
    """
    if not job_dir.path.exists():
        return
    if is_alive(job_dir.path):
        raise OSError(errno.EBUSY, "an earlier process of the job lives", str(job_dir.path))
    log.warning("job_dir_left_over", path=str(job_dir.path))
    state.archive(job_dir)


def archive(state: StateDir, job_dir: JobDir) -> None:
    """Moves the folder of an ended job to the ended jobs. If that fails, the next start tries again."""
    try:
        state.archive(job_dir)
    except OSError as error:
        log.warning("job_dir_not_archived", path=str(job_dir.path), error=str(error))
