"""Changes of desired state: read through the stream leader, written by compare-and-swap.

An entry is written together with the audit event of its last change. So an event that was lost, because a replica died
or did not receive the answer to its write, is stored before the entry is changed again, and when the call is repeated.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

import orjson
import structlog
from pydantic import ValidationError

from edge_broker.audit import Audit
from edge_broker.bucket import Bucket, RevisionConflict, Stored
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

    def __init__(self, broker: Broker, state: DesiredState, audit: Audit) -> None:
        self._audit = audit
        self._audited: dict[str, int] = {}
        self._bucket = Bucket(broker, DESIRED_BUCKET)
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
            await self._complete_audit(key, stored)
            with suppress(RevisionConflict):
                await self._bucket.delete(key, revision=stored.revision, mark_life=MARK_LIFE)
        self._audited.pop(key, None)
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
            earlier = await self._complete_audit(key, stored)
            before = _read(key, stored.value, model)
            after = change(before)
            if after == before:
                return before, before
            after = after.model_copy(update={"version": before.version + 1})
            event = _after(earlier, describe(before, after))
            try:
                revision = await self._bucket.put(key, _dump(after, event), revision=stored.revision)
            except RevisionConflict:
                continue
            self._state.written(key, after)
            await self._audit.store(event)
            self._audited[key] = revision
            return before, after

    async def _complete_audit(self, key: str, stored: Stored) -> AuditEvent | None:
        """Store the event of the last change if it was lost; returns the event, if there was a change."""
        event = None if stored.value is None else _event(stored.value)
        if event is not None and self._audited.get(key) != stored.revision:
            await self._audit.complete(event)
            self._audited[key] = stored.revision
        return event


class _Written(Outbound):
    """What is written with an entry; readers of the entry ignore it."""

    event: AuditEvent | None = None


def _event(value: bytes) -> AuditEvent | None:
    try:
        return _Written.model_validate_json(value).event
    except ValidationError:
        return None  # `_read` reports the entry


def _after(earlier: AuditEvent | None, event: AuditEvent) -> AuditEvent:
    """The event, dated after the one before: clocks of replicas differ, and its time says whether the audit has it."""
    if earlier is None or event.at > earlier.at:
        return event
    return event.model_copy(update={"at": earlier.at + timedelta(microseconds=1)})


def _dump(entry: DesiredWorker | DesiredSite | DesiredQueue, event: AuditEvent) -> bytes:
    content = entry.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return orjson.dumps(content | _Written(event=event).model_dump(mode="json", exclude_none=True))


def _read(key: str, value: bytes | None, model: type[_E]) -> _E:
    """An unreadable entry counts as empty, as in memory, and is overwritten: it must not lock operators out."""
    try:
        return model() if value is None else model.model_validate_json(value)
    except ValidationError as error:
        log.warning("desired_state_unreadable", key=key, errors=error.error_count())
        return model()
