"""A bucket whose entries are written together with the audit event of their change.

The event stays in its entry until `EDGE_AUDIT` has confirmed it. An event is lost for a moment if its process dies or
does not receive the answer to its write. The next process that reads the entry to change it stores the event first;
until then, each relay watches for events that stay, and stores them.
"""

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic

import orjson
import structlog
from pydantic import ValidationError
from typing_extensions import override

from edge_broker.audit import complete, store_event
from edge_broker.bucket import Bucket, RevisionConflict, Stored
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.watched_bucket import WatchedBucket
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.wire.base import Outbound

log = structlog.get_logger(__name__)

AFTER_S = 5.0
"""So long an event may stay before it counts as lost: its process needs milliseconds."""
RETRY_S = 5.0
_FIELD = b'"event":'
_LEAST_LIFE = timedelta(seconds=1)


class AuditedBucket(Bucket):
    """One bucket of the layout; its values are JSON objects without a field `event` of their own."""

    @override
    async def get(self, key: str) -> Stored:
        """The newest value, as `Bucket.get`; the event of its last change is stored first if it was lost.

        Raises:
            BrokerUnavailable: Also if the event could not be stored.
        """
        stored = await super().get(key)
        event = pending_event(stored.value)
        if event is not None:
            await complete(self._broker, event)
        return stored

    @override
    async def put(
        self,
        key: str,
        value: bytes,
        *,
        revision: int | None = None,
        newest: int | None = None,
        life: timedelta | None = None,
        event: AuditEvent | None = None,
    ) -> int:
        """Write a value, and the event of the change, and return the revision; as `Bucket.put` without an event.

        Args:
            key: Subject tokens.
            value: The new value.
            revision: As `get` returned it; 0 means the key must be new.
            newest: As for `Bucket.put`.
            life: Remove the value after this time.
            event: What the audit says about the change; None if the audit does not record it.

        Raises:
            RevisionConflict: The key has another revision.
            BrokerUnavailable: The outcome is unknown; if the value was written, its event is not lost.
        """
        written = await super().put(key, carry(value, event), revision=revision, newest=newest, life=life)
        if event is None:
            return written
        try:
            await store_event(self._broker, event)
        except BrokerUnavailable as error:
            log.debug("audit_event_pending", subject=event.action, error=str(error))
            return written
        except JetStreamError as error:
            log.warning("audit_event_lost", subject=event.action, error=str(error))
        with suppress(RevisionConflict, BrokerUnavailable):
            return await super().put(key, value, revision=written, life=life)
        return written

    async def settle(self, key: str) -> None:
        """Store the event of the last change if it was lost, and remove it from its entry.

        Raises:
            BrokerUnavailable: Try again.
        """
        stored = await self.get(key)
        if stored.value is not None and pending_event(stored.value) is not None:
            life = None if stored.ends_at is None else max(stored.ends_at - datetime.now(UTC), _LEAST_LIFE)
            with suppress(RevisionConflict):  # by another process that settles it, or by one that carries it on
                await self.put(key, _without(stored.value), revision=stored.revision, life=life)


class PendingEvents:
    """Stores the events that stayed in entries because their process died or lost NATS. Run `run()` in a task group."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        # Different for each process, so that mostly one of them acts.
        self._after_s = AFTER_S * random.uniform(1, 2)  # noqa: S311  # nothing secret
        self._due: dict[tuple[AuditedBucket, str], float] = {}
        self._kick = asyncio.Event()

    def follow(self, watched: WatchedBucket) -> None:
        """Look for events in all that a watch shows, from its first listing on."""
        watched.on_value(partial(self._note, AuditedBucket(self._broker, watched.bucket)))

    async def run(self) -> None:
        """Store them when they are due, until cancelled. While NATS is unreachable they stay where they are."""
        while True:
            self._kick.clear()
            for place in [place for place, at in self._due.items() if at <= monotonic()]:
                await self._settle(*place)
            pause_s = max(0.0, min(self._due.values()) - monotonic()) if self._due else None
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._kick.wait()

    async def _settle(self, bucket: AuditedBucket, key: str) -> None:
        self._due.pop((bucket, key), None)
        try:
            await bucket.settle(key)
        except (BrokerUnavailable, JetStreamError) as error:
            log.debug("audit_event_not_settled", bucket=bucket.name, key=key, error=str(error))
            self._due[bucket, key] = monotonic() + RETRY_S

    def _note(self, bucket: AuditedBucket, key: str, value: bytes | None) -> None:
        if pending_event(value) is None:
            self._due.pop((bucket, key), None)
        elif (bucket, key) not in self._due:
            self._due[bucket, key] = monotonic() + self._after_s
            self._kick.set()


class _Written(Outbound):
    """What is written with a value; readers of the value ignore it."""

    event: AuditEvent | None = None


def pending_event(value: bytes | None) -> AuditEvent | None:
    """The event that was written with a value and is not known to be stored; None for most values."""
    if value is None or _FIELD not in value:
        return None
    try:
        return _Written.model_validate_json(value).event
    except ValidationError:
        return None  # a value of another form; who reads it reports it


def carry(value: bytes, event: AuditEvent | None) -> bytes:
    """A value with an event that is not known to be stored; None adds nothing."""
    if event is None:
        return value
    return orjson.dumps(orjson.loads(value) | _Written(event=event).model_dump(mode="json", exclude_none=True))


def _without(value: bytes) -> bytes:
    return orjson.dumps({name: content for name, content in orjson.loads(value).items() if name != "event"})
