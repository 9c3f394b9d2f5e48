"""The access tokens of operators, in memory. `Credentials` keeps them up to date."""

from collections.abc import Callable
from datetime import UTC, datetime

from edge_relay.identity.access_keys import ACCESS_PREFIX
from edge_relay.identity.lookups import Lookups
from edge_relay.identity.operators.ended_sessions import EndedSessions
from edge_relay.identity.operators.token_uses import TokenUses
from edge_relay.identity.secret_form import check_secret
from edge_schemas.admin.access import AccessTokenEntry
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import SecretKind, hash_secret

OnRevoked = Callable[[str], None]
"""Called with the name of an access token that grants nothing any more; an expired one is not reported."""


class OperatorCredentials:
    """The access tokens of operators, in memory.

    Attributes:
        ended_sessions: Of their browsers.
    """

    def __init__(self, lookups: Lookups, uses: TokenUses, ended_sessions: EndedSessions) -> None:
        self.ended_sessions = ended_sessions
        self._operators: dict[str, AccessTokenEntry] = {}
        self._lookups = lookups
        self._uses = uses
        self._on_revoked: list[OnRevoked] = []

    def __contains__(self, secret_hash: str) -> bool:
        return secret_hash in self._operators

    def on_revoked(self, listener: OnRevoked) -> None:
        """Call `listener` whenever a token was revoked."""
        self._on_revoked.append(listener)

    async def by_secret(self, secret: str, address: str) -> AccessTokenEntry:
        """The operator that this access token belongs to, now; arguments as for `Credentials.worker`.

        Raises:
            EdgeError: `unauthenticated`, `credential_revoked`, `rate_limited`.
            BrokerUnavailable: The token is unknown here, and the broker can't be asked.
        """
        check_secret(secret, SecretKind.ACCESS)
        return await self.by_hash(hash_secret(secret), address)

    async def by_hash(self, secret_hash: str, address: str) -> AccessTokenEntry:
        """The operator of a session that was opened with an access token; errors as for `by_secret`."""
        if secret_hash not in self._operators:
            self.store(secret_hash, await self._lookups.read(ACCESS_PREFIX + secret_hash, address))
        entry = self.current(secret_hash)
        self._uses.note(secret_hash, entry)
        return entry

    def current(self, secret_hash: str) -> AccessTokenEntry:
        """The operator of a token that was accepted before: a call that waits must not outlive it.

        Raises:
            EdgeError: `unauthenticated`, `credential_revoked`.
        """
        entry = self._operators.get(secret_hash)
        if entry is None:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "the access token is unknown")
        if entry.revoked_at is not None:
            raise EdgeError(ErrorCode.CREDENTIAL_REVOKED, "the access token was revoked")
        if entry.expires_at is not None and datetime.now(UTC) >= entry.expires_at:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, f"the access token expired at {entry.expires_at:%F %H:%M} UTC")
        return entry

    def all(self) -> dict[str, AccessTokenEntry]:
        """All access tokens, with the revoked ones, by the hash of the token."""
        return dict(self._operators)

    def store(self, secret_hash: str, value: bytes | None) -> None:
        """Store an entry in memory; None removes it.

        Raises:
            ValidationError: It is unreadable; the token grants nothing then.
        """
        before = self._operators.pop(secret_hash, None)
        try:
            entry = None if value is None else AccessTokenEntry.model_validate_json(value)
            if entry is not None and before is not None and before.revoked_at is not None:
                entry = before  # as with workers: a revocation is final
            if entry is not None:
                self._operators[secret_hash] = entry
        finally:
            if before is not None and before.revoked_at is None and self._is_revoked(secret_hash):
                for listener in self._on_revoked:
                    listener(before.name)

    def _is_revoked(self, secret_hash: str) -> bool:
        entry = self._operators.get(secret_hash)
        return entry is None or entry.revoked_at is not None
