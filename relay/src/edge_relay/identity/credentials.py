"""The callers: a bearer secret becomes a worker or an operator.

Every replica keeps the credentials of `edge_access` in memory and follows the bucket. A revocation reaches every
replica within moments in two ways: by the bucket's watch, and by a notice after which each replica reads the entry
again, in case its watch has died unnoticed.
"""

import asyncio
from collections.abc import Callable

import structlog
from pydantic import ValidationError

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESS_BUCKET, NOTICES
from edge_broker.watched_bucket import WatchedBucket
from edge_relay.desired.state import DesiredState
from edge_relay.identity.access_keys import ACCESS_PREFIX, SESSION_PREFIX, WORKER_PREFIX
from edge_relay.identity.lookups import Lookups
from edge_relay.identity.operators.access_credentials import OperatorCredentials
from edge_relay.identity.principals import Principal, Principals
from edge_relay.identity.rotation import SecretRotation, alias_of
from edge_relay.identity.secret_form import check_secret
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import SecretKind, WorkerAccess, WorkerSettings, hash_secret

log = structlog.get_logger(__name__)

Listener = Callable[[str], None]
"""Called with the secret hash of a worker whose entry changed."""


class Credentials:
    """The credentials of all workers, in memory; keeps those of operators up to date. Run `run()` in a task group."""

    def __init__(
        self,
        broker: Broker,
        lookups: Lookups,
        desired: DesiredState,
        rotation: SecretRotation,
        operators: OperatorCredentials,
    ) -> None:
        self.operators = operators
        self._lookups = lookups
        self._broker = broker
        self._bucket = Bucket(broker, ACCESS_BUCKET)
        self.watched = WatchedBucket(broker, ACCESS_BUCKET, self._apply)
        self._workers: dict[str, WorkerAccess] = {}
        self._rotated: dict[str, str] = {}
        self._rotation = rotation
        self._listeners: list[Listener] = []
        self._principals = Principals(desired)

    @property
    def complete(self) -> asyncio.Event:
        """Set while all credentials are known to be in memory."""
        return self.watched.complete

    def on_change(self, listener: Listener) -> None:
        """Call `listener` whenever the entry of a worker's credential changes."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Follow the bucket until cancelled."""
        await self.watched.run()

    async def announce(self, secret_hash: str) -> None:
        """Notify every replica, this one first, that a worker's entry was written."""
        await self.refresh(secret_hash)
        await self._broker.publish(access_notice(secret_hash))

    async def refresh(self, secret_hash: str) -> None:
        """Read again the entry of a worker, or of an operator that is known here.

        Raises:
            BrokerUnavailable: The entry could not be read; the bucket's watch delivers it too.
        """
        key = (ACCESS_PREFIX if secret_hash in self.operators else WORKER_PREFIX) + secret_hash
        self._apply(key, (await self._bucket.get(key)).value)

    async def worker(self, secret: str, address: str) -> Principal:
        """The worker that this secret belongs to.

        Args:
            secret: From the call.
            address: Where the call came from; limits look-ups of unknown secrets.

        Raises:
            EdgeError: `unauthenticated`, `credential_revoked`, `rate_limited`.
            BrokerUnavailable: The secret is unknown here, and the broker can't be asked.
        """
        check_secret(secret, SecretKind.WORKER)
        secret_hash = hash_secret(secret)
        if secret_hash not in self._workers and secret_hash not in self._rotated:
            await self._read_unknown(WORKER_PREFIX + secret_hash, address)
        identity = self._rotated.get(secret_hash, secret_hash)
        principal = self.current(identity)
        access = self._workers[identity]
        if secret_hash == access.next_hash:
            await self._confirm(identity, secret_hash)
        elif secret_hash != access.valid_hash:
            raise EdgeError(ErrorCode.CREDENTIAL_REVOKED, "the secret was replaced: the worker has rotated it")
        return principal

    def current(self, secret_hash: str) -> Principal:
        """The worker that this credential belongs to now.

        Raises:
            EdgeError: `unauthenticated`, `credential_revoked`.
        """
        access = self._workers.get(secret_hash)
        if access is None:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "the credential is unknown")
        if access.revoked_at is not None:
            raise EdgeError(ErrorCode.CREDENTIAL_REVOKED, "the credential was revoked by an operator")
        return self._principals.of(access)

    def settings(self, access: WorkerAccess) -> WorkerSettings:
        """The settings of a worker now: of its enrolment, changed by what operators have set."""
        return self._principals.of(access).settings

    def access(self, secret_hash: str) -> WorkerAccess | None:
        """What a worker's credential gives access to, revoked or not."""
        return self._workers.get(secret_hash)

    def workers(self) -> list[WorkerAccess]:
        """All workers that ever enrolled and that this replica has seen, without the removed ones."""
        return [access for access in self._workers.values() if access.removed_at is None]

    async def _read_unknown(self, key: str, address: str) -> None:
        """Read an entry that another replica may just have written."""
        value = await self._lookups.read(key, address)
        if (identity := alias_of(value)) is not None:
            key = WORKER_PREFIX + identity
            value = (await self._bucket.get(key)).value
        if value is not None:
            self._apply(key, value)

    async def _confirm(self, identity: str, secret_hash: str) -> None:
        """The first use of a rotated secret: every replica refuses the older one from now on."""
        access = await self._rotation.confirm(identity, secret_hash)
        self._store_worker(identity, access)
        log.info("worker_secret_rotated", worker=access.worker, rotation=access.rotated)
        await self._broker.publish(access_notice(identity))

    def _apply(self, key: str, value: bytes | None) -> None:
        """Store an entry in memory. An unreadable entry grants nothing."""
        self._lookups.forget(key)
        if alias_of(value) is not None:
            return  # the entry itself names its secrets
        try:
            if key.startswith(WORKER_PREFIX):
                entry = None if value is None else WorkerAccess.model_validate_json(value)
                self._store_worker(key.removeprefix(WORKER_PREFIX), entry)
            elif key.startswith(ACCESS_PREFIX):
                self.operators.store(key.removeprefix(ACCESS_PREFIX), value)
            elif key.startswith(SESSION_PREFIX):
                self.operators.ended_sessions.store(key.removeprefix(SESSION_PREFIX), value)
        except ValueError as error:
            log.warning("access_entry_unreadable", kind=key.partition(".")[0], errors=_error_count(error))
            if key.startswith(WORKER_PREFIX):
                self._store_worker(key.removeprefix(WORKER_PREFIX), None)

    def _store_worker(self, secret_hash: str, entry: WorkerAccess | None) -> None:
        before = self._workers.get(secret_hash)
        if entry is not None and before is not None and _is_older(entry, before):
            return
        for known in _later_secrets(before):
            self._rotated.pop(known, None)
        if entry is None:
            self._workers.pop(secret_hash, None)
            if before is not None:
                self._principals.forget(before.worker)
        else:
            self._workers[secret_hash] = entry
            self._rotated.update(dict.fromkeys(_later_secrets(entry), secret_hash))
        if entry != before:
            for listener in self._listeners:
                listener(secret_hash)


def _is_older(entry: WorkerAccess, known: WorkerAccess) -> bool:
    """Whether this is an older answer that arrived late: revocation, removal and rotation are final."""
    is_undone = any(
        getattr(known, mark) is not None and getattr(entry, mark) is None for mark in ("revoked_at", "removed_at")
    )
    return is_undone or entry.rotated < known.rotated


def _later_secrets(entry: WorkerAccess | None) -> list[str]:
    """The hashes of a worker's secrets besides the first one."""
    return [] if entry is None else [one for one in (entry.current_hash, entry.next_hash) if one is not None]


def _error_count(error: ValueError) -> int:
    return error.error_count() if isinstance(error, ValidationError) else 1


def access_notice(secret_hash: str) -> str:
    """The subject of the notice after which every replica reads a credential again."""
    return f"{NOTICES}.access.{secret_hash}"
