"""The jobs of this worker: taken when granted or found, each followed in an asyncio task of its own."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edge_schemas.wire.ids import JobId
from edge_schemas.wire.polls import Grant, StopDirective
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.jobs.compatibility import RuntimeCompatibility
from edge_worker.jobs.crash_isolation import isolate_errors
from edge_worker.jobs.lifecycle import JobLife
from edge_worker.jobs.recovery import recover
from edge_worker.jobs.registry import SHUT_DOWN, JobRegistry, LocalJob, StopWish
from edge_worker.jobs.stop import tell
from edge_worker.log import EventLog, bound
from edge_worker.state.job_dir import JobDir
from edge_worker.state.state import StateDir

LOOK_AT_UNREAD_EVERY_S = 3.0

_JOB_ID: TypeAdapter[str] = TypeAdapter(JobId)

log = EventLog("edge_worker.jobs.runner")


@dataclass
class JobRunner:
    """Runs jobs.

    Attributes:
        group: Where the tasks that follow them live.
        rule: Knows which jobs the runtime is too new for.
    """

    life: JobLife
    state: StateDir
    table: JobRegistry
    group: asyncio.TaskGroup
    rule: RuntimeCompatibility
    _tasks: set[asyncio.Task[object]] = field(default_factory=set)

    def take(self, grant: Grant) -> None:
        """Runs a granted job, or gives it back if there is no room for it."""
        held = self.table.get(grant.job.id)
        if held is not None:
            # The message was delivered again because our start has not come through yet.
            held.receipt = grant.receipt
            return
        log.info("job_granted", job=grant.job.id, queue=grant.job.queue)
        refusal = self.table.refusal() or self.rule.refusal(grant.job)
        if grant.job.id in self.table.unread:
            refusal = "what an earlier run left of this job cannot be read"
        if refusal is not None:
            self._spawn(self.life.release(grant.job.id, grant.receipt, refusal), f"release-{grant.job.id}")
            return
        held = LocalJob(grant.job, self.state.job_dir(grant.job.id), receipt=grant.receipt)
        self.table.add(held)
        earlier = {task for task in self._tasks if task.get_name() == f"job-{held.id}"}
        self._spawn(self._guarded(held, lambda: self.life.begin(held, earlier)), f"job-{held.id}")

    def stop(self, directive: StopDirective) -> None:
        """A job is to end. One that has no process any more is about to be settled anyway."""
        held = self.table.get(directive.job)
        if held is None or held.phase is JobPhase.FINISHING:
            return
        if held.stop is None or (directive.drop and not held.stop.drop):
            log.info("job_stop_wanted", job=held.id, reason=directive.reason, drop=directive.drop)
        held.want_stop(StopWish(directive.reason, drop=directive.drop))

    def drain(self) -> None:
        """Gives back what nobody has started yet; what runs may end."""
        for held in self.table:
            if held.phase is JobPhase.GRANTED:
                held.want_stop(StopWish(SHUT_DOWN, gives_back=True))

    def stop_all(self) -> None:
        """Every job is to end now."""
        for held in self.table:
            held.want_stop(StopWish(SHUT_DOWN, gives_back=True))

    def tell_all(self, text: str) -> None:
        """A line in the log of each task that runs."""
        for held in self.table:
            if held.phase is JobPhase.RUNNING and held.dir.was_launched:
                tell(held, text)

    def resume(self) -> None:
        """Takes up the jobs that an earlier run of the agent left behind."""
        for job_dir in self.state.job_dirs():
            self._resume_one(job_dir)

    async def watch_unread(self) -> None:
        """Takes up later, when it can be read, what could not be read at the start."""
        while True:
            await asyncio.sleep(LOOK_AT_UNREAD_EVERY_S)
            for job_id in self.table.unread:
                self._resume_one(self.state.job_dir(job_id))

    def _resume_one(self, job_dir: JobDir) -> None:
        job_id = job_dir.path.name
        try:
            held = recover(self.state, job_dir) if job_dir.path.exists() else None
            work = None if held is None else self.life.go_on(held)
        except OSError as error:
            self._cannot_read(job_dir, error)
            return
        if held is not None and work is not None:
            if not held.dir.was_finished:
                self.table.add(held)
            self._spawn(self._guarded(held, lambda: work), f"job-{held.id}")
        if job_id in self.table.unread:
            log.info("job_dir_readable", job=job_id)
            self.table.forget_unread(job_id)

    def _cannot_read(self, job_dir: JobDir, error: OSError) -> None:
        """Said once. The job stays reported, for the centre must not take it for lost while its process may live."""
        if job_dir.path.name in self.table.unread:
            return
        log.error("job_dir_not_readable", path=str(job_dir.path), error=str(error))
        if _is_job_id(job_dir.path.name):
            self.table.add_unread(job_dir.path.name)

    async def until_idle(self) -> None:
        """Returns once every job is settled and its log uploaded."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def busy(self) -> int:
        """Jobs that are not settled or whose log is not uploaded."""
        return len(self._tasks)

    def cancel_all(self) -> None:
        """Stops caring, at once. Processes go on; the next run of the agent takes them up."""
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, object], name: str) -> None:
        task: asyncio.Task[object] = self.group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, held: LocalJob, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with bound(job=held.id):
            await isolate_errors(
                begin, go_on=lambda: self.life.go_on(held), give_up=lambda reason: self.life.give_up(held, reason)
            )


def _is_job_id(name: str) -> bool:
    """Whether a poll could name such a job."""
    try:
        _JOB_ID.validate_python(name)
    except ValidationError:
        return False
    return True
