"""Access tokens of operators, in `edge_access`. Only hashes are stored."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from edge_broker.audited_bucket import AuditedBucket
from edge_broker.bucket import RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.identity.access_keys import ACCESS_PREFIX, dump
from edge_schemas.admin.access import (
    TOKEN_ID_CHARS,
    AccessScope,
    AccessToken,
    AccessTokenEntry,
    AccessTokenRequest,
)
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import SecretKind, hash_secret, new_secret

Describe = Callable[[AccessTokenEntry], AuditEvent]
"""What the audit says about a change of an entry, from the entry before."""


class AccessTokenStore:
    """Creates, lists and revokes access tokens. Reads go through the stream leader, writes are compare-and-swap."""

    def __init__(self, broker: Broker) -> None:
        self._bucket = AuditedBucket(broker, ACCESS_BUCKET)

    async def create(
        self, request: AccessTokenRequest, *, now: datetime, describe: Callable[[AccessToken], AuditEvent] | None = None
    ) -> AccessToken:
        """A new access token; shown once.

        Args:
            request: What it may do.
            now: The current time.
            describe: For the audit; None where no operator of the relay creates it.
        """
        token = new_secret(SecretKind.ACCESS)
        token_hash = hash_secret(token)
        entry = AccessTokenEntry(
            name=request.name,
            role=request.role,
            scope=AccessScope(sites=request.sites, queues=request.queues),
            created_at=now,
            expires_at=None if request.ttl_s is None else now + timedelta(seconds=request.ttl_s),
            for_airflow=request.for_airflow,
        )
        created = AccessToken(
            id=token_id(token_hash),
            token=token,
            name=entry.name,
            role=entry.role,
            scope=entry.scope,
            expires_at=entry.expires_at,
        )
        event = None if describe is None else describe(created)
        await self._bucket.put(ACCESS_PREFIX + token_hash, dump(entry), revision=0, event=event)
        return created

    async def ensure(self, token: str, name: str, *, now: datetime, for_airflow: bool = False) -> None:
        """Store a token that exists already, for example in a file, unless it is stored. It may do everything."""
        stored = await self._bucket.get(ACCESS_PREFIX + hash_secret(token))
        if stored.value is None:
            entry = AccessTokenEntry(name=name, created_at=now, for_airflow=for_airflow)
            await self._bucket.put(ACCESS_PREFIX + hash_secret(token), dump(entry))

    async def list(self) -> dict[str, AccessTokenEntry]:
        """All access tokens, with the revoked ones, by the hash of the token."""
        found = {}
        for key in await self._bucket.keys(f"{ACCESS_PREFIX}*"):
            stored = await self._bucket.get(key)
            if stored.value is not None:
                found[key.removeprefix(ACCESS_PREFIX)] = AccessTokenEntry.model_validate_json(stored.value)
        return found

    async def revoke(self, name: str, *, now: datetime) -> tuple[str, ...]:
        """Revoke all access tokens of this name; returns their hashes, also of tokens that were revoked earlier.

        They are marked, not deleted: a standalone relay would restore the token in its file at its next start.

        Raises:
            EdgeError: `not_found`.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        hashes = tuple(token_hash for token_hash, entry in (await self.list()).items() if entry.name == name)
        if not hashes:
            raise EdgeError(ErrorCode.NOT_FOUND, f"there is no access token of the name {name!r}")
        for token_hash in hashes:
            await self.revoke_one(token_hash, now=now)
        return hashes

    async def revoke_one(self, token_hash: str, *, now: datetime, describe: Describe | None = None) -> None:
        """Revoke one access token; one that is revoked does not change.

        Args:
            token_hash: Of the token.
            now: The current time.
            describe: For the audit; None where no operator of the relay revokes it.

        Raises:
            EdgeError: `not_found`.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        if not await self._change(token_hash, lambda entry: _revoked(entry, now), describe):
            raise EdgeError(ErrorCode.NOT_FOUND, "there is no such access token")

    async def record_use(self, token_hash: str, *, now: datetime) -> None:
        """Remember when a token was last used; a later time stays.

        Raises:
            BrokerUnavailable: The outcome is unknown.
        """

        def used(entry: AccessTokenEntry) -> AccessTokenEntry:
            if entry.last_used_at is not None and entry.last_used_at >= now:
                return entry
            return entry.model_copy(update={"last_used_at": now})

        await self._change(token_hash, used)

    async def _change(
        self,
        token_hash: str,
        change: Callable[[AccessTokenEntry], AccessTokenEntry],
        describe: Describe | None = None,
    ) -> bool:
        """Whether there is such a token; `change` returns the same object if there is nothing to change."""
        key = ACCESS_PREFIX + token_hash
        while True:
            stored = await self._bucket.get(key)
            if stored.value is None:
                return False
            before = AccessTokenEntry.model_validate_json(stored.value)
            after = change(before)
            if after is before:
                return True
            with suppress(RevisionConflict):
                event = None if describe is None else describe(before)
                await self._bucket.put(key, dump(after), revision=stored.revision, event=event)
                return True


def token_id(token_hash: str) -> str:
    """What names a token in lists, calls and the audit."""
    return token_hash[:TOKEN_ID_CHARS]


def _revoked(entry: AccessTokenEntry, now: datetime) -> AccessTokenEntry:
    return entry if entry.revoked_at is not None else entry.model_copy(update={"revoked_at": now})
