"""What operators see, for tests."""

from datetime import UTC, datetime
from typing import Any

from edge_broker.bucket import Bucket, RevisionConflict
from edge_broker.jetstream.direct_get import read_batch
from edge_broker.subjects import ACCESS_BUCKET, AUDIT
from edge_relay.identity.access_keys import ACCESS_PREFIX
from edge_schemas.admin.access import AccessScope, AccessTokenEntry, Role
from edge_schemas.admin.audit import Actor, ActorKind, AuditEvent, TargetKind
from edge_schemas.wire.workers import SecretKind, hash_secret, new_secret
from support.relay.edge import Edge


async def listed(edge: Edge, route: str, *, replica: int = 0, **query: Any) -> list[dict[str, Any]]:
    """The rows of the first page."""
    text = "&".join(f"{name}={value}" for name, value in query.items())
    reply = await edge.admin("GET", f"{route}?{text}", replica=replica)
    assert reply.status == 200, reply.body
    return list(reply.json["items"])


async def token(edge: Edge, scope: AccessScope, role: Role = Role.VIEWER) -> str:
    """A new access token with this scope."""
    secret = new_secret(SecretKind.ACCESS)
    entry = AccessTokenEntry(name="limited", role=role, scope=scope, created_at=datetime.now(UTC))
    key = ACCESS_PREFIX + hash_secret(secret)
    await Bucket(edge.broker, ACCESS_BUCKET).put(key, entry.model_dump_json(exclude_none=True).encode(), revision=0)
    return secret


async def revoke_access(edge: Edge, secret: str) -> None:
    """Revoke an access token."""
    bucket, key = Bucket(edge.broker, ACCESS_BUCKET), ACCESS_PREFIX + hash_secret(secret)
    while True:
        stored = await bucket.get(key)
        assert stored.value is not None
        entry = AccessTokenEntry.model_validate_json(stored.value)
        revoked = entry.model_copy(update={"revoked_at": datetime.now(UTC)})
        try:
            await bucket.put(key, revoked.model_dump_json(exclude_none=True).encode(), revision=stored.revision)
        except RevisionConflict:
            continue  # a relay has written the last use
        return


async def audit(edge: Edge, kind: str) -> list[AuditEvent]:
    """All events about one kind of target, the oldest first."""
    found = await read_batch(edge.broker, AUDIT, f"edge.audit.{kind}.>", after=0, max_messages=1000, max_bytes=8 << 20)
    return [AuditEvent.model_validate_json(message.data) for message in found.messages]


def worker_event(action: str, worker: str) -> AuditEvent:
    """What an operator's change of a worker is recorded as."""
    actor = Actor(kind=ActorKind.OPERATOR, name="ann", address="192.0.2.7")
    return AuditEvent(
        at=datetime.now(UTC), action=action, target_kind=TargetKind.WORKER, target=worker, actor=actor, reason="a test"
    )
