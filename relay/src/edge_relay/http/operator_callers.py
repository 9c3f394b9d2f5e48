"""The calling operator: by access token, provider's token or session, or through Airflow's api-server."""

from dataclasses import dataclass, replace
from urllib.parse import unquote

import structlog
from aiohttp import web

from edge_relay.http.bearer import bearer
from edge_relay.http.browsers import SESSION_COOKIE, Browsers
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.operators.operator import Operator
from edge_relay.limits.addresses import ClientAddresses, group
from edge_relay.sign_in.oidc import Oidc, is_jwt
from edge_relay.sign_in.sessions import OpenSession, Sessions
from edge_schemas.admin.access import OPERATOR_ROLES, AccessTokenEntry, Role, SignedInBy
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.routes import ACTING_AS_HEADER, ACTING_FOR_HEADER

MAX_USER_CHARS = 200
STALE_SESSION = web.RequestKey("stale_session", bool)
"""Set if the call's session was refused: its cookie is taken from the browser."""


@dataclass(frozen=True, slots=True)
class OperatorSignIn:
    """The ways to sign in.

    Attributes:
        oidc: None if no identity provider is set.
    """

    credentials: Credentials
    sessions: Sessions
    browsers: Browsers
    oidc: Oidc | None


class OperatorCallers:
    """Authenticates operators. A bearer counts before a cookie."""

    def __init__(self, addresses: ClientAddresses, sign_in: OperatorSignIn) -> None:
        self._addresses = addresses
        self._sign_in = sign_in

    @property
    def sign_in(self) -> OperatorSignIn:
        """The ways to sign in."""
        return self._sign_in

    def address(self, request: web.Request) -> str:
        """Where a call came from: the client's address, not a trusted proxy's."""
        return self._addresses.client(request.remote or "", request.headers.getall("X-Forwarded-For", []))

    async def operator(self, request: web.Request, needed: Role = Role.VIEWER) -> Operator:
        """The calling operator; every handler under /v1/admin begins with it.

        Args:
            request: The call.
            needed: The least role that the call needs.

        Raises:
            EdgeError: `unauthenticated`, `credential_revoked`, `rate_limited`, `forbidden`, `provider_unavailable`.
            BrokerUnavailable: The credential is unknown here, and the broker can't be asked.
        """
        operator, _ = await self.session(request)
        operator.require(needed)
        return operator

    async def session(self, request: web.Request) -> tuple[Operator, OpenSession | None]:
        """The calling operator, and the session if a browser has signed in; errors as for `operator`."""
        address = self.address(request)
        session = None
        if "Authorization" in request.headers:
            operator = await self._by_bearer(request, bearer(request), address)
        elif (cookie := self._sign_in.browsers.cookie(request, SESSION_COOKIE)) is not None:
            session = await self._by_cookie(request, cookie, address)
            operator = session.operator
        else:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "sign in, or send 'Authorization: Bearer' with an access token")
        structlog.contextvars.bind_contextvars(operator=operator.name)
        if operator.role is Role.PRODUCER:
            text = f"{operator.name} is a producer: its token is for /v1/queues and /v1/jobs at the workers' address"
            raise EdgeError(ErrorCode.FORBIDDEN, text)
        return operator, session

    async def _by_bearer(self, request: web.Request, secret: str, address: str) -> Operator:
        if self._sign_in.oidc is not None and is_jwt(secret):
            _refuse_acting(request)
            return await self._sign_in.oidc.bearer(secret, address)
        entry = await self._sign_in.credentials.operators.by_secret(secret, group(address))
        operator = Operator(entry.name, entry.role, entry.scope, SignedInBy.TOKEN, address, entry.expires_at)
        return _acting(request, operator, entry) if entry.for_airflow else _itself(request, operator)

    async def _by_cookie(self, request: web.Request, cookie: str, address: str) -> OpenSession:
        _refuse_acting(request)
        try:
            session = await self._sign_in.sessions.read(cookie, address, group=group(address))
        except EdgeError as error:
            request[STALE_SESSION] = error.code in {ErrorCode.UNAUTHENTICATED, ErrorCode.CREDENTIAL_REVOKED}
            raise
        self._sign_in.browsers.check_change(request, session)
        return session


def _itself(request: web.Request, operator: Operator) -> Operator:
    _refuse_acting(request)
    return operator


def _refuse_acting(request: web.Request) -> None:
    if ACTING_FOR_HEADER in request.headers or ACTING_AS_HEADER in request.headers:
        text = f"only an access token that was made for Airflow may send {ACTING_FOR_HEADER} and {ACTING_AS_HEADER}"
        raise EdgeError(ErrorCode.FORBIDDEN, text)


def _acting(request: web.Request, operator: Operator, entry: AccessTokenEntry) -> Operator:
    """The Airflow user for whom the api-server calls: never with more rights than its token has.

    Raises:
        EdgeError: `invalid_request`.
    """
    user = _user(request.headers.get(ACTING_FOR_HEADER, ""))
    sent = request.headers.get(ACTING_AS_HEADER, "")
    role = next((one for one in OPERATOR_ROLES if one == sent), None)
    if role is None:
        text = f"{ACTING_AS_HEADER} must be one of {', '.join(OPERATOR_ROLES)}"
        raise EdgeError(ErrorCode.INVALID_REQUEST, text)
    least = role if entry.role.includes(role) else entry.role
    return replace(operator, name=user, role=least, by=SignedInBy.AIRFLOW, token=entry.name)


def _user(sent: str) -> str:
    try:
        user = unquote(sent, errors="strict").strip()
    except UnicodeDecodeError:
        user = ""
    if not user or len(user) > MAX_USER_CHARS or not user.isprintable():
        text = f"{ACTING_FOR_HEADER} must name the Airflow user, as UTF-8 in percent-encoding"
        raise EdgeError(ErrorCode.INVALID_REQUEST, text)
    return user
