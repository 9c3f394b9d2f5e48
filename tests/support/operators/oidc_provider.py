"""A small OpenID Connect provider: real keys, discovery, an authorization page without a page, a token endpoint."""

import base64
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CLIENT, SECRET = "edge-relay", "the client's secret"

HMAC_KEY = b"a key that anybody can read here"

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Provider:
    """Its keys and what it was asked.

    Attributes:
        url: The issuer.
        keys: By key id; what it publishes.
        person: Claims of whoever signs in.
        userinfo: What its UserInfo endpoint answers; it has none if this is None.
        reads: How often its keys were read.
        is_away: Every call fails.
    """

    def __init__(self) -> None:
        self.url = ""
        self.keys: dict[str, Key] = {"rsa-1": rsa_key(), "ec-1": ec.generate_private_key(ec.SECP256R1())}
        self.person: dict[str, Any] = {"sub": "42", "preferred_username": "ann", "roles": ["edge-ops"]}
        self.codes: dict[str, dict[str, str]] = {}
        self.userinfo: dict[str, Any] | None = None
        self.reads = 0
        self.is_away = False
        self.id_token: str | None = None

    def token(self, *, kid: str | None = "rsa-1", key: Any = None, alg: str = "RS256", **claims: Any) -> str:
        """A token; claims that are None are left out."""
        now = int(time.time())
        content = {"iss": self.url, "aud": CLIENT, "exp": now + 300, "iat": now, **self.person, **claims}
        content = {name: value for name, value in content.items() if value is not None}
        headers = {} if kid is None else {"kid": kid}
        signing = key if key is not None else self.keys[kid or "rsa-1"]
        return jwt.encode(content, signing, algorithm=alg, headers=headers)

    def authorize(self, url: str) -> tuple[str, str]:
        """What the provider does when a person has signed in at this address; returns the code and the state."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert url.startswith(f"{self.url}/authorize?")
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        return code, query["state"]

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._away])
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._describe),
                web.get("/keys", self._keys),
                web.post("/token", self._exchange),
                web.get("/userinfo", self._userinfo),
            ]
        )
        return app

    @web.middleware
    async def _away(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.is_away:
            return web.Response(status=502)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _describe(self, _: web.Request) -> web.Response:
        more = {} if self.userinfo is None else {"userinfo_endpoint": f"{self.url}/userinfo"}
        return web.json_response(
            {
                **more,
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            }
        )

    async def _keys(self, _: web.Request) -> web.Response:
        self.reads += 1
        of_no_use = {"kty": "oct", "k": base64.urlsafe_b64encode(HMAC_KEY).decode(), "kid": "hmac"}
        listed: list[Any] = [of_no_use, {"kty": "odd", "kid": "odd"}]
        for kid, key in self.keys.items():
            if isinstance(key, rsa.RSAPrivateKey):
                public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            else:
                public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
            listed.append({**public, "kid": kid, "use": "sig"})
        return web.json_response({"keys": listed})

    async def _userinfo(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer opaque":
            return web.json_response({"error": "invalid_token"}, status=401)
        return web.json_response(self.userinfo)

    async def _exchange(self, request: web.Request) -> web.Response:
        form = await request.post()
        basic = base64.b64encode(f"{CLIENT}:{quote(SECRET, safe='')}".encode()).decode()
        asked = self.codes.pop(str(form["code"]), None)
        challenge = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        if (
            asked is None
            or request.headers.get("Authorization") != f"Basic {basic}"
            or base64.urlsafe_b64encode(challenge).rstrip(b"=").decode() != asked["code_challenge"]
            or form["redirect_uri"] != asked["redirect_uri"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        token = self.id_token or self.token(nonce=asked["nonce"])
        return web.json_response({"access_token": "opaque", "token_type": "Bearer", "id_token": token})


def return_path(route: str, code: str, state: str) -> str:
    """Where the provider sends the browser."""
    return f"{route}?{urlencode({'code': code, 'state': state})}"


@asynccontextmanager
async def running_provider() -> AsyncIterator[Provider]:
    """A provider on a port of its own."""
    provider = Provider()
    runner = web.AppRunner(provider.app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    provider.url = f"http://{host}:{port}"
    try:
        yield provider
    finally:
        await runner.cleanup()
