"""The list of enrolment tokens, and their revocation."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from edge_broker.audited_bucket import AuditedBucket
from edge_broker.bucket import RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.identity.access_keys import ENROLL_PREFIX, dump
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import EnrollTokenEntry

_READS_AT_ONCE = 16
_LEAST_LIFE = timedelta(minutes=1)
Describe = Callable[[EnrollTokenEntry], AuditEvent]
"""What the audit says about a change of an entry, from the entry before."""


class EnrollTokens:
    """Reads and revokes enrolment tokens. Reads go through the stream leader, writes are compare-and-swap."""

    def __init__(self, broker: Broker) -> None:
        self._bucket = AuditedBucket(broker, ACCESS_BUCKET)

    async def hashes(self, beginning: str = "") -> list[str]:
        """The hashes of all tokens that begin so, sorted; tokens that are gone may be among them."""
        keys = await self._bucket.keys(f"{ENROLL_PREFIX}*")
        found = (key.removeprefix(ENROLL_PREFIX) for key in keys)
        return sorted(one for one in found if one.startswith(beginning))

    async def read(self, hashes: list[str]) -> dict[str, EnrollTokenEntry]:
        """The entries of these tokens, without those that are gone."""
        limit = asyncio.Semaphore(_READS_AT_ONCE)

        async def one(token_hash: str) -> bytes | None:
            async with limit:
                return (await self._bucket.get(ENROLL_PREFIX + token_hash)).value

        values = await asyncio.gather(*map(one, hashes))
        return {
            token_hash: EnrollTokenEntry.model_validate_json(value)
            for token_hash, value in zip(hashes, values, strict=True)
            if value is not None
        }

    async def revoke(self, token_hash: str, *, now: datetime, kept_after_expiry: timedelta, describe: Describe) -> None:
        """No further worker may enrol with a token; those that have enrolled keep their credentials.

        Args:
            token_hash: Of the token; one that is revoked does not change.
            now: The current time.
            kept_after_expiry: How long its entry is kept.
            describe: For the audit.

        Raises:
            EdgeError: `not_found`.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        key = ENROLL_PREFIX + token_hash
        while True:
            stored = await self._bucket.get(key)
            if stored.value is None:
                raise EdgeError(ErrorCode.NOT_FOUND, "there is no such enrolment token")
            entry = EnrollTokenEntry.model_validate_json(stored.value)
            if entry.revoked_at is not None:
                return
            revoked = entry.model_copy(update={"revoked_at": now})
            life = max(entry.expires_at - now + kept_after_expiry, _LEAST_LIFE)
            with suppress(RevisionConflict):
                await self._bucket.put(key, dump(revoked), revision=stored.revision, life=life, event=describe(entry))
                return
