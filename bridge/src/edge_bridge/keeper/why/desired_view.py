"""What operators have set, in the keeper's memory; read only."""

import structlog
from pydantic import ValidationError

from edge_broker.connection.broker import Broker
from edge_broker.subjects import DESIRED_BUCKET, queue_token
from edge_broker.watched_bucket import WatchedBucket
from edge_schemas.admin.desired import AvailabilityOrder, DesiredQueue, DesiredSite, DesiredWorker

log = structlog.get_logger(__name__)

_MODELS: dict[str, type[DesiredWorker] | type[DesiredSite] | type[DesiredQueue]] = {
    "worker": DesiredWorker,
    "site": DesiredSite,
    "queue": DesiredQueue,
}


class DesiredView:
    """Follows the bucket `edge_desired`. Run `run()` in a task group."""

    def __init__(self, broker: Broker) -> None:
        self._watched = WatchedBucket(broker, DESIRED_BUCKET, self._apply)
        self._entries: dict[str, DesiredWorker | DesiredSite | DesiredQueue] = {}

    async def run(self) -> None:
        """Follow the bucket, forever."""
        await self._watched.run()

    @property
    def complete(self) -> bool:
        """Everything is known."""
        return self._watched.complete.is_set()

    def orders(self, worker: str, site: str) -> tuple[AvailabilityOrder | None, AvailabilityOrder | None]:
        """The orders of a worker and of its site."""
        own, of_site = self._entries.get(f"worker.{worker}"), self._entries.get(f"site.{site}")
        return (None if own is None else own.order), (None if of_site is None else of_site.order)

    def queues_of(self, worker: str) -> tuple[str, ...] | None:
        """The queues that operators have set for a worker; None for those of its enrolment."""
        entry = self._entries.get(f"worker.{worker}")
        return entry.queues if isinstance(entry, DesiredWorker) else None

    def queue(self, team: str | None, queue: str) -> DesiredQueue:
        """What is set for a queue."""
        entry = self._entries.get(f"queue.{queue_token(team, queue)}")
        return entry if isinstance(entry, DesiredQueue) else DesiredQueue()

    def _apply(self, key: str, value: bytes | None) -> None:
        model = _MODELS.get(key.partition(".")[0])
        if value is None or model is None:
            self._entries.pop(key, None)
            return
        try:
            self._entries[key] = model.model_validate_json(value)
        except ValidationError as error:
            log.warning("desired_state_unreadable", key=key, errors=error.error_count())
            self._entries.pop(key, None)
