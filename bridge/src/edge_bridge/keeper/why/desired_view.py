"""What operators have set, in the keeper's memory; read only."""

import structlog
from pydantic import ValidationError

from edge_broker.connection.broker import Broker
from edge_broker.subjects import DESIRED_BUCKET, queue_token
from edge_broker.watched_bucket import WatchedBucket
from edge_schemas.admin.desired import (
    QUEUE_PREFIX,
    SITE_PREFIX,
    WORKER_PREFIX,
    AvailabilityOrder,
    DesiredEntry,
    DesiredQueue,
    DesiredWorker,
    read_desired,
)

log = structlog.get_logger(__name__)


class DesiredView:
    """Follows the bucket `edge_desired`. Run `run()` in a task group."""

    def __init__(self, broker: Broker) -> None:
        self._watched = WatchedBucket(broker, DESIRED_BUCKET, self._apply)
        self._entries: dict[str, DesiredEntry] = {}

    async def run(self) -> None:
        """Follow the bucket, forever."""
        await self._watched.run()

    @property
    def complete(self) -> bool:
        """Everything is known."""
        return self._watched.complete.is_set()

    def orders(self, worker: str, site: str) -> tuple[AvailabilityOrder | None, AvailabilityOrder | None]:
        """The orders of a worker and of its site."""
        own, of_site = self._entries.get(WORKER_PREFIX + worker), self._entries.get(SITE_PREFIX + site)
        return (None if own is None else own.order), (None if of_site is None else of_site.order)

    def queues_of(self, worker: str) -> tuple[str, ...] | None:
        """The queues that operators have set for a worker; None for those of its enrolment."""
        entry = self._entries.get(WORKER_PREFIX + worker)
        return entry.queues if isinstance(entry, DesiredWorker) else None

    def queue(self, team: str | None, queue: str) -> DesiredQueue:
        """What is set for a queue."""
        entry = self._entries.get(QUEUE_PREFIX + queue_token(team, queue))
        return entry if isinstance(entry, DesiredQueue) else DesiredQueue()

    def _apply(self, key: str, value: bytes | None) -> None:
        entry = None
        try:
            entry = None if value is None else read_desired(key, value)
        except ValidationError as error:
            log.warning("desired_state_unreadable", key=key, errors=error.error_count())
        if entry is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = entry
