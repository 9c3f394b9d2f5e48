"""Changes of desired state: read through the stream leader, written by compare-and-swap, together with their events."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

import structlog
from pydantic import ValidationError

from edge_broker.audited_bucket import AuditedBucket
from edge_broker.bucket import RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.subjects import DESIRED_BUCKET
from edge_relay.desired.keys import queue_key, site_key, worker_key
from edge_relay.desired.state import DesiredState
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.admin.desired import DesiredQueue, DesiredSite, DesiredWorker
from edge_schemas.wire.base import Outbound

log = structlog.get_logger(__name__)

_E = TypeVar("_E", DesiredWorker, DesiredSite, DesiredQueue)
Describe = Callable[[Outbound, Outbound], AuditEvent]


MARK_LIFE = timedelta(days=1)
"""How long the mark of a deleted entry is kept, for watches that were cut."""


class DesiredStore:
    """Writes desired state; this replica knows a change at once, the others by their watch."""

    def __init__(self, broker: Broker, state: DesiredState) -> None:
        self._bucket = AuditedBucket(broker, DESIRED_BUCKET)
        self._state = state

    async def change_worker(
        self, worker: str, change: Callable[[DesiredWorker], DesiredWorker], describe: Describe
    ) -> tuple[DesiredWorker, DesiredWorker]:
        """Change what is set for a worker; see `_change`."""
        return await self._change(worker_key(worker), DesiredWorker, change, describe)

    async def change_site(
        self, site: str, change: Callable[[DesiredSite], DesiredSite], describe: Describe
    ) -> tuple[DesiredSite, DesiredSite]:
        """Change what is set for a site; see `_change`."""
        return await self._change(site_key(site), DesiredSite, change, describe)

    async def change_queue(
        self, team: str | None, queue: str, change: Callable[[DesiredQueue], DesiredQueue], describe: Describe
    ) -> tuple[DesiredQueue, DesiredQueue]:
        """Change what is set for a queue; see `_change`."""
        return await self._change(queue_key(team, queue), DesiredQueue, change, describe)

    async def forget_worker(self, worker: str) -> None:
        """Nothing is set for a worker that was removed.

        Raises:
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        key = worker_key(worker)
        while (stored := await self._bucket.get(key)).value is not None:
            with suppress(RevisionConflict):
                await self._bucket.delete(key, revision=stored.revision, mark_life=MARK_LIFE)
        self._state.apply(key, None)

    async def _change(self, key: str, model: type[_E], change: Callable[[_E], _E], describe: Describe) -> tuple[_E, _E]:
        """Change an entry; returns it before and after: the same object if the change changes nothing.

        Args:
            key: Of the entry.
            model: Of the entry.
            change: May be called more than once; the version is not its concern.
            describe: Makes the event of the change from the entry before and after.

        Raises:
            EdgeError: What `change` raises.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        while True:
            stored = await self._bucket.get(key)
            before = _read(key, stored.value, model)
            after = change(before)
            if after == before:
                return before, before
            after = after.model_copy(update={"version": before.version + 1})
            try:
                event = describe(before, after)
                await self._bucket.put(key, _dump(after), revision=stored.revision, event=event)
            except RevisionConflict:
                continue
            self._state.written(key, after)
            return before, after


def _dump(entry: DesiredWorker | DesiredSite | DesiredQueue) -> bytes:
    return entry.model_dump_json(exclude_none=True, exclude_defaults=True).encode()


def _read(key: str, value: bytes | None, model: type[_E]) -> _E:
    """An unreadable entry counts as empty, as in memory, and is overwritten: it must not lock operators out."""
    try:
        return model() if value is None else model.model_validate_json(value)
    except ValidationError as error:
        log.warning("desired_state_unreadable", key=key, errors=error.error_count())
        return model()
