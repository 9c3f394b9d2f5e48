"""What each worker's polls say about contact with the jobs that they name."""

from collections.abc import Callable

from pydantic import ValidationError

from edge_schemas.wire.worker_entry import WorkerContact, WorkerEntry
from edge_upkeep.contact.contact_clock import ContactClock

Poll = WorkerEntry | WorkerContact
"""A worker's last poll; only what every version reads if a later version wrote it."""


def read_poll(value: bytes, on_unreadable: Callable[[ValidationError], None]) -> Poll | None:
    """What is stored of a worker's last poll: as a whole, or of one that can't be read so what shows contact.

    A later version must not make a worker silent.

    Args:
        value: From the bucket of workers.
        on_unreadable: Called if it can't be read as a whole.
    """
    try:
        return WorkerEntry.model_validate_json(value)
    except ValidationError as error:
        on_unreadable(error)
    try:
        return WorkerContact.model_validate_json(value)
    except ValidationError:
        return None


class WorkerPolls:
    """The last known poll of each worker; its arrival is contact. Pure."""

    def __init__(self, clock: ContactClock) -> None:
        self._clock = clock
        self._polls: dict[str, Poll] = {}

    def record(self, worker: str, poll: Poll, now: float, *, is_arriving: bool) -> set[str]:
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
