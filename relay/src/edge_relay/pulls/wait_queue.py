"""Which polls wait for jobs, and how many jobs may be requested for them: decisions only, no I/O, no clock.

Here a queue is one consumer: the jobs of one kind in a queue. A poll that waits at one takes whatever arrives there: as
many jobs are requested for it as it wants. A poll that waits at several would get jobs of all of them at once, and
return all but a few. For such polls one job is requested at a queue while none waits there, and further ones only in
step with those that found a taker.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable

from edge_relay.pulls.deliveries import Delivery
from edge_schemas.life.versions import runtime_mismatch
from edge_schemas.wire.jobs import Job, JobKind, TaskWork


class PollDemand:
    """A poll that would take up to `free` jobs, from the queue that delivers first.

    Attributes:
        airflow: Airflow's version in its worker's runtime, if the worker reported it.
        accepts: The kinds of jobs that its worker accepts: it waits for no others.
        required_airflow: The centre's version, once there was a job for which the runtime is too new. The poll wants no
            jobs then: each job that is fetched for it would have to be returned.
        consumers: Those that the poll waits at, those included where its search has yet to join.
    """

    def __init__(
        self,
        free: int,
        on_change: Callable[[], None],
        *,
        airflow: str | None = None,
        accepts: Collection[JobKind] = (JobKind.TASK,),
    ) -> None:
        self.wants = free
        self.airflow = airflow
        self.accepts = accepts
        self.required_airflow: str | None = None
        self._wanted_before = 0
        self.taken: list[Delivery] = []
        self.consumers: frozenset[str] = frozenset()
        self.queues: set[WaitQueue] = set()
        self._on_change = on_change
        self._stop_search: Callable[[], object] | None = None

    @property
    def is_shared(self) -> bool:
        """Whether several queues may deliver to the poll at the same time."""
        return len(self.consumers) > 1

    def begin(self, consumers: Iterable[str]) -> None:
        """Wait at these queues from now on, and no longer at others; the caller joins them."""
        self.leave_all()
        self.consumers = frozenset(consumers)

    def searching(self, stop: Callable[[], object]) -> None:
        """A search joins the queues one after the other; `stop` ends it."""
        self._stop_search = stop

    def take(self, delivery: Delivery) -> None:
        """Add a delivery; the poll owns it from now on."""
        self.taken.append(delivery)
        self.wants -= 1
        for queue in self.queues:
            queue.taken_by(self)
        if self.wants == 0:
            self.leave_all()
        self._on_change()

    def suits(self, job: Job) -> bool:
        """Whether its worker can run a job of its kinds; if its runtime is too new, the poll leaves all queues."""
        wanted = job.work.airflow_version if isinstance(job.work, TaskWork) else None
        if runtime_mismatch(self.airflow, wanted) is None:
            return True
        self.required_airflow = wanted
        self.leave_all()
        self._wanted_before, self.wants = self.wants, 0
        self._on_change()
        return False

    def clear_runtime_mismatch(self) -> None:
        """The centre was upgraded since that job was published: every job suits from now on."""
        self.airflow = self.required_airflow = None
        self.wants = self._wanted_before

    def leave_all(self) -> None:
        """Wait at no queue."""
        stop, self._stop_search = self._stop_search, None
        if stop is not None:
            stop()
        for queue in list(self.queues):
            queue.leave(self)
        self.consumers = frozenset()

    def close(self) -> list[Delivery]:
        """Take nothing more; returns what was taken. The caller must acknowledge or return it."""
        self.leave_all()
        self.wants = 0
        taken, self.taken = self.taken, []
        return taken


class WaitQueue:
    """The polls that wait at one consumer. The poll that has waited longest since its last job is next."""

    def __init__(self, consumer: str) -> None:
        self.consumer = consumer
        self._demands: OrderedDict[PollDemand, None] = OrderedDict()
        self._own = 0
        self._shared = 0
        self._streak = 1

    @property
    def wanted(self) -> int:
        """How many jobs the polls would take, were there no other queue."""
        return self._own + self._shared

    @property
    def needs_probe(self) -> bool:
        """Whether all polls wait at other queues too: they should learn whether this one has jobs."""
        return self._own == 0 and self._shared > 0

    def to_request(self, pending: int | None) -> int:
        """How many jobs may be under way to this replica.

        Args:
            pending: How many jobs wait in the queue; None if that is not known.
        """
        if self._shared == 0:
            return self._own
        available = self._streak if pending is None else min(self._streak, max(1, pending))
        return self._own + min(self._shared, available)

    def join(self, demand: PollDemand) -> None:
        """Add a poll at the end, unless it waits here already or wants nothing."""
        if self in demand.queues or demand.wants == 0:
            return
        self._demands[demand] = None
        demand.queues.add(self)
        self._count(demand, demand.wants)

    def leave(self, demand: PollDemand) -> None:
        """Remove a poll."""
        if self in demand.queues:
            del self._demands[demand]
            demand.queues.remove(self)
            self._count(demand, -demand.wants)

    def taken_by(self, demand: PollDemand) -> None:
        """A poll that waits here has taken a job, from this queue or another one."""
        self._count(demand, -1)

    def hand_over(self, delivery: Delivery) -> bool:
        """Give a delivery to the next poll that it suits; False if there is none."""
        demand = self._taker(delivery.job)
        if demand is None:
            self._streak = 1
            return False
        self._demands.move_to_end(demand)
        demand.take(delivery)
        self._streak = self._streak + 1 if delivery.pending else 1
        return True

    def _taker(self, job: Job) -> PollDemand | None:
        while True:
            demand = next(iter(self._demands), None)
            # A poll whose runtime is too new for the job leaves.
            if demand is None or demand.suits(job):
                return demand

    def _count(self, demand: PollDemand, change: int) -> None:
        if demand.is_shared:
            self._shared += change
        else:
            self._own += change
