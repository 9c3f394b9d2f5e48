"""Calls of browsers: their cookies, and what keeps a page of another site from making changes with them."""

from urllib.parse import urlsplit

from aiohttp import web

from edge_relay.limits.addresses import ClientAddresses
from edge_relay.sign_in.sessions import OpenSession, is_csrf_value
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.routes import CSRF_HEADER

SESSION_COOKIE = "edge-session"
FLOW_COOKIE = "edge-sign-in"
SECURE_PREFIX = "__Host-"
"""A browser keeps a cookie of this name only from this host, by HTTPS, and for the whole host."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})


class Browsers:
    """Knows how browsers reach this listener.

    Args:
        addresses: Knows the proxies in front of the relay.
        public_url: The address that browsers call, if it is set.
    """

    def __init__(self, addresses: ClientAddresses, public_url: str | None) -> None:
        self._addresses = addresses
        self._public = None if public_url is None else urlsplit(public_url)

    def is_secure(self, request: web.Request) -> bool:
        """Whether the browser used HTTPS, as this listener or a trusted proxy in front of it saw it."""
        if request.secure:
            return True
        forwarded = request.headers.get("X-Forwarded-Proto", "").split(",")[-1].strip().lower()
        return forwarded == "https" and self._addresses.is_trusted(request.remote or "")

    def cookie(self, request: web.Request, name: str) -> str | None:
        """A cookie of the call. By HTTPS only the one that no other host could have set."""
        return request.cookies.get(self._name(request, name))

    def set_cookie(
        self, request: web.Request, response: web.StreamResponse, name: str, value: str, *, max_age_s: int
    ) -> None:
        """Give the browser a cookie that no script can read.

        A flow's cookie comes back with a link from the provider's site, so it is `Lax`; all others are `Strict`.
        """
        response.set_cookie(
            self._name(request, name),
            value,
            max_age=max_age_s,
            path="/",
            secure=self.is_secure(request),
            httponly=True,
            samesite="Lax" if name == FLOW_COOKIE else "Strict",
        )

    def clear_cookie(self, request: web.Request, response: web.StreamResponse, name: str) -> None:
        """Take a cookie from the browser."""
        self.set_cookie(request, response, name, "", max_age_s=0)

    def check_change(self, request: web.Request, session: OpenSession) -> None:
        """Refuse a change that a page of another site may have caused.

        Raises:
            EdgeError: `forbidden`.
        """
        if request.method in _SAFE_METHODS:
            return
        self.check_site(request)
        if not is_csrf_value(session, request.headers.get(CSRF_HEADER, "")):
            text = f"a change by a signed-in browser needs the header {CSRF_HEADER}: reload the page"
            raise EdgeError(ErrorCode.FORBIDDEN, text)

    def check_site(self, request: web.Request) -> None:
        """Refuse a call that the browser marks as caused by a page of another site.

        Raises:
            EdgeError: `forbidden`.
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None and site not in _OWN_SITES:
            raise EdgeError(ErrorCode.FORBIDDEN, "the call comes from a page of another site")
        origin = request.headers.get("Origin")
        if origin is not None and not self._is_own(request, origin):
            text = "the call comes from a page of another address; is RELAY_OPERATORS_PUBLIC_URL right?"
            raise EdgeError(ErrorCode.FORBIDDEN, text)

    def _is_own(self, request: web.Request, origin: str) -> bool:
        if self._public is not None:
            return origin == f"{self._public.scheme}://{self._public.netloc}"
        try:
            return urlsplit(origin).netloc == request.host
        except ValueError:  # it is no URL
            return False

    def _name(self, request: web.Request, name: str) -> str:
        return SECURE_PREFIX + name if self.is_secure(request) else name
