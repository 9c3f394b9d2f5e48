"""The audit, as JSON events on `edge.audit.<kind>.<target>.<action>`; the stream `EDGE_AUDIT` keeps them.

Best effort: an event never delays or fails the action that it reports.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from edge_broker.connection.broker import Broker
from edge_broker.subjects import audit_subject
from edge_schemas.admin.audit import Actor, ActorKind, AuditEvent, TargetKind

Fact = str | int | float | None


class Audit:
    """Publishes the audit events of one process.

    Args:
        name: Of the process, for example `relay eu-1`; the actor of what it does by itself.
    """

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self._system = Actor(kind=ActorKind.SYSTEM, name=name)

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
        """Publish one event.

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
            facts={name: value for name, value in (facts or {}).items() if value is not None} or None,
        )
        stored = event.model_dump_json(exclude_none=True, exclude={"sequence"}).encode()
        await self._broker.publish(audit_subject(kind, target, action), stored)
