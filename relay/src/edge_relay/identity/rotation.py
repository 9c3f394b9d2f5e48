"""Rotation of a worker's secret: the worker registers the hash of a new secret; its first use makes it the valid one.

The key of a worker's entry stays the hash of its first secret. A later secret has an alias in the same bucket, which
leads a replica that does not know the secret to the entry. The entry decides which secrets are valid, so an alias that
a crash has left grants nothing.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from edge_broker.audited_bucket import AuditedBucket
from edge_broker.bucket import RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.identity.access_keys import WORKER_PREFIX, dump
from edge_schemas.admin.audit import Actor, ActorKind, AuditEvent, TargetKind
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import SecretAlias, WorkerAccess

MARK_LIFE = timedelta(days=1)

Change = Callable[[WorkerAccess], WorkerAccess]
"""Returns the same object if there is nothing to change; may be called more than once."""
Describe = Callable[[WorkerAccess, WorkerAccess], AuditEvent]
"""What the audit says about a change of an entry, from the entry before and after."""


class SecretRotation:
    """The steps of a rotation. Each may be repeated, and a crash between two of them leaves a valid secret."""

    def __init__(self, broker: Broker) -> None:
        self._bucket = AuditedBucket(broker, ACCESS_BUCKET)

    async def request(self, identity: str, describe: Describe) -> tuple[WorkerAccess, WorkerAccess]:
        """Ask the worker for a new secret; returns its entry before and after. A repeat changes nothing meanwhile.

        A secret that was registered and never used is asked for again: its worker may have lost it.

        Args:
            identity: The hash in the key of the worker's entry.
            describe: For the audit.

        Raises:
            EdgeError: `not_found`, or `wrong_state`: the worker is revoked.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        return await self._change(identity, asked_to_rotate, describe)

    async def register(self, identity: str, secret_hash: str, rotation: int) -> WorkerAccess:
        """Store the hash of the worker's next secret.

        Args:
            identity: The hash in the key of the worker's entry.
            secret_hash: Of the new secret.
            rotation: The one that it is for.

        Raises:
            EdgeError: `credential_revoked`, or `wrong_state`: no such rotation is asked for, another secret was
                registered for it, or the secret is in use.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """

        def register(entry: WorkerAccess) -> WorkerAccess:
            _require_active(entry, ErrorCode.CREDENTIAL_REVOKED)
            if secret_hash in {entry.current_hash, entry.next_hash}:
                return entry
            if rotation != entry.settings.rotation or rotation <= entry.rotated:
                raise EdgeError(ErrorCode.WRONG_STATE, f"rotation {rotation} is not asked for")
            if entry.next_rotation == rotation:
                raise EdgeError(ErrorCode.WRONG_STATE, "another secret is registered for this rotation")
            return entry.model_copy(update={"next_hash": secret_hash, "next_rotation": rotation})

        register(await self._require(identity))
        await self._put_alias(secret_hash, identity)
        before, after = await self._change(identity, register)
        if before.next_hash is not None and before.next_hash != after.next_hash:
            await self._delete_alias(before.next_hash, identity)
        return after

    async def confirm(self, identity: str, secret_hash: str) -> WorkerAccess:
        """The registered secret is used for the first time: from now on the older one is refused.

        Raises:
            EdgeError: `not_found`.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """

        def confirm(entry: WorkerAccess) -> WorkerAccess:
            if entry.next_hash != secret_hash:
                return entry
            done = {"current_hash": secret_hash, "rotated": entry.next_rotation, "next_hash": None}
            return entry.model_copy(update={**done, "next_rotation": None})

        before, after = await self._change(identity, confirm, _rotated)
        if after is not before and before.current_hash is not None:
            await self._delete_alias(before.current_hash, identity)
        return after

    async def forget(self, entry: WorkerAccess) -> None:
        """Delete the aliases of a worker that was removed."""
        for secret_hash in {entry.current_hash, entry.next_hash} - {None}:
            await self._delete_alias(str(secret_hash), entry.secret_hash)

    async def _require(self, identity: str) -> WorkerAccess:
        stored = await self._bucket.get(WORKER_PREFIX + identity)
        if stored.value is None:
            raise EdgeError(ErrorCode.NOT_FOUND, "there is no such worker")
        return WorkerAccess.model_validate_json(stored.value)

    async def _change(
        self, identity: str, change: Change, describe: Describe | None = None
    ) -> tuple[WorkerAccess, WorkerAccess]:
        key = WORKER_PREFIX + identity
        while True:
            stored = await self._bucket.get(key)
            if stored.value is None:
                raise EdgeError(ErrorCode.NOT_FOUND, "there is no such worker")
            before = WorkerAccess.model_validate_json(stored.value)
            after = change(before)
            if after is before:
                return before, before
            with suppress(RevisionConflict):
                event = None if describe is None else describe(before, after)
                await self._bucket.put(key, dump(after), revision=stored.revision, event=event)
                return before, after

    async def _put_alias(self, secret_hash: str, identity: str) -> None:
        key = WORKER_PREFIX + secret_hash
        stored = await self._bucket.get(key)
        if stored.value is None:
            value = SecretAlias(alias_of=identity).model_dump_json().encode()
            try:
                await self._bucket.put(key, value, revision=stored.revision)
                return
            except RevisionConflict:
                stored = await self._bucket.get(key)
        if alias_of(stored.value) != identity:
            raise EdgeError(ErrorCode.WRONG_STATE, "this secret is in use; make another one")

    async def _delete_alias(self, secret_hash: str, identity: str) -> None:
        key = WORKER_PREFIX + secret_hash
        stored = await self._bucket.get(key)
        if alias_of(stored.value) == identity:
            with suppress(RevisionConflict):
                await self._bucket.delete(key, revision=stored.revision, mark_life=MARK_LIFE)


def asked_to_rotate(entry: WorkerAccess) -> WorkerAccess:
    """The entry of a worker that is asked for a new secret; the same object if it is asked already.

    Raises:
        EdgeError: `wrong_state`: the worker is revoked.
    """
    _require_active(entry, ErrorCode.WRONG_STATE)
    settings = entry.settings
    if settings.rotation > max(entry.rotated, entry.next_rotation or 0):
        return entry
    raised = {"version": settings.version + 1, "rotation": settings.rotation + 1}
    return entry.model_copy(update={"settings": settings.model_copy(update=raised)})


def _rotated(before: WorkerAccess, after: WorkerAccess) -> AuditEvent:
    return AuditEvent(
        at=datetime.now(UTC),
        action="credential-rotated",
        target_kind=TargetKind.WORKER,
        target=after.worker,
        actor=Actor(kind=ActorKind.WORKER, name=after.worker),
        site=after.site,
        before={"rotation": before.rotated},
        after={"rotation": after.rotated},
    )


def alias_of(value: bytes | None) -> str | None:
    """The key of the entry to which a stored alias leads; None if the value is no alias."""
    if value is None:
        return None
    try:
        return SecretAlias.model_validate_json(value).alias_of
    except ValidationError:
        return None


def _require_active(entry: WorkerAccess, code: ErrorCode) -> None:
    if entry.revoked_at is not None:
        raise EdgeError(code, f"the credential of {entry.worker} was revoked")
