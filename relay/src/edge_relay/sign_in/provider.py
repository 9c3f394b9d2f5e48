"""Calls to the identity provider: its description, its keys, and the exchange of a code. Bounded in time and size."""

import base64
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import orjson

from edge_relay.setting_groups.sign_in_settings import SignInSettings
from edge_relay.settings import SettingsError, check_ca_file, read_secret
from edge_schemas.wire.errors import EdgeError, ErrorCode

CALL_S = 5.0
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Description:
    """What the provider says of itself. A provider need not have `userinfo_endpoint`."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    auth_methods: tuple[str, ...]
    userinfo_endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """The relay as the provider knows it."""

    id: str
    secret: str | None = field(default=None, repr=False)


class Provider:
    """Calls one provider. Use as an asynchronous context manager.

    Raises:
        SettingsError: The client secret or the CA file can't be read.
    """

    def __init__(self, settings: SignInSettings) -> None:
        if settings.oidc_issuer is None or settings.oidc_client_id is None:
            raise SettingsError("RELAY_OIDC_ISSUER and RELAY_OIDC_CLIENT_ID are not set")
        self.issuer = settings.oidc_issuer
        secret = None
        if settings.oidc_client_secret_file is not None:
            secret = read_secret("RELAY_OIDC_CLIENT_SECRET_FILE", settings.oidc_client_secret_file).decode()
        self.client = Client(settings.oidc_client_id, secret)
        check_ca_file("RELAY_OIDC_CA_FILE", settings.oidc_ca_file)
        ca_file = settings.oidc_ca_file
        self._proxy = settings.oidc_proxy_url
        self._tls = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=8),
            timeout=aiohttp.ClientTimeout(total=CALL_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def describe(self) -> Description:
        """The provider's addresses.

        Raises:
            EdgeError: `provider_unavailable`.
        """
        found = await self._json("GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self.issuer:
            raise unavailable(f"it names another issuer than RELAY_OIDC_ISSUER: {str(found.get('issuer'))[:200]!r}")
        methods = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        return Description(
            authorization_endpoint=self._address(found, "authorization_endpoint"),
            token_endpoint=self._address(found, "token_endpoint"),
            jwks_uri=self._address(found, "jwks_uri"),
            auth_methods=tuple(map(str, methods)) if isinstance(methods, list) else (),
            userinfo_endpoint=self._address(found, "userinfo_endpoint") if "userinfo_endpoint" in found else None,
        )

    async def keys(self, jwks_uri: str) -> dict[str, Any]:
        """The provider's keys.

        Raises:
            EdgeError: `provider_unavailable`.
        """
        return await self._json("GET", jwks_uri)

    async def exchange(self, description: Description, form: dict[str, str]) -> dict[str, Any]:
        """Exchange a code for tokens.

        Raises:
            EdgeError: `provider_unavailable`, or `unauthenticated`: the provider refuses the code.
        """
        form, headers = dict(form), dict[str, str]()
        if self.client.secret is not None and "client_secret_basic" in description.auth_methods:
            pair = f"{quote(self.client.id, safe='')}:{quote(self.client.secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = self.client.id
            if self.client.secret is not None:
                form["client_secret"] = self.client.secret
        return await self._json("POST", description.token_endpoint, form=form, headers=headers)

    async def userinfo(self, url: str, access_token: str) -> dict[str, Any]:
        """Claims of the person to whom the token belongs, as the provider's UserInfo endpoint answers.

        Raises:
            EdgeError: `provider_unavailable`.
        """
        return await self._json("GET", url, headers={"Authorization": f"Bearer {access_token}"})

    async def _json(
        self, method: str, url: str, *, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        if self._session is None:
            raise unavailable("the relay is starting")
        try:
            async with self._session.request(
                method, url, data=form, headers=headers, allow_redirects=False, proxy=self._proxy
            ) as answer:
                body = await _read(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unavailable(f"{type(error).__name__} at {url}") from error
        if form is not None and 400 <= answer.status < 500:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, f"the identity provider refused the sign-in: {_reason(body)}")
        found = _object(body)
        if answer.status != 200 or found is None:
            raise unavailable(f"status {answer.status} from {url}, or no JSON")
        return found

    def _address(self, found: dict[str, Any], name: str) -> str:
        url = str(found.get(name, ""))
        if url.startswith("https://") or (url.startswith("http://") and self.issuer.startswith("http://")):
            return url
        raise unavailable(f"its description has no {name} with https")


def unavailable(why: str) -> EdgeError:
    """Signing in by the provider is not possible at the moment."""
    text = f"the identity provider can't be used: {why}. Sign in with an access token, or try again later"
    return EdgeError(ErrorCode.PROVIDER_UNAVAILABLE, text, retry_after_s=10.0)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > MAX_BYTES:
            raise unavailable(f"its answer is larger than {MAX_BYTES} bytes")
    return bytes(body)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _reason(body: bytes) -> str:
    """The code of an OAuth error, for people; nothing else of the answer."""
    code = str((_object(body) or {}).get("error", "no reason given"))
    return "".join(char for char in code[:60] if char.isalnum() or char in "_- ") or "no reason given"
