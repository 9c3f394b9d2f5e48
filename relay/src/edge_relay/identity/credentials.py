"""The callers: a bearer secret becomes a worker or an operator.

Every replica keeps the credentials of `edge_access` in memory and follows the bucket. A revocation reaches every
replica within moments in two ways: by the bucket's watch, and by a notice after which each replica reads the entry
again, in case its watch has died unnoticed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESS_BUCKET, NOTICES, consumer_name
from edge_broker.watched_bucket import WatchedBucket
from edge_relay.desired.keys import WORKER_PREFIX as DESIRED_WORKER_PREFIX
from edge_relay.desired.state import DesiredState
from edge_relay.identity.access_keys import ACCESS_PREFIX, WORKER_PREFIX
from edge_relay.identity.lookups import Lookups
from edge_schemas.admin.access import AccessTokenEntry
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import SecretKind, WorkerAccess, WorkerSettings, hash_secret

log = structlog.get_logger(__name__)

SECRET_CHARS = 47

Listener = Callable[[str], None]
"""Called with the secret hash of a worker whose entry changed."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The worker that a credential belongs to, as it was when the call arrived.

    Attributes:
        settings: Its settings now: those of its enrolment, changed by what operators have set.
        consumers: Of the queues that the worker serves.
        active_consumers: Of those from which it may get jobs now: none while it is not available.
        agent_key_hash: Of the value that the calling agent keeps in memory; None if the call has none.
    """

    worker: str
    site: str
    team: str | None
    settings: WorkerSettings
    secret_hash: str
    consumers: tuple[str, ...]
    active_consumers: tuple[str, ...]
    agent_key_hash: str | None = None


class Credentials:
    """The credentials of all workers and operators, in memory. Run `run()` in a task group."""

    def __init__(self, broker: Broker, lookups: Lookups, desired: DesiredState) -> None:
        self._broker = broker
        self._bucket = Bucket(broker, ACCESS_BUCKET)
        self._watched = WatchedBucket(broker, ACCESS_BUCKET, self._apply)
        self._workers: dict[str, WorkerAccess] = {}
        self._operators: dict[str, AccessTokenEntry] = {}
        self._lookups = lookups
        self._listeners: list[Listener] = []
        self._desired = desired
        self._principals: dict[str, tuple[WorkerAccess, Principal]] = {}
        desired.on_change(self._desired_changed)

    @property
    def complete(self) -> asyncio.Event:
        """Set while all credentials are known to be in memory."""
        return self._watched.complete

    def on_change(self, listener: Listener) -> None:
        """Call `listener` whenever the entry of a worker's credential changes."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Follow the bucket until cancelled."""
        await self._watched.run()

    async def announce(self, secret_hash: str) -> None:
        """Notify every replica, this one first, that a worker's entry was written."""
        await self.refresh(secret_hash)
        await self._broker.publish(access_notice(secret_hash))

    async def refresh(self, secret_hash: str) -> None:
        """Read again the entry of a worker, or of an operator that is known here.

        Raises:
            BrokerUnavailable: The entry could not be read; the bucket's watch delivers it too.
        """
        key = (ACCESS_PREFIX if secret_hash in self._operators else WORKER_PREFIX) + secret_hash
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
        _check_form(secret, SecretKind.WORKER)
        secret_hash = hash_secret(secret)
        if secret_hash not in self._workers:
            await self._read_unknown(WORKER_PREFIX + secret_hash, address)
        return self.current(secret_hash)

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
        return self._current(access)

    def settings(self, access: WorkerAccess) -> WorkerSettings:
        """The settings of a worker now: of its enrolment, changed by what operators have set."""
        return self._current(access).settings

    def _current(self, access: WorkerAccess) -> Principal:
        """Computed once for each change: it is needed at every call of the worker."""
        known, principal = self._principals.get(access.worker, (None, None))
        if known is not access or principal is None:
            settings = self._desired.settings(access)
            consumers = tuple(dict.fromkeys(consumer_name(access.team, queue) for queue in settings.queues))
            active = self._desired.active_queues(access.team, settings)
            principal = Principal(
                access.worker, access.site, access.team, settings, access.secret_hash, consumers, active
            )
            self._principals[access.worker] = access, principal
        return principal

    def _desired_changed(self, key: str) -> None:
        """Compute the settings of the workers concerned again, when they are needed."""
        if key.startswith(DESIRED_WORKER_PREFIX):
            self._principals.pop(key.removeprefix(DESIRED_WORKER_PREFIX), None)
        else:
            self._principals.clear()

    async def operator(self, secret: str, address: str) -> AccessTokenEntry:
        """The operator that this access token belongs to; arguments as for `worker`.

        Raises:
            EdgeError: `unauthenticated`, `credential_revoked`, `rate_limited`.
            BrokerUnavailable: The token is unknown here, and the broker can't be asked.
        """
        _check_form(secret, SecretKind.ACCESS)
        secret_hash = hash_secret(secret)
        if secret_hash not in self._operators:
            await self._read_unknown(ACCESS_PREFIX + secret_hash, address)
        entry = self._operators.get(secret_hash)
        if entry is None:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "the access token is unknown")
        if entry.revoked_at is not None:
            raise EdgeError(ErrorCode.CREDENTIAL_REVOKED, "the access token was revoked")
        if entry.expires_at is not None and datetime.now(UTC) >= entry.expires_at:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, f"the access token expired at {entry.expires_at:%F %H:%M} UTC")
        return entry

    def access(self, secret_hash: str) -> WorkerAccess | None:
        """What a worker's credential gives access to, revoked or not."""
        return self._workers.get(secret_hash)

    def workers(self) -> list[WorkerAccess]:
        """All workers that ever enrolled and that this replica has seen."""
        return list(self._workers.values())

    async def _read_unknown(self, key: str, address: str) -> None:
        """Read an entry that another replica may just have written."""
        value = await self._lookups.read(key, address)
        if value is not None:
            self._apply(key, value)

    def _apply(self, key: str, value: bytes | None) -> None:
        """Store an entry in memory. An unreadable entry grants nothing."""
        self._lookups.forget(key)
        try:
            if key.startswith(WORKER_PREFIX):
                entry = None if value is None else WorkerAccess.model_validate_json(value)
                self._store_worker(key.removeprefix(WORKER_PREFIX), entry)
            elif key.startswith(ACCESS_PREFIX):
                self._store_operator(key.removeprefix(ACCESS_PREFIX), value)
        except ValidationError as error:
            log.warning("access_entry_unreadable", kind=key.partition(".")[0], errors=error.error_count())
            if key.startswith(WORKER_PREFIX):
                self._store_worker(key.removeprefix(WORKER_PREFIX), None)

    def _store_worker(self, secret_hash: str, entry: WorkerAccess | None) -> None:
        before = self._workers.get(secret_hash)
        if entry is not None and before is not None and before.revoked_at is not None and entry.revoked_at is None:
            return  # an older answer that arrived late; a revocation is final
        if entry is None:
            self._workers.pop(secret_hash, None)
            if before is not None:
                self._principals.pop(before.worker, None)
        else:
            self._workers[secret_hash] = entry
        if entry != before:
            for listener in self._listeners:
                listener(secret_hash)

    def _store_operator(self, secret_hash: str, value: bytes | None) -> None:
        before = self._operators.pop(secret_hash, None)
        entry = None if value is None else AccessTokenEntry.model_validate_json(value)
        if entry is not None and before is not None and before.revoked_at is not None:
            entry = before  # as with workers: a revocation is final
        if entry is not None:
            self._operators[secret_hash] = entry


def access_notice(secret_hash: str) -> str:
    """The subject of the notice after which every replica reads a credential again."""
    return f"{NOTICES}.access.{secret_hash}"


def _check_form(secret: str, kind: SecretKind) -> None:
    """Refuse what can't be a secret of this kind, before the broker is asked."""
    well_formed = len(secret) == SECRET_CHARS and secret.isascii() and secret.startswith(kind)
    if not well_formed:
        raise EdgeError(ErrorCode.UNAUTHENTICATED, f"this call needs a credential that begins with {kind}")
