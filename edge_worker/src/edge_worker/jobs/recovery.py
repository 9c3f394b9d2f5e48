"""The folders that earlier runs of the agent left: which jobs to take up from them, and putting them aside."""

import errno

from edge_worker.jobs.registry import LocalJob
from edge_worker.log import EventLog
from edge_worker.processes.tree import is_alive
from edge_worker.state.job_dir import JobDir
from edge_worker.state.state import StateDir

log = EventLog("edge_worker.jobs.recovery")


def recover(state: StateDir, job_dir: JobDir) -> LocalJob | None:
    """The job of an earlier run, as its folder tells of it; None if it tells of none, and is put aside.

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
    held = LocalJob(job, job_dir, receipt=job_dir.receipt())
    held.final_state = job_dir.final_state()
    if job_dir.frozen_at() is not None:
        held.freeze("an earlier run of the agent has frozen it")
    return held


def discard_stale_dir(state: StateDir, job_dir: JobDir) -> None:
    """Puts aside what an earlier hold of a job left where a new one is to have its folder.

    Its process, outcome or log offset would be taken for the new one's.

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
    """Keeps an ended job's folder where nobody takes it up any more. If that fails, the next start tries again."""
    try:
        state.archive(job_dir)
    except OSError as error:
        log.warning("job_dir_not_archived", path=str(job_dir.path), error=str(error))
