"""What all actions of one call have in common, and what is recorded of each change."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from edge_relay.identity.operators.operator import Operator
from edge_schemas.admin.audit import AuditEvent, TargetKind
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import Availability, WorkerAccess

AVAILABILITY_OF = {"pause": Availability.PAUSED, "drain": Availability.DRAINING, "stop": Availability.STOPPED}
"""What the actions order that make something unavailable."""
RECORDED_AS = {
    "pause": "paused",
    "resume": "resumed",
    "drain": "drain-ordered",
    "stop": "stop-ordered",
    "set-queues": "queues-set",
    "set-slots": "slots-set",
    "set-labels": "labels-set",
    "set": "settings-set",
    "rotate": "rotation-ordered",
    "revoke": "revoked",
    "remove": "removed",
    "resolve": "conflict-resolved",
}
"""How the audit names a change, after the kind of its target."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator wants, apart from the action.

    Attributes:
        at: When the call arrived.
        dry_run: Nothing is changed.
    """

    operator: Operator
    reason: str
    at: datetime
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """The part of a target's state that an action changes, before and after."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def __bool__(self) -> bool:
        return self.before != self.after


NOTHING = Changed({}, {})
"""An action that changes nothing, for example a repeat."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the audit records about the target of an action."""

    kind: TargetKind
    name: str
    site: str | None = None
    queue: str | None = None


def target_of(access: WorkerAccess) -> Target:
    """A worker as a target."""
    return Target(TargetKind.WORKER, access.worker, site=access.site)


def event_of(order: Order, do: str, target: Target, changed: Changed) -> AuditEvent:
    """What the audit says about a change."""
    return AuditEvent(
        at=datetime.now(UTC),
        action=f"{target.kind}-{RECORDED_AS[do]}",
        target_kind=target.kind,
        target=target.name,
        actor=order.operator.actor,
        reason=order.reason,
        site=target.site,
        queue=target.queue,
        before=dict(changed.before),
        after=dict(changed.after),
    )


def check_end(until: datetime | None, now: datetime) -> None:
    """Refuse an order whose time is over before it begins.

    Raises:
        EdgeError: `invalid_request`.
    """
    if until is not None and until <= now:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "until: must be in the future")
