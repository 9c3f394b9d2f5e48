"""Access tokens of operators, in `edge_access`. Only hashes are stored."""

from datetime import datetime

from edge_broker.bucket import Bucket, RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.identity.access_keys import ACCESS_PREFIX, dump
from edge_schemas.admin.access import AccessTokenEntry
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import SecretKind, hash_secret, new_secret


class AccessTokenStore:
    """Creates, lists and revokes access tokens. Reads go through the stream leader, writes are compare-and-swap."""

    def __init__(self, broker: Broker) -> None:
        self._bucket = Bucket(broker, ACCESS_BUCKET)

    async def create(self, name: str, *, now: datetime) -> str:
        """A new access token for an operator; shown once."""
        token = new_secret(SecretKind.ACCESS)
        await self._put(token, name, now)
        return token

    async def ensure(self, token: str, name: str, *, now: datetime, for_airflow: bool = False) -> None:
        """Store a token that exists already, for example in a file, unless it is stored."""
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
            await self._revoke(ACCESS_PREFIX + token_hash, now)
        return hashes

    async def _put(self, token: str, name: str, now: datetime) -> None:
        entry = AccessTokenEntry(name=name, created_at=now)
        await self._bucket.put(ACCESS_PREFIX + hash_secret(token), dump(entry))

    async def _revoke(self, key: str, now: datetime) -> None:
        while True:
            stored = await self._bucket.get(key)
            entry = None if stored.value is None else AccessTokenEntry.model_validate_json(stored.value)
            if entry is None or entry.revoked_at is not None:
                return
            revoked = entry.model_copy(update={"revoked_at": now})
            try:
                await self._bucket.put(key, dump(revoked), revision=stored.revision)
            except RevisionConflict:
                continue
            return
