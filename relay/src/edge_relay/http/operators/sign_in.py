"""`/v1/admin/sign-in` and `/v1/admin/session`: how browsers sign in and out."""

import html
from datetime import UTC, datetime
from importlib.metadata import version

import structlog
from aiohttp import web

from edge_relay.http.bodies import JsonBodies, json_response
from edge_relay.http.browsers import FLOW_COOKIE, SESSION_COOKIE
from edge_relay.http.operator_callers import OperatorCallers
from edge_relay.identity.operators.operator import Operator
from edge_relay.limits.addresses import group
from edge_relay.shielded import run_to_completion
from edge_relay.sign_in.oidc import FLOW_S, HOME, Oidc
from edge_relay.sign_in.sessions import OpenSession
from edge_schemas.admin.access import Session, SignInMethods, SignInRequest
from edge_schemas.wire import routes
from edge_schemas.wire.errors import ERRORS, EdgeError, ErrorCode

log = structlog.get_logger(__name__)

MAX_ANSWER_CHARS = 4096


class SignInHandlers:
    """Sign-in, on the operators' listener.

    Args:
        callers: Authenticates operators.
        bodies: Reads bodies.
        relay: The name of this replica.
        provider: What the button for the identity provider says.
        airflow_url: Airflow's address for links to tasks, if it is known.
    """

    def __init__(
        self, callers: OperatorCallers, bodies: JsonBodies, *, relay: str, provider: str, airflow_url: str | None
    ) -> None:
        self._callers = callers
        self._bodies = bodies
        self._relay = relay
        self._provider = provider
        self._airflow_url = airflow_url
        self._version = version("edge-relay")

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.get(routes.ADMIN_SIGN_IN, self.show_methods),
            web.post(routes.ADMIN_SIGN_IN, self.sign_in),
            web.get(routes.ADMIN_OIDC_START, self.start_oidc),
            web.get(routes.ADMIN_OIDC_RETURN, self.finish_oidc),
            web.get(routes.ADMIN_SESSION, self.show_session),
            web.delete(routes.ADMIN_SESSION, self.sign_out),
        ]

    async def show_methods(self, _: web.Request) -> web.Response:
        """How a person can sign in; for everyone."""
        return json_response(SignInMethods(oidc=None if self._callers.sign_in.oidc is None else self._provider))

    async def sign_in(self, request: web.Request) -> web.Response:
        """Trade an access token for a session. A repeat opens another session."""
        self._callers.sign_in.browsers.check_site(request)
        address = self._callers.address(request)
        body = await self._bodies.small(request, f"sign-in {group(address)}", SignInRequest)
        session = await self._callers.sign_in.sessions.open_for_token(body.token, address, group=group(address))
        log.info("operator_signed_in", operator=session.operator.name, by=str(session.operator.by))
        return self._with_cookie(request, self._session(session), session)

    async def show_session(self, request: web.Request) -> web.Response:
        """Who the caller is and what they may do; also for a bearer."""
        operator, session = await self._callers.session(request)
        return self._shown(operator, operator.expires_at) if session is None else self._session(session)

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the session of this browser at every replica. A repeat is refused: there is no session any more."""
        operator, session = await self._callers.session(request)
        if session is not None:
            await run_to_completion(self._callers.sign_in.sessions.end(session))
            log.info("operator_signed_out", operator=operator.name, by=str(operator.by))
        response = web.Response(status=204)
        self._callers.sign_in.browsers.clear_cookie(request, response, SESSION_COOKIE)
        return response

    async def start_oidc(self, request: web.Request) -> web.Response:
        """Send the browser to the identity provider."""
        try:
            flow = await self._oidc().start(request.query.get("after", HOME))
        except EdgeError as error:
            return _page(error)
        response = web.Response(status=302, headers={"Location": flow.url})
        self._callers.sign_in.browsers.set_cookie(request, response, FLOW_COOKIE, flow.cookie, max_age_s=FLOW_S)
        return response

    async def finish_oidc(self, request: web.Request) -> web.Response:
        """The browser is back from the identity provider: open its session."""
        browsers = self._callers.sign_in.browsers
        try:
            session, after = await self._finish(request)
        except EdgeError as error:
            response = _page(error)
            browsers.clear_cookie(request, response, FLOW_COOKIE)
            return response
        log.info("operator_signed_in", operator=session.operator.name, by=str(session.operator.by))
        response = web.Response(status=302, headers={"Location": after})
        browsers.clear_cookie(request, response, FLOW_COOKIE)
        return self._with_cookie(request, response, session)

    async def _finish(self, request: web.Request) -> tuple[OpenSession, str]:
        oidc, query = self._oidc(), request.query
        if "error" in query:
            code = "".join(char for char in query["error"][:60] if char.isalnum() or char in "_-")
            raise EdgeError(ErrorCode.UNAUTHENTICATED, f"the identity provider refused the sign-in: {code}")
        cookie = self._callers.sign_in.browsers.cookie(request, FLOW_COOKIE)
        state, code = query.get("state", ""), query.get("code", "")
        if cookie is None or not state or not code or max(len(state), len(code)) > MAX_ANSWER_CHARS:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "this sign-in was not begun in this browser: begin again")
        operator, after = await oidc.finish(cookie, state, code, self._callers.address(request))
        return await self._callers.sign_in.sessions.open_for_person(operator), after

    def _oidc(self) -> Oidc:
        if self._callers.sign_in.oidc is None:
            raise EdgeError(ErrorCode.NOT_FOUND, "no identity provider is set: see RELAY_OIDC_ISSUER")
        return self._callers.sign_in.oidc

    def _session(self, session: OpenSession) -> web.Response:
        return self._shown(session.operator, session.expires_at, csrf=session.csrf)

    def _shown(self, operator: Operator, expires_at: datetime | None, *, csrf: str | None = None) -> web.Response:
        shown = Session(
            name=operator.name,
            role=operator.role,
            scope=operator.scope,
            by=operator.by,
            expires_at=expires_at,
            csrf=csrf,
            airflow_url=self._airflow_url,
            relay=self._relay,
            version=self._version,
        )
        return json_response(shown)

    def _with_cookie(self, request: web.Request, response: web.Response, session: OpenSession) -> web.Response:
        max_age_s = max(1, int((session.expires_at - datetime.now(UTC)).total_seconds()))
        browsers = self._callers.sign_in.browsers
        browsers.set_cookie(request, response, SESSION_COOKIE, session.cookie, max_age_s=max_age_s)
        return response


def _page(error: EdgeError) -> web.Response:
    """Why a person could not sign in. A browser shows it, so it is a page and no problem document."""
    kind = ERRORS[error.code]
    text = html.escape(error.detail or kind.title)
    body = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Signing in failed</title></head><body>'
        f'<h1>Signing in failed</h1><p>{text}.</p><p><a href="{HOME}">Back to the sign-in page</a></p></body></html>'
    )
    headers = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}
    return web.Response(status=kind.status, text=body, content_type="text/html", headers=headers)
