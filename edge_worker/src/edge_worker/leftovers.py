"""The folders that earlier runs of the agent left: which jobs to take up from them, and putting them aside."""

from collections.abc import Iterator

from edge_worker.job_dir import JobDir
from edge_worker.jobs import HeldJob
from edge_worker.log import EventLog
from edge_worker.state import StateDir

log = EventLog("edge_worker.leftovers")


def take_up(state: StateDir) -> Iterator[HeldJob]:
    """The jobs of an earlier run, as their folders tell of them. Folders that tell of none are put aside."""
    for job_dir in state.job_dirs():
        job = job_dir.job()
        if job is None:
            # It was never started: the folder is written before the relay is asked.
            log.warning("job_dir_incomplete", path=str(job_dir.path))
            put_aside(state, job_dir)
            continue
        held = HeldJob(job, job_dir, receipt=job_dir.receipt())
        held.final_state = job_dir.final_state()
        yield held


def put_aside(state: StateDir, job_dir: JobDir) -> None:
    """Keeps an ended job's folder where nobody takes it up any more. If that fails, the next start tries again."""
    try:
        state.archive(job_dir)
    except OSError as error:
        log.warning("job_dir_not_archived", path=str(job_dir.path), error=str(error))
