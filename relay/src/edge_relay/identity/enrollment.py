"""Workers' credentials and the tokens with which workers enrol, in `edge_access`. Only hashes are stored."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal

from edge_broker.audited_bucket import AuditedBucket
from edge_broker.bucket import RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.identity.access_keys import ENROLL_PREFIX, WORKER_PREFIX, dump
from edge_relay.identity.rotation import alias_of
from edge_relay.identity.worker_names import WorkerNames
from edge_schemas.admin.audit import AuditEvent
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

KEPT_AFTER_EXPIRY = timedelta(days=1)
"""How long an enrolment that used the token in time may be repeated, and an error says "expired", not "unknown"."""


REMOVED_FOR = timedelta(days=400)
"""How long the entry of a removed worker is kept: longer than any enrolment token, whose uses could be repeated."""


class WorkerMarks:
    """Marks workers as revoked and as removed."""

    def __init__(self, broker: Broker) -> None:
        self._bucket = AuditedBucket(broker, ACCESS_BUCKET)
        self._names = WorkerNames(broker)

    async def revoke(self, secret_hash: str, *, now: datetime, event: AuditEvent) -> bool:
        """Revoke a worker's credential; False if it was revoked already.

        Args:
            secret_hash: In the key of the worker's entry.
            now: The current time.
            event: For the audit.

        Raises:
            EdgeError: `not_found`.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        return await self._mark(secret_hash, "revoked_at", now, event)

    async def remove(self, secret_hash: str, *, now: datetime, event: AuditEvent) -> bool:
        """Mark a revoked worker as removed, for as long as a repeated enrolment could bring it back.

        Arguments and result as for `revoke`.

        Raises:
            EdgeError: `not_found`, or `wrong_state`: the worker is not revoked.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        return await self._mark(secret_hash, "removed_at", now, event)

    async def free_name(self, access: WorkerAccess) -> None:
        """The name of a removed worker may be given again."""
        await self._names.free(access.worker, access.secret_hash)

    async def _mark(
        self, secret_hash: str, mark: Literal["revoked_at", "removed_at"], now: datetime, event: AuditEvent
    ) -> bool:
        """Write when a worker was revoked or removed; a mark that is there stays."""
        key = WORKER_PREFIX + secret_hash
        while True:
            stored = await self._bucket.get(key)
            if stored.value is None:
                raise EdgeError(ErrorCode.NOT_FOUND, "there is no such worker")
            access = WorkerAccess.model_validate_json(stored.value)
            if getattr(access, mark) is not None:
                return False
            if mark == "removed_at" and access.revoked_at is None:
                raise EdgeError(ErrorCode.WRONG_STATE, f"{access.worker} is not revoked: revoke it first")
            marked = access.model_copy(update={mark: now})
            life = None if mark == "revoked_at" else REMOVED_FOR
            with suppress(RevisionConflict):
                await self._bucket.put(key, dump(marked), revision=stored.revision, life=life, event=event)
                return True

    async def secret_hash(self, worker: str) -> str | None:
        """The hash of the secret for which a worker's name is reserved."""
        return await self._names.secret_hash(worker)


