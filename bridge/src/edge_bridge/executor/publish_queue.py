"""The jobs that are not in NATS yet, in their order."""

import asyncio
from dataclasses import dataclass, field
from time import monotonic

from edge_schemas.wire.jobs import Job


@dataclass(slots=True)
class Publication:
    """One intent to publish; all its tries use the same message id.

    Attributes:
        recorded: The record exists, only the message is missing. The record may have changed since: a message whose
            acknowledgement was lost can have been delivered, and its job started.
        is_new: A record that exists already belongs to an older dispatch.
        is_repeat: The job was published before; only its message is published again.
        since: Monotonic seconds.
    """

    job: Job
    message_id: str
    recorded: bool
    is_new: bool = False
    is_repeat: bool = False
    since: float = field(default_factory=monotonic)


class PublishQueue:
    """Pending publications: at most one for each job, the newest."""

    def __init__(self) -> None:
        self._pending: dict[str, Publication] = {}
        self._queue: asyncio.Queue[Publication] = asyncio.Queue()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, job: str) -> bool:
        return job in self._pending

    def restart(self) -> None:
        """Queue everything that is pending again, in order: the consumers of this queue start again."""
        self._queue = asyncio.Queue()
        for publication in self._pending.values():
            self._queue.put_nowait(publication)

    def put(self, publication: Publication) -> None:
        """Add a publication; it replaces a pending one of the same job."""
        self._pending[publication.job.id] = publication
        self._idle.clear()
        self._queue.put_nowait(publication)

    def put_again_after(self, delay_s: float, publication: Publication) -> None:
        """Queue a pending publication again after a pause."""
        asyncio.get_running_loop().call_later(delay_s, self._queue.put_nowait, publication)

    async def get(self) -> Publication:
        """The next publication that is still pending."""
        while True:
            publication = await self._queue.get()
            if self._pending.get(publication.job.id) is publication:
                return publication

    def done(self, publication: Publication) -> None:
        """The publication is no longer pending, unless a newer one of its job is."""
        if self._pending.get(publication.job.id) is publication:
            del self._pending[publication.job.id]
        if not self._pending:
            self._idle.set()

    async def wait_empty(self) -> None:
        """Wait until nothing is pending."""
        await self._idle.wait()
