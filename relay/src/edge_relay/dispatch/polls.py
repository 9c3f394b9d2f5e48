"""The polls that are parked on this replica, and what can wake them.

A notice, or a change of a job, only wakes a poll; the poll then reads the state.
"""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

from edge_relay.metrics.replica import Metrics
from edge_relay.pulls.wait_queue import PollDemand
from edge_relay.stores.last_arrivals import StoredEntry
from edge_schemas.admin.desired import QUEUE_PREFIX, SITE_PREFIX, WORKER_PREFIX
from edge_schemas.life.agents import current_arrival
from edge_schemas.wire.polls import Poll
from edge_schemas.wire.worker_entry import AgentSeen
from edge_schemas.wire.worker_report import JobReport

REPEAT_AFTER_S = 1.0
"""The same directives are not sent again before this: the worker may need some time until its report agrees."""
MAX_SENT = 20_000
ENDED_DELAY_S = 0.5
"""A job ends mostly because its worker reported the end. A poll of the worker that does not name the job any more has
arrived by then, and there is nothing to say."""


@dataclass(eq=False, slots=True)
class ParkedPoll:
    """One poll, from its arrival to its answer.

    Attributes:
        worker: The worker that polls.
        secret_hash: Of its credential.
        agent: The agent that polls, as seen when the poll arrived; `arrival` identifies this poll among the worker's.
        most: How many jobs it may be granted.
        site: The worker's.
        queues: Those that the worker serves, as tokens, paused ones included.
        known: The worker's entry, as last seen; None until the poll's arrival is in it.
        reports: Its jobs.
        is_stale: All its jobs must be compared with the watched records.
        changed_jobs: These jobs must be compared.
        is_notified: The worker's entry must be read: a newer poll may have arrived at another replica.
        superseded_by: A newer poll of this agent, or of a newer agent, that arrived here.
    """

    worker: str
    secret_hash: str
    poll: Poll
    agent: AgentSeen
    most: int
    site: str = ""
    queues: Collection[str] = ()
    known: StoredEntry | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    is_stale: bool = True
    is_notified: bool = False
    superseded_by: AgentSeen | None = None
    changed_jobs: set[str] = field(default_factory=set)
    reports: dict[str, JobReport] = field(init=False)
    demand: PollDemand = field(init=False)

    def __post_init__(self) -> None:
        self.reports = {job.id: job for job in self.poll.jobs}
        airflow, accepts = self.poll.versions.airflow, self.poll.accepts
        self.demand = PollDemand(self.most, self.wake.set, airflow=airflow, accepts=accepts)


class ParkedPolls:
    """All polls of this replica that have no answer yet."""

    def __init__(self, metrics: Metrics) -> None:
        self._by_worker: dict[str, set[ParkedPoll]] = {}
        metrics.polls_parked.set_function(lambda: sum(map(len, self._by_worker.values())))
        self._sent: dict[str, tuple[object, float]] = {}

    @contextmanager
    def parked(self, poll: ParkedPoll) -> Iterator[None]:
        """Make a poll wakeable while inside. Enter before its arrival is written: notices concern it from then on."""
        self._by_worker.setdefault(poll.worker, set()).add(poll)
        try:
            yield
        finally:
            polls = self._by_worker[poll.worker]
            polls.discard(poll)
            if not polls:
                del self._by_worker[poll.worker]

    def arrived(self, poll: ParkedPoll, known: StoredEntry) -> None:
        """This poll is in its worker's entry: parked polls that the entry replaces are superseded."""
        poll.known = known
        for other in self._by_worker.get(poll.worker, ()):
            if other.known is None or other.known.revision >= known.revision:
                continue  # it arrived later, so this entry can't contain it
            current = current_arrival(known.entry, other.agent)
            if current.arrival != other.agent.arrival:
                other.superseded_by = current
                other.wake.set()

    def notice(self, worker: str, payload: bytes) -> None:
        """A notice for a worker: wakes its polls, except the poll whose own arrival the notice reports."""
        for poll in self._by_worker.get(worker, ()):
            if payload != poll.agent.arrival.encode():
                poll.is_stale = poll.is_notified = True
                poll.wake.set()

    def entry_changed(self, worker: str, value: bytes) -> None:
        """A watch shows a worker's entry: wakes its polls, except the poll whose arrival the entry reports.

        The entry is not parsed: most report a poll that is parked here. In a conflict, both agents' polls are woken.
        """
        polls = self._by_worker.get(worker, ())
        if not polls:
            return
        sender, _, rest = value.partition(b'"predecessors":')
        in_conflict = b'"conflict":' in rest
        for poll in polls:
            knows_conflict = poll.known is not None and poll.known.entry.conflict is not None
            if in_conflict or knows_conflict or poll.agent.arrival.encode() not in sender:
                poll.is_notified = True
                poll.wake.set()

    def job_changed(self, job: str, holders: Collection[str], has_ended: bool) -> None:
        """A job changed that these workers hold or held: wakes their polls that name it."""
        for worker in holders:
            for poll in self._by_worker.get(worker, ()):
                if job in poll.reports:
                    poll.changed_jobs.add(job)
                    if has_ended:
                        asyncio.get_running_loop().call_later(ENDED_DELAY_S, poll.wake.set)
                    else:
                        poll.wake.set()

    def records_current(self) -> None:
        """All records are known now: wakes the polls that have waited for it."""
        for polls in self._by_worker.values():
            for poll in polls:
                if poll.is_stale:
                    poll.wake.set()

    def credential_changed(self, secret_hash: str) -> None:
        """Wake the polls of this credential."""
        for polls in self._by_worker.values():
            for poll in polls:
                if poll.secret_hash == secret_hash:
                    poll.wake.set()

    def desired_changed(self, key: str) -> None:
        """An operator has changed a worker, a site or a queue, or an order has ended: wakes the polls concerned."""
        if key.startswith(WORKER_PREFIX):
            concerned = list(self._by_worker.get(key.removeprefix(WORKER_PREFIX), ()))
        else:
            site, queue = _after(SITE_PREFIX, key), _after(QUEUE_PREFIX, key)
            polls = chain.from_iterable(self._by_worker.values())
            concerned = [poll for poll in polls if poll.site == site or queue in poll.queues]
        for poll in concerned:
            poll.wake.set()

    def wake_all(self) -> None:
        """Wake all polls: the replica stops."""
        for polls in self._by_worker.values():
            for poll in polls:
                poll.wake.set()

    def record_sent(self, worker: str, fingerprint: object, now: float) -> None:
        """Remember which directives were sent to a worker."""
        if len(self._sent) >= MAX_SENT:
            self._sent = {w: (sent, at) for w, (sent, at) in self._sent.items() if now - at < REPEAT_AFTER_S}
        self._sent[worker] = (fingerprint, now)

    def repeat_at(self, worker: str, fingerprint: object) -> float:
        """When these directives may be sent to a worker; in the past if they were not sent recently."""
        sent, at = self._sent.get(worker, (None, 0.0))
        return at + REPEAT_AFTER_S if sent == fingerprint else 0.0


def _after(prefix: str, key: str) -> str | None:
    """What follows a prefix; None for a key of another kind."""
    return key.removeprefix(prefix) if key.startswith(prefix) else None
