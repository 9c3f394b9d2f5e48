"""The audit, as JSON events on `edge.audit.<kind>.<target>.<action>`; the stream `EDGE_AUDIT` keeps them.

An event never fails the action that it reports. One that NATS has not confirmed is sent again after the next reconnect;
the stream stores it once.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pydantic import ValidationError

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.jetstream.append import Appended, append
from edge_broker.jetstream.stored import last_message
from edge_broker.subjects import AUDIT, audit_subject
from edge_schemas.admin.audit import Actor, ActorKind, AuditEvent, TargetKind

log = structlog.get_logger(__name__)

Fact = str | int | float | None
AUDIT_LIFE = timedelta(days=90)
"""An event that is older has been removed, and is not stored again."""
MAX_UNCONFIRMED = 1_000
"""So many events wait for a reconnect; then the oldest is dropped, and logged."""


@dataclass(frozen=True, slots=True)
class _Message:
    """An event on its way; the stream stores a message of the same id once."""

    subject: str
    payload: bytes
    id: str


class Audit:
    """Publishes the audit events of one process.

    Args:
        name: Of the process, for example `relay eu-1`; the actor of what it does by itself.
    """

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self._system = Actor(kind=ActorKind.SYSTEM, name=name)
        self.unconfirmed: deque[_Message] = deque()  # lost with the process
        self._resending: asyncio.Task[None] | None = None
        broker.on_connection(self._resend_soon)

    async def record(
        self,
        action: str,
        kind: TargetKind,
        target: str,
        *,
        actor: Actor | None = None,
        reason: str | None = None,
        site: str | None = None,
        queue: str | None = None,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        facts: Mapping[str, Fact] | None = None,
    ) -> None:
        """Store one event; while NATS does not answer, keep it until the next reconnect.

        Args:
            action: A subject token, for example `worker-revoked`.
            kind: What the event is about.
            target: Its name or id.
            actor: Who did it; None for this process.
            reason: Why.
            site: Of the target, where it has one.
            queue: Of the target, where it has one.
            before: The part of the target's state that was changed; no secret.
            after: The same part after the change.
            facts: Details of the action; no secret.
        """
        event = AuditEvent(
            at=datetime.now(UTC),
            action=action,
            target_kind=kind,
            target=target,
            site=site,
            queue=queue,
            actor=actor or self._system,
            reason=reason,
            before=None if before is None else dict(before),
            after=None if after is None else dict(after),
            facts=_facts(facts),
        )
        await self._send(replace(_message(event), id=uuid.uuid4().hex))

    async def store(self, event: AuditEvent) -> None:
        """Store an event that was written with its change: several processes may, and the stream keeps one."""
        await self._send(_message(event))

    async def complete(self, event: AuditEvent) -> None:
        """Store an event unless it is stored; see `complete`."""
        await complete(self._broker, event)

    async def record_after(
        self,
        action: str,
        kind: TargetKind,
        target: str,
        *,
        after: int,
        site: str | None = None,
        facts: Mapping[str, Fact] | None = None,
    ) -> bool:
        """Store an event that several processes may have found: only behind the last one of this action and target.

        Args:
            action: As for `record`, like all that follows.
            kind: What it is about.
            target: Its name or id.
            after: The number in the stream of the last event of this action and target; 0 if there is none.
            site: Of the target.
            facts: Details.

        Returns:
            Whether it was stored; if not, another process has stored one.

        Raises:
            JetStreamError: The stream refused it.
            BrokerUnavailable: The outcome is unknown.
        """
        event = AuditEvent(
            at=datetime.now(UTC),
            action=action,
            target_kind=kind,
            target=target,
            site=site,
            actor=self._system,
            facts=_facts(facts),
        )
        stored = await append(self._broker, audit_subject(kind, target, action), _dump(event), after=after)
        return isinstance(stored, Appended)

    async def _send(self, message: _Message) -> None:
        try:
            await _publish(self._broker, message)
        except BrokerUnavailable:
            if len(self.unconfirmed) >= MAX_UNCONFIRMED:
                dropped = self.unconfirmed.popleft()
                log.warning("audit_event_lost", subject=dropped.subject, error="too many wait for NATS")
            self.unconfirmed.append(message)
        except JetStreamError as error:
            log.warning("audit_event_lost", subject=message.subject, error=str(error))

    def _resend_soon(self) -> None:
        if self.unconfirmed and (self._resending is None or self._resending.done()):
            self._resending = asyncio.create_task(self._resend(), name="audit-resend")

    async def _resend(self) -> None:
        for _ in range(len(self.unconfirmed)):
            await self._send(self.unconfirmed.popleft())


async def store_event(broker: Broker, event: AuditEvent) -> None:
    """Store an event that was written with its change; the stream keeps one of several that are sent within minutes.

    Raises:
        JetStreamError: The stream refused it.
        BrokerUnavailable: The outcome is unknown.
    """
    await _publish(broker, _message(event))


async def complete(broker: Broker, event: AuditEvent) -> None:
    """Store an event unless it is stored: its process may have died, or have lost the answer to its change.

    Args:
        broker: The connection.
        event: The last one of this action and target.

    Raises:
        BrokerUnavailable: It can't be found out.
    """
    if datetime.now(UTC) - event.at >= AUDIT_LIFE:
        return
    try:
        last = await last_event(broker, event.action, event.target_kind, event.target)
        # Clocks of replicas differ: an earlier event of this action may have a later time.
        if last is None or last.at != event.at:
            await store_event(broker, event)
    except JetStreamError as error:
        log.warning("audit_event_lost", subject=event.action, error=str(error))


async def last_event(broker: Broker, action: str, kind: TargetKind, target: str) -> AuditEvent | None:
    """The last event of this action and target; None if there is none. One that can't be read has its number only.

    Raises:
        JetStreamError: There is no such stream.
        BrokerUnavailable: No answer.
    """
    message = await last_message(broker, AUDIT, audit_subject(kind, target, action))
    if message is None:
        return None
    try:
        event = AuditEvent.model_validate_json(message.data)
    except ValidationError:
        unknown = Actor(kind=ActorKind.SYSTEM, name="unknown")
        event = AuditEvent(at=message.stored_at, action=action, target_kind=kind, target=target, actor=unknown)
    return event.model_copy(update={"sequence": message.sequence})


async def _publish(broker: Broker, message: _Message) -> None:
    await broker.store(message.subject, message.payload, {"Nats-Msg-Id": message.id})


def _message(event: AuditEvent) -> _Message:
    subject = audit_subject(event.target_kind, event.target, event.action)
    return _Message(subject, _dump(event), f"{subject}@{event.at.isoformat()}")


def _facts(facts: Mapping[str, Fact] | None) -> dict[str, Any] | None:
    return {name: value for name, value in (facts or {}).items() if value is not None} or None


def _dump(event: AuditEvent) -> bytes:
    return event.model_dump_json(exclude_none=True, exclude={"sequence"}).encode()
