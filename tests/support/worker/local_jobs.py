"""Jobs at a worker for tests of what reads them: their machine steps, and nothing is carried out."""

import asyncio

from typing_extensions import override

from edge_schemas.wire.jobs import Job
from edge_worker.jobs.driver import JobDriver, Performer
from edge_worker.jobs.events import Activity, Facts, Note, ProcessGone, Recovered
from edge_worker.state.job_dir import JobDir

GRANTED = Facts()
STARTED = Facts(is_started=True)
RUNNING = Facts(is_started=True, is_launched=True)


async def _perform(held: JobDriver, activity: Activity) -> None:
    raise NotImplementedError


def _note(held: JobDriver, note: Note) -> None:
    return


class IdleDriver(JobDriver):
    """Steps, but begins nothing."""

    @override
    def _begin(self, *_: object) -> None:
        return


def local_job(job: Job, job_dir: JobDir, facts: Facts = GRANTED) -> IdleDriver:
    """A job as it is after its folder was read."""
    held = IdleDriver(job, job_dir, Performer(_perform, _note), asyncio.TaskGroup())
    held.post(Recovered(facts))
    return held


def ended_job(job: Job, job_dir: JobDir) -> IdleDriver:
    """A job without a process; only its log and its outcome are left."""
    held = local_job(job, job_dir, RUNNING)
    held.post(ProcessGone(exit_code=0))
    return held
