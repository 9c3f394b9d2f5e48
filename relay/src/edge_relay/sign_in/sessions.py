"""Sessions of browsers: a sealed cookie that names who signed in and until when. No replica stores an open session.

A session that was opened with an access token names the token's hash. The token is checked at each call, so the session
ends with the token: at once, at every replica. Signing out stores the end of a session, for all replicas.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from edge_broker.connection.broker import Broker
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.operators.operator import Operator
from edge_relay.identity.shared_key import SharedKey
from edge_relay.sign_in.seals import mac, seal, unseal
from edge_schemas.admin.access import AccessScope, Role, SignedInBy
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import hash_secret

KEY_NAME = "session-key"
_PURPOSE = "session.v1"
_OWNER_CHARS = 32


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session, with its cookie's value.

    Attributes:
        id: Its owner, a dot, and its own id.
        csrf: Must come with each change: another site can make a browser send the cookie, but can't read this.
    """

    id: str
    operator: Operator
    cookie: str
    csrf: str
    expires_at: datetime


class Sessions:
    """Opens and reads sessions.

    Args:
        broker: For the key that all replicas share.
        credentials: Of operators.
        life_s: How long a session lasts.
        issuer: Of the identity provider; a session of another one is not accepted.
    """

    def __init__(self, broker: Broker, credentials: Credentials, *, life_s: int, issuer: str | None) -> None:
        self.key = SharedKey(broker, KEY_NAME)
        self._credentials = credentials
        self._life = timedelta(seconds=life_s)
        self._issuer = issuer

    async def open_for_token(self, token: str, address: str, *, group: str) -> OpenSession:
        """A session for the owner of an access token.

        Args:
            token: From the call.
            address: Where the call came from.
            group: Of the address; limits look-ups of unknown tokens.

        Raises:
            EdgeError: See `OperatorCredentials.by_secret`; `forbidden`: the token is Airflow's or a producer's.
            BrokerUnavailable: Token or key can't be read at the moment.
        """
        entry = await self._credentials.operators.by_secret(token, group)
        if entry.for_airflow:
            text = "this token is for Airflow's api-server; sign in with a token of your own"
            raise EdgeError(ErrorCode.FORBIDDEN, text)
        if entry.role is Role.PRODUCER:
            raise EdgeError(ErrorCode.FORBIDDEN, "this token is for a producer; sign in with a token of an operator")
        end = self._end()
        expires_at = end if entry.expires_at is None else min(end, entry.expires_at)
        operator = Operator(entry.name, entry.role, entry.scope, SignedInBy.TOKEN, address, expires_at)
        return await self._open(operator, {"token": hash_secret(token)}, expires_at)

    async def open_for_person(self, operator: Operator) -> OpenSession:
        """A session for a person whom the identity provider has named.

        Raises:
            BrokerUnavailable: The key can't be read at the moment.
        """
        person = {
            "issuer": self._issuer,
            "name": operator.name,
            "role": str(operator.role),
            "scope": operator.scope.model_dump(mode="json"),
        }
        return await self._open(operator, person, self._end())

    async def read(self, cookie: str, address: str, *, group: str) -> OpenSession:
        """The session that a cookie names; arguments and errors as for `open_for_token`.

        Raises:
            EdgeError: `unauthenticated`: no relay of this installation made it, or it has expired.
        """
        key = await self.key.get()
        content = unseal(key, _PURPOSE, cookie)
        if content is None:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "the session is not valid: sign in again")
        expires_at = datetime.fromtimestamp(content["expires"], UTC)
        if datetime.now(UTC) >= expires_at:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "the session has ended: sign in again")
        operator = await self._operator(content, address, group, expires_at)
        session = OpenSession(_id(content), operator, cookie, csrf_value(key, cookie), expires_at)
        is_complete = self._credentials.complete.is_set()
        if await self._credentials.operators.ended_sessions.is_ended(session.id, group, is_complete=is_complete):
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "the session was ended by signing out: sign in again")
        return session

    async def end(self, session: OpenSession) -> None:
        """End a session at every replica; errors as for `EndedSessions.end`."""
        await self._credentials.operators.ended_sessions.end(session.id, session.expires_at, now=datetime.now(UTC))

    async def _operator(self, content: dict[str, Any], address: str, group: str, expires_at: datetime) -> Operator:
        token_hash = content.get("token")
        if token_hash is not None:
            entry = await self._credentials.operators.by_hash(token_hash, group)
            return Operator(entry.name, entry.role, entry.scope, SignedInBy.TOKEN, address, expires_at)
        if self._issuer is None or content["issuer"] != self._issuer:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "the session is of another identity provider: sign in again")
        scope = AccessScope.model_validate(content["scope"])
        return Operator(content["name"], Role(content["role"]), scope, SignedInBy.OIDC, address, expires_at)

    async def _open(self, operator: Operator, who: dict[str, Any], expires_at: datetime) -> OpenSession:
        key = await self.key.get()
        content = {**who, "expires": int(expires_at.timestamp()), "nonce": secrets.token_urlsafe(9)}
        cookie = seal(key, _PURPOSE, content)
        return OpenSession(_id(content), operator, cookie, csrf_value(key, cookie), expires_at)

    def _end(self) -> datetime:
        return datetime.now(UTC) + self._life


def _id(content: dict[str, Any]) -> str:
    """What names a session without saying whose it is."""
    owner = content.get("token") or f"{content['issuer']} {content['name']}"
    return f"{hashlib.sha256(owner.encode()).hexdigest()[:_OWNER_CHARS]}.{content['nonce']}"


def csrf_value(key: bytes, cookie: str) -> str:
    """What must come with each change of this session."""
    return mac(key, "csrf.v1", cookie.encode()).hex()[:43]


def is_csrf_value(session: OpenSession, sent: str) -> bool:
    """Whether a call sent the right value; in a time that shows nothing about it."""
    return hmac.compare_digest(session.csrf.encode(), sent.encode(errors="surrogateescape"))
