"""What drives the machine of one job: carries out its actions and posts their results as events.

Each event is handled at once and on its own: no event comes between the step of the machine and the start of its
actions. An action that fails unexpectedly becomes an event of its job, and ends no other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from edge_schemas.wire.jobs import Job
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.jobs.events import Activity, Begin, Cancel, Event, Fault, Lane, Note
from edge_worker.jobs.job_state import LocalJob, Stage
from edge_worker.jobs.machine import step
from edge_worker.log import EventLog, bound
from edge_worker.state.job_dir import JobDir

log = EventLog("edge_worker.jobs.driver")


class Performer(NamedTuple):
    """Does the input and output of actions. The driver only knows when.

    Attributes:
        perform: Does what takes time; returns the event with which it ends, if it ends with one.
        note: Does what is done at once.
    """

    perform: Callable[["JobDriver", Activity], Awaitable[Event | None]]
    note: Callable[["JobDriver", Note], None]


class JobDriver:
    """A job that the worker holds or was granted: one tenure, from the grant until nothing is left to do.

    Args:
        job: What is to be run.
        job_dir: Its folder.
        performer: Carries out the actions.
        group: Where the tasks of the activities live.
        earlier: Drivers of earlier tenures of the same job, which have something left to do in its folder.

    Attributes:
        now: Where the job stands.
    """

    def __init__(
        self,
        job: Job,
        job_dir: JobDir,
        performer: Performer,
        group: asyncio.TaskGroup,
        earlier: "Sequence[JobDriver]" = (),
    ) -> None:
        self.job = job
        self.dir = job_dir
        self.earlier = earlier
        self.now = LocalJob()
        self._performer = performer
        self._group = group
        self._current: dict[Lane, asyncio.Task[None]] = {}
        self._tasks: dict[asyncio.Task[None], Lane] = {}
        self._changed = asyncio.Event()
        self._is_closed = False

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def phase(self) -> JobPhase:
        """What a poll reports of the job."""
        return self.now.phase

    @property
    def uses_slot(self) -> bool:
        """The task is not over."""
        return self.now.uses_slot

    @property
    def is_gone(self) -> bool:
        """No process of the job is left: its log grows no more."""
        return self.now.is_gone

    @property
    def is_over(self) -> bool:
        """Nothing is left to do, or the agent leaves the rest to its next start."""
        return self._is_closed or self.now.stage is Stage.OVER

    def post(self, event: Event) -> None:
        """Hands an event to the machine and begins what follows from it. An error in here is a fault of this job."""
        if self._is_closed:
            return
        with bound(job=self.id):
            try:
                self._step(event)
            except Exception as error:
                log.exception("job_fault", faults=self.now.faults + 1)
                self._step(_fault(error))
        self._publish()

    async def until_gone(self) -> None:
        """Waits until no process of the job is left."""
        await self._until(lambda: self.is_gone)

    async def until_over(self) -> None:
        """Waits until nothing is left to do."""
        await self._until(lambda: self.is_over)

    def close(self) -> None:
        """Abandons everything at once. Processes continue; the next run of the agent takes them up."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        self._publish()

    async def closed(self) -> None:
        """Closes it and waits until nothing is under way."""
        self.close()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _step(self, event: Event) -> None:
        self.now, actions = step(self.now, event)
        for action in actions:
            match action:
                case Begin():
                    self._begin(action.lane, action.activity)
                case Cancel():
                    self._cancel(action.lane)
                case _:
                    self._performer.note(self, action)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._changed.wait()

    def _publish(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _begin(self, lane: Lane, activity: Activity) -> None:
        self._cancel(lane)
        before = {task for task, its_lane in self._tasks.items() if its_lane is lane}
        work = self._perform(lane, activity, before)
        task = self._group.create_task(work, name=f"job-{lane.value}-{self.id}")
        self._current[lane] = task
        self._tasks[task] = lane
        task.add_done_callback(self._tasks.pop)

    def _cancel(self, lane: Lane) -> None:
        if (task := self._current.pop(lane, None)) is not None:
            task.cancel()

    async def _perform(self, lane: Lane, activity: Activity, before: set[asyncio.Task[None]]) -> None:
        """Waits for the cancelled activity of the lane, then runs this one.

        Results of cancelled activities are ignored.
        """
        if before:
            await asyncio.wait(before)
        event: Event | None
        with bound(job=self.id):
            try:
                event = await self._performer.perform(self, activity)
            except asyncio.CancelledError as error:
                this = asyncio.current_task()
                if this is None or this.cancelling():
                    raise
                # A task that the activity awaits was cancelled, and not this one: the lane would stay occupied.
                log.exception("job_fault", faults=self.now.faults + 1)
                event = _fault(error)
            except Exception as error:
                log.exception("job_fault", faults=self.now.faults + 1)
                event = _fault(error)
        if event is not None and self._current.get(lane) is asyncio.current_task():
            del self._current[lane]
            self.post(event)


def _fault(error: BaseException) -> Fault:
    return Fault(f"the worker could not follow this job: {type(error).__name__}")
