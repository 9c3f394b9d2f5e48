"""The polls that are parked on this replica, and what can wake them. A notice only wakes: who is woken looks."""

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
"""What a worker was just told is not told again before this: it may need some time to make its report agree."""
MAX_TOLD = 20_000


@dataclass(eq=False, slots=True)
class ParkedPoll:
    """One poll, from its arrival to its answer.

    Attributes:
        worker: Who polls.
        secret_hash: The credential it came with.
        agent: Who polls, as seen when the poll arrived; its `arrival` tells it from every other poll of this worker.
        known: The worker's entry, as last seen; None until the poll's arrival is in it.
        look: State that concerns it may have changed since it was last read.
        noticed: Somebody said so who is not this replica: perhaps a newer poll arrived elsewhere.
        outdone_by: A newer poll of this agent, or of a newer agent, that arrived here.
    """

    worker: str
    secret_hash: str
    poll: Poll
    agent: AgentSeen
    known: StoredEntry | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    look: bool = True
    noticed: bool = False
    superseded_by: AgentSeen | None = None
    demand: PollDemand = field(init=False)

    def __post_init__(self) -> None:
        self.demand = PollDemand(self.poll.free, self.wake.set, airflow=self.poll.versions.airflow)


class ParkedPolls:
    """All polls of this replica that have no answer yet."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._by_worker: dict[str, set[ParkedPoll]] = {}
        self._told: dict[str, tuple[object, float]] = {}

    @contextmanager
    def parked(self, poll: ParkedPoll) -> Iterator[None]:
        """Let a poll be woken while inside. Enter before its arrival is written: from then on notices concern it."""
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
        """This poll is in its worker's entry: those that are parked here and count no more by that are outdone."""
        poll.known = known
        for other in self._by_worker.get(poll.worker, ()):
            if other.known is None or other.known.revision >= known.revision:
                continue  # it arrived later: that it is not in this entry says nothing
            current = current_arrival(known.entry, other.agent)
            if current.arrival != other.agent.arrival:
                other.superseded_by = current
                other.wake.set()

    def notice(self, worker: str, payload: bytes) -> None:
        """A notice for a worker: its own arrival is no news to a poll, anything else is."""
        for poll in self._by_worker.get(worker, ()):
            if payload != poll.agent.arrival.encode():
                poll.look = poll.noticed = True
                poll.wake.set()

    def credential_changed(self, secret_hash: str) -> None:
        """Wake the polls that came with this credential."""
        for polls in self._by_worker.values():
            for poll in polls:
                if poll.secret_hash == secret_hash:
                    poll.wake.set()

    def wake_all(self) -> None:
        """The replica stops."""
        for polls in self._by_worker.values():
            for poll in polls:
                poll.wake.set()

    def recheck_all(self) -> None:
        """The broker came back: notices may have been lost, so everybody looks."""
        for polls in self._by_worker.values():
            for poll in polls:
                poll.look = poll.noticed = True
                poll.wake.set()

    def told(self, worker: str, what: object, now: float) -> None:
        """Remember what a worker was told besides grants."""
        if len(self._told) >= MAX_TOLD:
            self._told = {w: (said, at) for w, (said, at) in self._told.items() if now - at < REPEAT_AFTER_S}
        self._told[worker] = (what, now)

    def repeat_at(self, worker: str, what: object) -> float:
        """When a worker may be told this; in the past if it was not told lately."""
        said, at = self._told.get(worker, (None, 0.0))
        return at + REPEAT_AFTER_S if said == what else 0.0
