"""Events of the audit: who changed what, why, from where; and what the system found by itself."""

from enum import StrEnum
from typing import Any

from edge_schemas.wire.base import Instant, Outbound


class TargetKind(StrEnum):
    """What an event is about."""

    WORKER = "worker"
    SITE = "site"
    QUEUE = "queue"
    JOB = "job"
    TOKEN = "token"  # noqa: S105


class ActorKind(StrEnum):
    """Who did it."""

    OPERATOR = "operator"
    PRODUCER = "producer"
    WORKER = "worker"
    SYSTEM = "system"


class Actor(Outbound):
    """Who did it.

    Attributes:
        name: Of an operator, a producer or a worker; of the replica or the keeper if it is the system.
        by: How an operator or a producer has signed in.
        token: The name of the access token with which Airflow's api-server called for a user.
        address: Where the call of an operator, a producer or a worker came from.
    """

    kind: ActorKind
    name: str
    by: str | None = None
    token: str | None = None
    address: str | None = None


class AuditEvent(Outbound):
    """One event.

    Attributes:
        sequence: Its number in the stream; 0 until it is stored.
        action: For example `worker-paused`.
        target: The name of the worker, site or queue, or the id of the job or token.
        before: The part of the target's state that was changed.
        after: The same part after the change.
        facts: Further details.
    """

    sequence: int = 0
    at: Instant
    action: str
    target_kind: TargetKind
    target: str
    site: str | None = None
    queue: str | None = None
    actor: Actor
    reason: str | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
