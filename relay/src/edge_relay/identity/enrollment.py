"""Workers' credentials and the tokens with which workers enrol, in `edge_access`. Only hashes are stored."""

import base64
from datetime import datetime, timedelta

from edge_broker.bucket import Bucket, RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.identity.access_keys import ENROLL_PREFIX, NAME_PREFIX, WORKER_PREFIX, dump
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import (
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

MAX_LABEL_CHARS = 63
SHORTEST_SUFFIX = 6
KEPT_AFTER_EXPIRY = timedelta(days=1)
"""How long an enrolment that used the token in time may be repeated, and an error says "expired", not "unknown"."""


class EnrollmentStore:
    """Enrols and revokes workers. Reads go through the stream leader, writes are compare-and-swap."""

    def __init__(self, broker: Broker) -> None:
        self._bucket = Bucket(broker, ACCESS_BUCKET)

    async def create_token(self, request: EnrollTokenRequest, *, now: datetime) -> EnrollToken:
        """A new enrolment token; shown once."""
        token = new_secret(SecretKind.ENROLLMENT)
        expires_at = now + timedelta(seconds=request.ttl_s)
        entry = EnrollTokenEntry(
            queues=request.queues, site=request.site, team=request.team, uses=request.uses, expires_at=expires_at
        )
        await self._bucket.put(ENROLL_PREFIX + hash_secret(token), dump(entry), revision=0, life=_life(entry, now))
        return EnrollToken(
            token=token, site=request.site, queues=request.queues, uses=request.uses, expires_at=expires_at
        )

    async def enroll(self, token: str, request: EnrollRequest, *, now: datetime) -> tuple[WorkerAccess, bool]:
        """Trade a use of an enrolment token for a worker; also returns whether the worker is new.

        The same secret with the same token gets the same answer each time, up to a day after the token has expired,
        and counts as one use.

        Raises:
            EdgeError: `enrollment_refused`; no use was counted.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        check_form(token)
        entry, worker = await self._use_token(hash_secret(token), request.secret_hash, now)
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
            await self._bucket.put(WORKER_PREFIX + request.secret_hash, dump(access), revision=0)
        except RevisionConflict:
            return await self._require_worker(request.secret_hash), False
        return access, True

    async def revoke(self, secret_hash: str, *, now: datetime) -> WorkerAccess:
        """Revoke a worker's credential; a revoked one stays unchanged.

        Raises:
            EdgeError: `not_found`.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        while True:
            stored = await self._bucket.get(WORKER_PREFIX + secret_hash)
            if stored.value is None:
                raise EdgeError(ErrorCode.NOT_FOUND, "there is no such worker")
            access = WorkerAccess.model_validate_json(stored.value)
            if access.revoked_at is not None:
                return access
            revoked = access.model_copy(update={"revoked_at": now})
            try:
                await self._bucket.put(WORKER_PREFIX + secret_hash, dump(revoked), revision=stored.revision)
            except RevisionConflict:
                continue
            return revoked

    async def secret_hash(self, worker: str) -> str | None:
        """The hash of the secret for which a worker's name is reserved."""
        stored = await self._bucket.get(NAME_PREFIX + worker)
        return None if stored.value is None else stored.value.decode()

    async def _use_token(self, token_hash: str, secret_hash: str, now: datetime) -> tuple[EnrollTokenEntry, str]:
        """The token's entry and the worker's name, after a use was counted for this secret, now or earlier."""
        while True:
            stored = await self._bucket.get(ENROLL_PREFIX + token_hash)
            if stored.value is None:
                raise unknown_token()
            entry = EnrollTokenEntry.model_validate_json(stored.value)
            for use in entry.used:
                if use.secret_hash == secret_hash:
                    return entry, use.worker
            _check_usable(entry, now)
            if (await self._bucket.get(WORKER_PREFIX + secret_hash)).value is not None:
                raise EdgeError(
                    ErrorCode.ENROLLMENT_REFUSED, "a worker has this secret already; enrol with a new secret"
                )
            worker = await self._reserve_name(entry.site, secret_hash)
            use = EnrollmentUse(secret_hash=secret_hash, worker=worker)
            updated = entry.model_copy(update={"used": (*entry.used, use)})
            try:
                # Each value has its own time to live: without one, a used token would never be deleted.
                life = _life(entry, now)
                await self._bucket.put(ENROLL_PREFIX + token_hash, dump(updated), revision=stored.revision, life=life)
            except RevisionConflict:
                continue
            return updated, worker

    async def _reserve_name(self, site: str, secret_hash: str) -> str:
        """Reserve the shortest name for this secret that is free."""
        for name in candidate_names(site, secret_hash):
            try:
                await self._bucket.put(NAME_PREFIX + name, secret_hash.encode(), revision=0)
            except RevisionConflict:
                if await self.secret_hash(name) != secret_hash:
                    continue
            return name
        raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, "no name is free for this secret; enrol with a new secret")

    async def _require_worker(self, secret_hash: str) -> WorkerAccess:
        stored = await self._bucket.get(WORKER_PREFIX + secret_hash)
        if stored.value is None:
            raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, "this worker was removed; enrol with a new secret")
        access = WorkerAccess.model_validate_json(stored.value)
        if access.revoked_at is not None:
            raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, "this worker was revoked; enrol with a new secret")
        return access


def check_form(token: str) -> None:
    """Refuse what can't be an enrolment token, before the broker is asked.

    Raises:
        EdgeError: `enrollment_refused`.
    """
    if not token.startswith(SecretKind.ENROLLMENT) or not token.isascii():
        raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, f"an enrolment token begins with {SecretKind.ENROLLMENT}")


def token_key(token: str) -> str:
    """The key of a token's entry."""
    return ENROLL_PREFIX + hash_secret(token)


def unknown_token() -> EdgeError:
    """There is no entry for the token."""
    return EdgeError(ErrorCode.ENROLLMENT_REFUSED, "the enrolment token is unknown")


def candidate_names(site: str, secret_hash: str) -> list[str]:
    """Names for a worker, the shortest first: its site and some characters of its secret's hash; DNS labels."""
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
