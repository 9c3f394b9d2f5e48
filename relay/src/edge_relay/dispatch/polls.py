"""The polls that are parked on this replica, and what can wake them.

A notice only wakes a poll; the poll then reads the state.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from edge_relay.dispatch.pull_accounting import PollDemand
from edge_relay.metrics.replica import Metrics
from edge_relay.stores.worker_store import StoredEntry
from edge_schemas.life.agents import current_arrival
from edge_schemas.wire.polls import Poll
from edge_schemas.wire.worker_entry import AgentSeen

REPEAT_AFTER_S = 1.0
"""The same directives are not sent again before this: the worker may need some time until its report agrees."""
MAX_SENT = 20_000


@dataclass(eq=False, slots=True)
class ParkedPoll:
    """One poll, from its arrival to its answer.

    Attributes:
        worker: The worker that polls.
        secret_hash: Of its credential.
        agent: The agent that polls, as seen when the poll arrived; `arrival` identifies this poll among the worker's.
        known: The worker's entry, as last seen; None until the poll's arrival is in it.
        is_stale: State that concerns the poll may have changed since it was last read.
        is_notified: The reason is a notice, perhaps of a newer poll that arrived at another replica.
        superseded_by: A newer poll of this agent, or of a newer agent, that arrived here.
    """

    worker: str
    secret_hash: str
    poll: Poll
    agent: AgentSeen
    known: StoredEntry | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    is_stale: bool = True
    is_notified: bool = False
    superseded_by: AgentSeen | None = None
    demand: PollDemand = field(init=False)

    def __post_init__(self) -> None:
        self.demand = PollDemand(
            self.poll.free, self.wake.set, airflow=self.poll.versions.airflow, auxiliary=self.poll.auxiliary
        )


class ParkedPolls:
    """All polls of this replica that have no answer yet."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._by_worker: dict[str, set[ParkedPoll]] = {}
        self._sent: dict[str, tuple[object, float]] = {}

    @contextmanager
    def parked(self, poll: ParkedPoll) -> Iterator[None]:
        """Make a poll wakeable while inside. Enter before its arrival is written: notices concern it from then on."""
        self._by_worker.setdefault(poll.worker, set()).add(poll)
        self._metrics.polls_parked.inc()
        try:
            yield
        finally:
            self._metrics.polls_parked.dec()
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

    def credential_changed(self, secret_hash: str) -> None:
        """Wake the polls of this credential."""
        for polls in self._by_worker.values():
            for poll in polls:
                if poll.secret_hash == secret_hash:
                    poll.wake.set()

    def wake_all(self) -> None:
        """Wake all polls: the replica stops."""
        for polls in self._by_worker.values():
            for poll in polls:
                poll.wake.set()

    def recheck_all(self) -> None:
        """Wake all polls to read the state: notices may have been lost while the broker was unreachable."""
        for polls in self._by_worker.values():
            for poll in polls:
                poll.is_stale = poll.is_notified = True
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
