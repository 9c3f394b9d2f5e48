"""Which polls wait for jobs of a queue, and which pulls are open at its consumer: decisions only, no I/O, no clock.

Pulls are sized to what the waiting polls would take, and capped: the server serves pull requests in turn, not the polls
behind them, so a replica with few polls would otherwise get more than its share.
"""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

from edge_broker.jetstream.consumer import PullStatus, StatusKind
from edge_relay.dispatch.deliveries import Delivery
from edge_schemas.life.versions import runtime_mismatch
from edge_schemas.wire.jobs import AuxiliaryKind, Job, TaskWork

MAX_BATCH = 32
EXPIRES_S = 10.0
GRACE_S = 2.0
"""A pull without a status this long after its end is lost: server or leader are gone."""
NO_CONSUMER_DELAY_S = 5.0
ERROR_DELAY_S = 2.0
FIRST_DELAY_S = 0.1


class PollDemand:
    """A poll that would take up to `free` jobs, from the queue that delivers first.

    Attributes:
        airflow: Airflow's version in its worker's runtime, if the worker reported it.
        auxiliary: The kinds of auxiliary jobs that its worker accepts.
        required_airflow: The centre's version, once there was a job for which the runtime is too new. The poll wants no
            jobs then: each job that is fetched for it would have to be returned.
    """

    def __init__(
        self,
        free: int,
        on_change: Callable[[], None],
        *,
        airflow: str | None = None,
        auxiliary: Collection[AuxiliaryKind] = (),
    ) -> None:
        self.wants = free
        self.airflow = airflow
        self.auxiliary = auxiliary
        self.required_airflow: str | None = None
        self._wanted_before = 0
        self.taken: list[Delivery] = []
        self.queues: set[WaitQueue] = set()
        self._on_change = on_change

    def take(self, delivery: Delivery) -> None:
        """Add a delivery; the poll owns it from now on."""
        self.taken.append(delivery)
        self.wants -= 1
        for queue in list(self.queues):
            queue.wanted -= 1
            if self.wants == 0:
                queue.leave(self)
        self._on_change()

    def suits(self, job: Job) -> bool:
        """Whether its worker may and can run the job; if its runtime is too new, the poll leaves all queues."""
        if job.auxiliary is not None and job.auxiliary.kind not in self.auxiliary:
            return False
        wanted = job.work.airflow_version if isinstance(job.work, TaskWork) else None
        if runtime_mismatch(self.airflow, wanted) is None:
            return True
        self.required_airflow = wanted
        for queue in list(self.queues):
            queue.leave(self)
        self._wanted_before, self.wants = self.wants, 0
        self._on_change()
        return False

    def clear_runtime_mismatch(self) -> None:
        """The centre was upgraded since that job was published: every job suits from now on."""
        self.airflow = self.required_airflow = None
        self.wants = self._wanted_before

    def close(self) -> list[Delivery]:
        """Take nothing more; returns what was taken. The caller must acknowledge or return it."""
        for queue in list(self.queues):
            queue.leave(self)
        self.wants = 0
        taken, self.taken = self.taken, []
        return taken


class WaitQueue:
    """The polls that wait for jobs of one queue. The poll that has waited longest since its last job is next."""

    def __init__(self, consumer: str) -> None:
        self.consumer = consumer
        self._demands: dict[PollDemand, None] = {}
        self.wanted = 0

    def join(self, demand: PollDemand) -> None:
        """Add a poll at the end, unless it waits here already or wants nothing."""
        if self in demand.queues or demand.wants == 0:
            return
        self._demands[demand] = None
        demand.queues.add(self)
        self.wanted += demand.wants

    def leave(self, demand: PollDemand) -> None:
        """Remove a poll."""
        if self in demand.queues:
            del self._demands[demand]
            demand.queues.remove(self)
            self.wanted -= demand.wants

    def hand_over(self, delivery: Delivery) -> bool:
        """Give a delivery to the next poll that it suits; False if there is none."""
        demand = next((one for one in list(self._demands) if one.suits(delivery.job)), None)
        if demand is None:
            return False
        del self._demands[demand]
        self._demands[demand] = None
        demand.take(delivery)
        return True


@dataclass(frozen=True, slots=True)
class Pull:
    """A request to the consumer."""

    number: int
    batch: int


@dataclass(slots=True)
class _Open:
    batch: int
    deadline: float


class PullTracker:
    """What was requested from a consumer and has not arrived yet.

    Messages do not name the pull that they answer, only statuses do. So one count of what is `out` is kept, and the
    pulls only for their ends: `out` never exceeds the sum of what the pulls that may still be open have requested.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self.out = 0
        self._pulls: dict[int, _Open] = {}
        self._last_number = 0
        self._not_before = 0.0
        self._failures = 0
        self._random = rng or random.Random()  # noqa: S311  # jitter, nothing secret

    def ask(self, wanted: int, now: float) -> list[Pull]:
        """The pulls to send now so that all waiting polls are covered; recorded as sent."""
        pulls: list[Pull] = []
        while now >= self._not_before and (need := wanted - self.out) > 0:
            self._last_number += 1
            pull = Pull(self._last_number, min(need, MAX_BATCH))
            self._pulls[pull.number] = _Open(pull.batch, now + EXPIRES_S + GRACE_S)
            self.out += pull.batch
            pulls.append(pull)
        return pulls

    def arrived(self) -> None:
        """A message arrived."""
        self.out = max(0, self.out - 1)
        self._failures = 0

    def ended(self, status: PullStatus, now: float) -> None:
        """A pull was answered with a status; an error delays the next pull. An unknown pull was dropped earlier."""
        if status.kind is StatusKind.HEARTBEAT or (pull := self._pulls.pop(status.pull, None)) is None:
            return
        self.out = max(0, self.out - (pull.batch if status.undelivered is None else status.undelivered))
        if status.kind is StatusKind.COMPLETED:
            self._failures = 0
        else:
            self._back_off(NO_CONSUMER_DELAY_S if status.kind is StatusKind.NO_CONSUMER else ERROR_DELAY_S, now)

    def overdue(self, now: float) -> bool:
        """Drop pulls past their end; True if requested messages will not arrive any more: request them again."""
        late = [number for number, pull in self._pulls.items() if pull.deadline <= now]
        for number in late:
            del self._pulls[number]
        return self.out > sum(pull.batch for pull in self._pulls.values())

    def failed(self, now: float) -> None:
        """A pull could not be sent."""
        self._back_off(ERROR_DELAY_S, now)

    def forget(self) -> None:
        """Drop all pulls: their connection, inbox or consumer is gone."""
        self._pulls.clear()
        self.out = 0

    def reset_backoff(self) -> None:
        """Send the next pull without delay: it will probably succeed."""
        self._failures = 0
        self._not_before = 0.0

    def next_moment(self, wanted: int) -> float | None:
        """When to check again if nothing happens before."""
        moments = [pull.deadline for pull in self._pulls.values()]
        if wanted > self.out:
            moments.append(self._not_before)
        return min(moments, default=None)

    def _back_off(self, longest_s: float, now: float) -> None:
        delay = min(FIRST_DELAY_S * 2**self._failures, longest_s)
        self._failures = min(self._failures + 1, 16)
        self._not_before = now + delay * self._random.uniform(0.5, 1.0)
