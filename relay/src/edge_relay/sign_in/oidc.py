"""OpenID Connect: bearer tokens of scripts, and the authorization code flow with PKCE for browsers."""

import base64
import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import jwt

from edge_relay.identity.operators.operator import Operator
from edge_relay.identity.shared_key import SharedKey
from edge_relay.setting_groups.sign_in_settings import SignInSettings
from edge_relay.sign_in.claims import lacks_claims, operator_from
from edge_relay.sign_in.provider import Provider
from edge_relay.sign_in.provider_keys import ProviderKeys
from edge_relay.sign_in.seals import seal, unseal
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a private key only: with `HS256` the public key could be used as a secret, `none` signs nothing."""
LEEWAY_S = 30
MAX_TOKEN_CHARS = 16_384
FLOW_S = 600
"""How long a person has to sign in at the provider."""
MAX_USED_STATES = 10_000
HOME = "/ui/"
_PURPOSE = "oidc-flow.v1"


@dataclass(frozen=True, slots=True)
class Flow:
    """A sign-in that has begun.

    Attributes:
        url: Where the browser goes.
        cookie: Comes back with the browser: it ties the answer to this browser.
    """

    url: str
    cookie: str


class Oidc:
    """Signs people in by an identity provider. Use as an asynchronous context manager.

    Raises:
        SettingsError: A file can't be read.
    """

    def __init__(self, settings: SignInSettings, key: SharedKey) -> None:
        self._settings = settings
        self._key = key
        self._provider = Provider(settings)
        self._keys = ProviderKeys(self._provider)
        self._used_states: OrderedDict[str, float] = OrderedDict()
        self._redirect_uri = (settings.operators_public_url or "").rstrip("/") + routes.ADMIN_OIDC_RETURN

    async def __aenter__(self) -> Self:
        await self._provider.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._provider.__aexit__(kind, error, trace)

    async def bearer(self, token: str, address: str) -> Operator:
        """The operator that a bearer token of a script names.

        Raises:
            EdgeError: `unauthenticated`, `forbidden`, `provider_unavailable`.
        """
        audience = self._settings.oidc_audience or self._provider.client.id
        return operator_from(await self._verified(token, audience), self._settings, address)

    async def start(self, after: str) -> Flow:
        """Begin a sign-in.

        Args:
            after: The path to which the browser returns at the end.

        Raises:
            EdgeError: `provider_unavailable`.
            BrokerUnavailable: The key for the cookie can't be read.
        """
        description = await self._keys.description()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self._provider.client.id,
                "redirect_uri": self._redirect_uri,
                "scope": self._settings.oidc_scopes,
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        end = int(time.time()) + FLOW_S
        content = {"state": state, "nonce": nonce, "verifier": verifier, "after": local_path(after), "expires": end}
        url = description.authorization_endpoint
        cookie = seal(await self._key.get(), _PURPOSE, content)
        return Flow(f"{url}{'&' if '?' in url else '?'}{query}", cookie)

    async def finish(self, cookie: str, state: str, code: str, address: str) -> tuple[Operator, str]:
        """The person who has signed in, and the path to which the browser returns. Each state is accepted once.

        Raises:
            EdgeError: `unauthenticated`, `forbidden`, `provider_unavailable`.
            BrokerUnavailable: The key for the cookie can't be read.
        """
        content = unseal(await self._key.get(), _PURPOSE, cookie)
        if content is None or not secrets.compare_digest(content["state"].encode(), state.encode()):
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "this sign-in was not begun in this browser: begin again")
        if time.time() >= content["expires"]:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "the sign-in took too long: begin again")
        self._use_up(state)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": content["verifier"],
        }
        description = await self._keys.description()
        answer = await self._provider.exchange(description, form)
        claims = await self._verified(str(answer.get("id_token", "")), self._provider.client.id)
        if claims.get("nonce") != content["nonce"]:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "the provider's answer belongs to another sign-in: begin again")
        claims = await self._with_userinfo(claims, description.userinfo_endpoint, answer.get("access_token"))
        return operator_from(claims, self._settings, address), content["after"]

    async def _with_userinfo(self, claims: dict[str, Any], url: str | None, token: object) -> dict[str, Any]:
        """The claims of the ID token; if one that counts is not among them, with those of the UserInfo endpoint.

        A provider that follows the specification to the letter leaves claims of scopes out of the ID token.
        """
        if not lacks_claims(claims, self._settings) or url is None or not isinstance(token, str):
            return claims
        found = await self._provider.userinfo(url, token)
        if found.get("sub") != claims.get("sub"):
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "the provider's UserInfo endpoint names another person")
        return {**found, **claims}

    def _use_up(self, state: str) -> None:
        """A state that was used here is refused; at another replica the provider refuses the code of a replay."""
        if state in self._used_states:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "this sign-in is complete already: begin again")
        self._used_states[state] = time.time()
        if len(self._used_states) > MAX_USED_STATES:
            self._used_states.popitem(last=False)

    async def _verified(self, token: str, audience: str) -> dict[str, Any]:
        """The claims of a token, after signature, issuer, audience and times were checked."""
        if len(token) > MAX_TOKEN_CHARS:
            raise _refused("it is too long")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError) as error:
            raise _refused("it is malformed") from error
        if header.get("alg") not in ALGORITHMS:
            raise _refused("its algorithm is not accepted")
        key = await self._keys.key(header.get("kid"))
        if key is None:
            raise _refused("the identity provider has no such key")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(ALGORITHMS),
                audience=audience,
                issuer=self._provider.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            raise _refused(_why(error)) from error
        return claims


def local_path(path: str) -> str:
    """A path of this relay; the home page instead of an address that could lead elsewhere."""
    is_local = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path[:500] if is_local and path.isascii() else HOME


def is_jwt(text: str) -> bool:
    """Whether a bearer has the form of a provider's token."""
    return text.count(".") == 2 and text.startswith("ey")


def _refused(why: str) -> EdgeError:
    return EdgeError(ErrorCode.UNAUTHENTICATED, f"the identity provider's token is refused: {why}")


def _why(error: Exception) -> str:
    reasons = {
        jwt.ExpiredSignatureError: "it has expired",
        jwt.ImmatureSignatureError: "it is not valid yet",
        jwt.InvalidAudienceError: "it is for another audience",
        jwt.InvalidIssuerError: "it is of another issuer",
        jwt.InvalidSignatureError: "its signature is wrong",
        jwt.MissingRequiredClaimError: "it lacks exp, iss or aud",
    }
    return next((text for kind, text in reasons.items() if isinstance(error, kind)), "it can't be verified")
