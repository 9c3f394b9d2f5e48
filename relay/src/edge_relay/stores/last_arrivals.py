"""The arrivals that this replica wrote last: the next poll of the same worker can be written without a read."""

from collections import OrderedDict
from dataclasses import dataclass

from edge_schemas.life.agents import is_same_agent
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry

MAX_LAST = 10_000


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as it was in the bucket; of two, the one with the higher revision is newer."""

    entry: WorkerEntry
    revision: int


class LastArrivals:
    """One arrival for each worker. What is known here may be outdated: another replica may have written a newer one."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, StoredEntry] = OrderedDict()
        self._idle: set[str] = set()

    def keep(self, stored: StoredEntry) -> None:
        """Keep an entry for the next arrival, without its jobs: they decide nothing there, and there may be many."""
        self.take(stored.entry.worker)
        if stored.entry.jobs:
            stored = StoredEntry(stored.entry.model_copy(update={"jobs": ()}), stored.revision)
        self._last[stored.entry.worker] = stored
        while len(self._last) > MAX_LAST:
            self.take(next(iter(self._last)))

    def take(self, worker: str) -> StoredEntry | None:
        """The last arrival of a worker, which is forgotten."""
        self._idle.discard(worker)
        return self._last.pop(worker, None)

    def answered_empty(self, worker: str, arrival: str) -> None:
        """This poll of a worker was answered, and there was nothing to send."""
        last = self._last.get(worker)
        if last is not None and last.entry.agent.arrival == arrival:
            self._idle.add(worker)

    def is_routine(self, worker: str, agent: AgentSeen) -> bool:
        """Whether a poll only continues a worker's last one: the same agent polls again after an empty answer.

        True for one poll: what the agent sends before this poll is answered is news.
        """
        if worker not in self._idle:
            return False
        self._idle.discard(worker)
        return is_same_agent(self._last[worker].entry.agent, agent)
