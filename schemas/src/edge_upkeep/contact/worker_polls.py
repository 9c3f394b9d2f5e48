"""What each worker's polls say about contact with the jobs that they name."""

from edge_schemas.wire.worker_entry import WorkerContact
from edge_upkeep.contact.contact_clock import ContactClock


class WorkerPolls:
    """The last known poll of each worker; its arrival is contact. Pure."""

    def __init__(self, clock: ContactClock) -> None:
        self._clock = clock
        self._polls: dict[str, WorkerContact] = {}

    def record(self, worker: str, poll: WorkerContact, now: float, *, is_arriving: bool) -> set[str]:
        """A poll was found; returns the jobs that the worker no longer names.

        Args:
            worker: Its name.
            poll: May be the one that is known.
            now: Monotonic seconds.
            is_arriving: It has just arrived. Otherwise it was stored earlier, and only the relay's clock dates it.
        """
        known = self._polls.get(worker)
        self._polls[worker] = poll
        if known is not None and known.agent.arrival == poll.agent.arrival:
            return set()
        if is_arriving:
            self._clock.record_sign(now)
        named = {job.id for job in poll.jobs}
        for job in named:
            if is_arriving:
                self._clock.record_contact((worker, job), now)
            else:
                self._clock.record_stored_contact((worker, job), now, poll.relay, poll.agent.last_poll_at)
        return set() if known is None else {job.id for job in known.jobs} - named

    def forget(self, worker: str) -> None:
        """The worker's entry is gone. Its silence continues to count: it may still have jobs."""
        self._polls.pop(worker, None)
