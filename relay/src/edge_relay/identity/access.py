"""Credentials in `edge_access`: access tokens of operators, enrolment tokens, workers. Only hashes are stored.

Keys: `access.<hash>`, `enroll.<hash>`, `worker.<hash>` and `name.<worker>`. The last reserves a worker's name: names
are made from the hash that the worker chose, so without it somebody with an enrolment token could search for a secret
whose name is another worker's.
"""

import base64
from datetime import datetime, timedelta

from edge_broker.bucket import Bucket, RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESS_BUCKET
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import (
    AccessTokenEntry,
    EnrollmentUse,
    EnrollRequest,
    EnrollToken,
    EnrollTokenEntry,
    EnrollTokenRequest,
    SecretKind,
    WorkerAccess,
    WorkerSettings,
    hash_secret,
    new_secret,
)

ACCESS = "access"
ENROLL = "enroll"
WORKER = "worker"
NAME = "name"
MAX_LABEL_CHARS = 63
SHORTEST_SUFFIX = 6
KEPT_AFTER_EXPIRY = timedelta(days=1)
"""For how long an enrolment that took its use in time may be repeated, and a refusal says "expired", not "unknown"."""


class AccessStore:
    """What opens what. Reads go through the stream leader, writes are compare-and-swap."""

    def __init__(self, broker: Broker) -> None:
        self._bucket = Bucket(broker, ACCESS_BUCKET)

    async def create_access_token(self, name: str, *, now: datetime) -> str:
        """A new operator's access token; shown once."""
        token = new_secret(SecretKind.ACCESS)
        await self._put_access_token(token, name, now)
        return token

    async def ensure_access_token(self, token: str, name: str, *, now: datetime) -> None:
        """Make a token that is known already open `/v1/admin`, if it does not yet."""
        stored = await self._bucket.get(f"{ACCESS}.{hash_secret(token)}")
        if stored.value is None:
            await self._put_access_token(token, name, now)

    async def _put_access_token(self, token: str, name: str, now: datetime) -> None:
        entry = AccessTokenEntry(name=name, created_at=now)
        await self._bucket.put(f"{ACCESS}.{hash_secret(token)}", _dump(entry))

    async def access_tokens(self) -> dict[str, AccessTokenEntry]:
        """All access tokens, revoked ones too, by the hash of the token."""
        found = {}
        for key in await self._bucket.keys(f"{ACCESS}.*"):
            stored = await self._bucket.get(key)
            if stored.value is not None:
                found[key.removeprefix(f"{ACCESS}.")] = AccessTokenEntry.model_validate_json(stored.value)
        return found

    async def revoke_access_tokens(self, name: str, *, now: datetime) -> list[str]:
        """End every access token of this name and return their hashes, those of earlier revocations included.

        They are marked, not deleted: a standalone relay would bring the token in its file back at its next start.

        Raises:
            EdgeError: `not_found`.
            BrokerUnavailable: The outcome is unknown; repeat it.
        """
        hashes = [token_hash for token_hash, entry in (await self.access_tokens()).items() if entry.name == name]
        if not hashes:
            raise EdgeError(ErrorCode.NOT_FOUND, f"there is no access token of the name {name!r}")
        for token_hash in hashes:
            await self._revoke_access_token(f"{ACCESS}.{token_hash}", now)
        return hashes

    async def _revoke_access_token(self, key: str, now: datetime) -> None:
        while True:
            stored = await self._bucket.get(key)
            entry = None if stored.value is None else AccessTokenEntry.model_validate_json(stored.value)
            if entry is None or entry.revoked_at is not None:
                return
            revoked = entry.model_copy(update={"revoked_at": now})
            try:
                await self._bucket.put(key, _dump(revoked), revision=stored.revision)
            except RevisionConflict:
                continue
            return

    async def create_enroll_token(self, request: EnrollTokenRequest, *, now: datetime) -> EnrollToken:
        """A new enrolment token; shown once."""
        token = new_secret(SecretKind.ENROLLMENT)
        expires_at = now + timedelta(seconds=request.ttl_s)
        entry = EnrollTokenEntry(
            queues=request.queues, site=request.site, team=request.team, uses=request.uses, expires_at=expires_at
        )
        await self._bucket.put(f"{ENROLL}.{hash_secret(token)}", _dump(entry), revision=0, life=_life(entry, now))
        return EnrollToken(
            token=token, site=request.site, queues=request.queues, uses=request.uses, expires_at=expires_at
        )

    async def enroll(self, token: str, request: EnrollRequest, *, now: datetime) -> tuple[WorkerAccess, bool]:
        """Trade a use of an enrolment token for a worker; also says whether the worker is new.

        The same secret with the same token gets the same answer as often as it asks, up to a day after the token
        has expired, and takes one use only.

        Raises:
            EdgeError: `enrollment_refused`; nothing was used.
            BrokerUnavailable: The outcome is unknown; repeat it.
        """
        if not token.startswith(SecretKind.ENROLLMENT) or not token.isascii():
            raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, f"an enrolment token begins with {SecretKind.ENROLLMENT}")
        entry, worker = await self._take_use(hash_secret(token), request.secret_hash, now)
        access = WorkerAccess(
            worker=worker,
            secret_hash=request.secret_hash,
            site=entry.site,
            team=entry.team,
            settings=WorkerSettings(version=1, queues=entry.queues),
            hostname=request.hostname,
            enrolled_at=now,
        )
        try:
            await self._bucket.put(f"{WORKER}.{request.secret_hash}", _dump(access), revision=0)
        except RevisionConflict:
            return await self._require_worker(request.secret_hash), False
        return access, True

    async def revoke(self, secret_hash: str, *, now: datetime) -> WorkerAccess:
        """End a credential; one that was revoked before stays as it is.

        Raises:
            EdgeError: `not_found`.
            BrokerUnavailable: The outcome is unknown; repeat it.
        """
        while True:
            stored = await self._bucket.get(f"{WORKER}.{secret_hash}")
            if stored.value is None:
                raise EdgeError(ErrorCode.NOT_FOUND, "there is no such worker")
            access = WorkerAccess.model_validate_json(stored.value)
            if access.revoked_at is not None:
                return access
            revoked = access.model_copy(update={"revoked_at": now})
            try:
                await self._bucket.put(f"{WORKER}.{secret_hash}", _dump(revoked), revision=stored.revision)
            except RevisionConflict:
                continue
            return revoked

    async def holder_of_name(self, worker: str) -> str | None:
        """The hash of the secret for which a worker's name was reserved."""
        stored = await self._bucket.get(f"{NAME}.{worker}")
        return None if stored.value is None else stored.value.decode()

    async def _take_use(self, token_hash: str, secret_hash: str, now: datetime) -> tuple[EnrollTokenEntry, str]:
        """The token's entry and the worker's name, after a use was taken for this secret, now or before."""
        while True:
            stored = await self._bucket.get(f"{ENROLL}.{token_hash}")
            if stored.value is None:
                raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, "the enrolment token is unknown")
            entry = EnrollTokenEntry.model_validate_json(stored.value)
            for use in entry.used:
                if use.secret_hash == secret_hash:
                    return entry, use.worker
            _check_usable(entry, now)
            if (await self._bucket.get(f"{WORKER}.{secret_hash}")).value is not None:
                raise EdgeError(
                    ErrorCode.ENROLLMENT_REFUSED, "this secret is a worker's already; enrol with a new secret"
                )
            worker = await self._reserve_name(entry.site, secret_hash)
            use = EnrollmentUse(secret_hash=secret_hash, worker=worker)
            updated = entry.model_copy(update={"used": (*entry.used, use)})
            try:
                # Each value has a life of its own: without one, a token that was used would stay for ever.
                life = _life(entry, now)
                await self._bucket.put(f"{ENROLL}.{token_hash}", _dump(updated), revision=stored.revision, life=life)
            except RevisionConflict:
                continue
            return updated, worker

    async def _reserve_name(self, site: str, secret_hash: str) -> str:
        """The shortest name for this secret that no other secret has."""
        for name in candidate_names(site, secret_hash):
            try:
                await self._bucket.put(f"{NAME}.{name}", secret_hash.encode(), revision=0)
            except RevisionConflict:
                if await self.holder_of_name(name) != secret_hash:
                    continue
            return name
        raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, "no name is left for this secret; enrol with a new secret")

    async def _require_worker(self, secret_hash: str) -> WorkerAccess:
        stored = await self._bucket.get(f"{WORKER}.{secret_hash}")
        if stored.value is None:
            raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, "this worker was removed; enrol with a new secret")
        access = WorkerAccess.model_validate_json(stored.value)
        if access.revoked_at is not None:
            raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, "this worker was revoked; enrol with a new secret")
        return access


def candidate_names(site: str, secret_hash: str) -> list[str]:
    """Names for a worker, the shortest first: its site and so many characters of its secret's hash; DNS labels."""
    digest = base64.b32encode(bytes.fromhex(secret_hash)).decode().rstrip("=").lower()
    lengths = range(SHORTEST_SUFFIX, len(digest) + 1, 6)
    return [f"{site[: MAX_LABEL_CHARS - 1 - n].rstrip('-')}-{digest[:n]}" for n in lengths]


def _check_usable(entry: EnrollTokenEntry, now: datetime) -> None:
    if now >= entry.expires_at:
        raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, f"the enrolment token expired at {entry.expires_at:%F %H:%M} UTC")
    if len(entry.used) >= entry.uses:
        raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, f"the enrolment token's {entry.uses} uses are used up")


def _life(entry: EnrollTokenEntry, now: datetime) -> timedelta:
    return entry.expires_at - now + KEPT_AFTER_EXPIRY


def _dump(entry: AccessTokenEntry | EnrollTokenEntry | WorkerAccess) -> bytes:
    return entry.model_dump_json(exclude_none=True).encode()