class EnrollmentStore(WorkerMarks):
    """Enrols and revokes workers. Reads go through the stream leader, writes are compare-and-swap."""

    async def create_token(
        self, request: EnrollTokenRequest, *, now: datetime, describe: Callable[[EnrollToken], AuditEvent] | None = None
    ) -> EnrollToken:
        """A new enrolment token; shown once.

        Args:
            request: What it is for.
            now: The current time.
            describe: For the audit; None where no operator of the relay creates it.
        """
        token = new_secret(SecretKind.ENROLLMENT)
        expires_at = now + timedelta(seconds=request.ttl_s)
        entry = EnrollTokenEntry(
            queues=request.queues, site=request.site, team=request.team, uses=request.uses, expires_at=expires_at
        )
        created = EnrollToken(
            token=token, site=request.site, queues=request.queues, uses=request.uses, expires_at=expires_at
        )
        event = None if describe is None else describe(created)
        await self._bucket.put(token_key(token), dump(entry), revision=0, life=_life(entry, now), event=event)
        return created

    async def enroll(self, token: str, request: EnrollRequest, *, now: datetime) -> tuple[WorkerAccess, bool]:
        """Trade a use of an enrolment token for a worker; also returns whether the worker is new.

        The same secret with the same token gets the same answer each time, up to a day after the token has expired,
        and counts as one use.

        Raises:
            EdgeError: `enrollment_refused`; no use was counted.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        check_form(token)
        token_hash = hash_secret(token)
        entry, worker = await self._use_token(token_hash, request.secret_hash, now)
        access = WorkerAccess(
            worker=worker,
            secret_hash=request.secret_hash,
            site=entry.site,
            team=entry.team,
            settings=WorkerSettings(version=1, queues=entry.queues),
            hostname=request.hostname,
            enrolled_at=now,
            token_hash=token_hash,
        )
        try:
            await self._bucket.put(WORKER_PREFIX + request.secret_hash, dump(access), revision=0)
        except RevisionConflict:
            known = await self._require_worker(request.secret_hash)
            if known.token_hash != token_hash:
                # Enrolled with another token at this moment: that token's answer names its queues, not this one's.
                await self._return_use(token_hash, request.secret_hash, now)
                raise _secret_in_use() from None
            return known, False
        return access, True

    async def _use_token(self, token_hash: str, secret_hash: str, now: datetime) -> tuple[EnrollTokenEntry, str]:
        """The token's entry and the worker's name, after a use was counted for this secret, now or earlier.

        The name is reserved after the use: callers that find the token used up reserve none.
        """
        while True:
            stored = await self._bucket.get(ENROLL_PREFIX + token_hash)
            if stored.value is None:
                raise unknown_token()
            entry = EnrollTokenEntry.model_validate_json(stored.value)
            use = next((one for one in entry.used if one.secret_hash == secret_hash), None)
            if use is not None:
                await self._refuse_removed(secret_hash)
            if use is not None and await self._names.reserve(use.worker, secret_hash):
                return entry, use.worker
            if use is None:
                _check_usable(entry, now)
                if (await self._bucket.get(WORKER_PREFIX + secret_hash)).value is not None:
                    raise _secret_in_use()
            name = await self._names.find_free(entry.site, secret_hash)
            uses = (*_other_uses(entry, secret_hash), EnrollmentUse(secret_hash=secret_hash, worker=name))
            await self._write_uses(token_hash, entry, uses, stored.revision, now)

    async def _return_use(self, token_hash: str, secret_hash: str, now: datetime) -> None:
        """A use of the token was not needed: it counts no longer, and its name becomes free."""
        while True:
            stored = await self._bucket.get(ENROLL_PREFIX + token_hash)
            if stored.value is None:
                return
            entry = EnrollTokenEntry.model_validate_json(stored.value)
            name = next((use.worker for use in entry.used if use.secret_hash == secret_hash), None)
            if name is None:
                return
            await self._names.free(name, secret_hash)
            uses = _other_uses(entry, secret_hash)
            if await self._write_uses(token_hash, entry, uses, stored.revision, now):
                return

    async def _write_uses(
        self,
        token_hash: str,
        entry: EnrollTokenEntry,
        uses: tuple[EnrollmentUse, ...],
        revision: int,
        now: datetime,
    ) -> bool:
        """Whether the uses were written; if not, another caller was faster."""
        updated = entry.model_copy(update={"used": uses})
        try:
            # Each value has its own time to live: without one, a used token would never be deleted.
            life = _life(entry, now)
            await self._bucket.put(ENROLL_PREFIX + token_hash, dump(updated), revision=revision, life=life)
        except RevisionConflict:
            return False
        return True

    async def _refuse_removed(self, secret_hash: str) -> None:
        """A repeat must not reserve the name of a removed worker again."""
        stored = await self._bucket.get(WORKER_PREFIX + secret_hash)
        if stored.value is not None and WorkerAccess.model_validate_json(stored.value).removed_at is not None:
            raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, "this worker was removed; enrol with a new secret")

    async def _require_worker(self, secret_hash: str) -> WorkerAccess:
        stored = await self._bucket.get(WORKER_PREFIX + secret_hash)
        if stored.value is None:
            raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, "this worker was removed; enrol with a new secret")
        if alias_of(stored.value) is not None:
            raise _secret_in_use()
        access = WorkerAccess.model_validate_json(stored.value)
        if access.revoked_at is not None:
            what = "revoked" if access.removed_at is None else "removed"
            raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, f"this worker was {what}; enrol with a new secret")
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


def _secret_in_use() -> EdgeError:
    return EdgeError(ErrorCode.ENROLLMENT_REFUSED, "a worker has this secret already; enrol with a new secret")


def _other_uses(entry: EnrollTokenEntry, secret_hash: str) -> tuple[EnrollmentUse, ...]:
    return tuple(use for use in entry.used if use.secret_hash != secret_hash)


def _check_usable(entry: EnrollTokenEntry, now: datetime) -> None:
    if entry.revoked_at is not None:
        raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, "the enrolment token was revoked")
    if now >= entry.expires_at:
        raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, f"the enrolment token expired at {entry.expires_at:%F %H:%M} UTC")
    if len(entry.used) >= entry.uses:
        raise EdgeError(ErrorCode.ENROLLMENT_REFUSED, f"the enrolment token's {entry.uses} uses are used up")


def _life(entry: EnrollTokenEntry, now: datetime) -> timedelta:
    return entry.expires_at - now + KEPT_AFTER_EXPIRY
