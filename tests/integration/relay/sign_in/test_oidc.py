"""OpenID Connect against a provider with real keys: scripts, browsers, forgeries, and a provider that is away."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from edge_relay.sign_in.oidc import local_path
from edge_schemas.wire import routes
from support.nats.server import free_port
from support.network.forward_proxy import forward_proxy
from support.operators.browser import Browser
from support.operators.oidc_provider import CLIENT, HMAC_KEY, SECRET, Provider, return_path, rsa_key, running_provider
from support.relay.edge import Edge, Reply, running_edge

ENROLL = {"queues": ["default"], "site": "plant"}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with running_provider() as running:
        yield running


def oidc_settings(provider: Provider, tmp_path: Path) -> dict[str, Any]:
    secret = tmp_path / "client.secret"
    secret.write_text(SECRET)
    return {
        "operators_public_url": "https://relay.example",
        "trusted_proxies": ("127.0.0.0/8",),
        "oidc_issuer": provider.url,
        "oidc_name": "Example",
        "oidc_client_id": CLIENT,
        "oidc_client_secret_file": secret,
        "oidc_roles": "edge-ops=operator,edge-admins=admin",
    }


@pytest.fixture
async def edge(provider: Provider, tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path, replicas=2, **oidc_settings(provider, tmp_path)) as running:
        yield running


async def ask(edge: Edge, token: str, **more: Any) -> Reply:
    return await edge.call("GET", routes.ADMIN_SESSION, token, operators=True, **more)


def browser_of(edge: Edge) -> Browser:
    return Browser(edge, **{"X-Forwarded-Proto": "https"})


async def signed_in(edge: Edge, provider: Provider, browser: Browser, after: str = "") -> Reply:
    """A person signs in; returns the answer to the return from the provider."""
    start = await browser.call("GET", routes.ADMIN_OIDC_START + (f"?after={after}" if after else ""))
    assert start.status == 302, start.body
    code, state = provider.authorize(start.headers["Location"])
    return await browser.call("GET", return_path(routes.ADMIN_OIDC_RETURN, code, state), replica=1)


async def test_a_script_calls_with_a_token_of_the_provider(edge: Edge, provider: Provider) -> None:
    for token in (provider.token(), provider.token(kid="ec-1", alg="ES256"), provider.token(alg="PS256")):
        shown = await ask(edge, token)
        assert shown.status == 200, shown.body
        assert (shown.json["name"], shown.json["role"], shown.json["by"]) == ("ann", "operator", "oidc")
    both = await ask(edge, provider.token(roles=["x", "edge-ops", "edge-admins"]))
    assert both.json["role"] == "admin", "the highest role counts"
    assert (await ask(edge, provider.token(preferred_username=None))).json["name"] == "42"
    assert provider.reads <= 2, "keys are kept"


async def test_a_token_without_a_role_is_forbidden(edge: Edge, provider: Provider) -> None:
    for roles in ([], ["other"], None, {"edge-ops": 1}, 7, "EDGE-OPS"):
        refused = await ask(edge, provider.token(roles=roles))
        assert refused.code == "forbidden", roles
        assert "RELAY_OIDC_ROLES" in refused.json["detail"]


async def test_forged_tokens_are_refused(edge: Edge, provider: Provider) -> None:
    now = int(time.time())
    good = provider.token()
    head, body, signature = good.split(".")
    with_hmac = jwt.encode({"iss": provider.url, "aud": CLIENT, "exp": now + 60, **provider.person}, "k" * 32)
    forgeries = {
        "wrong key": provider.token(key=rsa_key()),
        "wrong audience": provider.token(aud="another"),
        "no audience": provider.token(aud=None),
        "wrong issuer": provider.token(iss="https://evil.example"),
        "expired": provider.token(exp=now - 60),
        "no expiry": provider.token(exp=None),
        "not yet valid": provider.token(nbf=now + 120),
        "alg none": jwt.encode({"iss": provider.url, "aud": CLIENT, "exp": now + 60, **provider.person}, "", "none"),
        "hmac": with_hmac,
        "hmac with the listed secret": jwt.encode(
            {"iss": provider.url, "aud": CLIENT, "exp": now + 60, **provider.person},
            HMAC_KEY,
            headers={"kid": "hmac"},
        ),
        "key of another kind": provider.token(kid="ec-1", key=provider.keys["rsa-1"]),
        "altered": f"{head}.{body[:-4]}AAAA.{signature}",
        "without signature": f"{head}.{body}.",
        "garbage": "eyJ.eyJ.eyJ",
    }
    for what, token in forgeries.items():
        refused = await ask(edge, token)
        assert (refused.status, refused.code) == (401, "unauthenticated"), what
    assert (await ask(edge, good)).status == 200


async def test_unknown_key_ids_cause_few_reads_and_new_keys_are_found(
    edge: Edge, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await ask(edge, provider.token())).status == 200
    key = rsa_key()
    for number in range(30):
        assert (await ask(edge, provider.token(key=key, kid=f"made-up-{number}"))).code == "unauthenticated"
    assert provider.reads <= 2
    provider.keys["rsa-2"] = rsa_key()
    oidc = edge.relays[0].parts.identity.oidc
    assert oidc is not None
    monkeypatch.setattr(oidc._keys, "_tried_at", oidc._keys._tried_at - 60)
    assert (await ask(edge, provider.token(kid="rsa-2"))).status == 200, "the provider has rotated its keys"
    assert provider.reads <= 3


async def test_a_provider_that_is_away_stops_no_one_with_an_access_token(edge: Edge, provider: Provider) -> None:
    provider.is_away = True
    refused = await ask(edge, provider.token())
    assert (refused.status, refused.code) == (503, "provider_unavailable")
    assert "access token" in refused.json["detail"]
    page = await browser_of(edge).call("GET", routes.ADMIN_OIDC_START)
    assert page.status == 503
    assert b"identity provider can&#x27;t be used" in page.body
    assert (await edge.admin("GET", routes.ADMIN_SESSION)).status == 200
    assert (await browser_of(edge).sign_in(edge.access_token))["name"] == "tests"
    provider.is_away = False
    oidc = edge.relays[0].parts.identity.oidc
    assert oidc is not None
    oidc._keys._tried_at -= 60
    assert (await ask(edge, provider.token())).status == 200
    provider.is_away = True
    oidc._keys._read_at -= 4000
    oidc._keys._tried_at -= 4000
    assert (await ask(edge, provider.token())).status == 200, "known keys are used for a day"


async def test_a_person_signs_in_by_browser_and_acts_at_every_replica(edge: Edge, provider: Provider) -> None:
    browser = browser_of(edge)
    assert (await browser.call("GET", routes.ADMIN_SIGN_IN)).json == {"token": True, "oidc": "Example"}
    provider.person["roles"] = ["edge-admins"]
    start = await browser.call("GET", f"{routes.ADMIN_OIDC_START}?after=/ui/workers")
    [(name, flow)] = browser.set_cookie.items()
    assert (name, flow["samesite"], flow["secure"], flow["httponly"]) == ("__Host-edge-sign-in", "Lax", True, True)
    code, state = provider.authorize(start.headers["Location"])
    back = await browser.call("GET", return_path(routes.ADMIN_OIDC_RETURN, code, state), replica=1)
    assert (back.status, back.headers["Location"]) == (302, "/ui/workers"), back.body
    assert list(browser.cookies) == ["__Host-edge-session"]
    assert browser.set_cookie["__Host-edge-session"]["samesite"] == "Strict"
    for replica in (0, 1):
        shown = (await browser.call("GET", routes.ADMIN_SESSION, replica=replica)).json
        assert (shown["name"], shown["role"], shown["by"]) == ("ann", "admin", "oidc")
        path = routes.ADMIN_ENROLL_TOKENS
        assert (await browser.call("POST", path, json=ENROLL, replica=replica)).code == "forbidden"
        made = await browser.call("POST", path, json=ENROLL, replica=replica, Edge_Csrf=shown["csrf"])
        assert made.status == 201
    page = (await edge.admin("GET", f"{routes.ADMIN_AUDIT}?actor=ann")).json
    assert {(one["action"], one["actor"]["by"]) for one in page["items"]} == {("enroll-token-created", "oidc")}


async def test_a_sign_in_is_good_once_and_in_its_browser_only(edge: Edge, provider: Provider) -> None:
    browser, other = browser_of(edge), browser_of(edge)
    start = await browser.call("GET", routes.ADMIN_OIDC_START)
    flow = dict(browser.cookies)
    code, state = provider.authorize(start.headers["Location"])
    path = return_path(routes.ADMIN_OIDC_RETURN, code, state)
    stolen = await other.call("GET", path)
    assert (stolen.status, other.cookies) == (401, {}), "somebody else's browser"
    for wrong in (return_path(routes.ADMIN_OIDC_RETURN, code, "x"), routes.ADMIN_OIDC_RETURN):
        browser.cookies = dict(flow)
        assert (await browser.call("GET", wrong)).status == 401
    browser.cookies = dict(flow)
    assert (await browser.call("GET", path)).status == 302
    for replica in (0, 1):
        browser.cookies = dict(flow)
        replayed = await browser.call("GET", path, replica=replica)
        assert (replayed.status, browser.cookies) == (401, {}), replica
        assert b"Signing in failed" in replayed.body


async def test_what_the_provider_says_wrong_signs_nobody_in(edge: Edge, provider: Provider) -> None:
    browser = browser_of(edge)
    for what in (
        provider.token(nonce="of another sign-in"),
        provider.token(aud="another", nonce=None),
        provider.token(key=rsa_key()),
        "none",
    ):
        provider.id_token = what
        reply = await signed_in(edge, provider, browser)
        assert (reply.status, browser.cookies) == (401, {}), what
    provider.id_token = None
    denied = await browser.call("GET", f"{routes.ADMIN_OIDC_RETURN}?error=access_denied%3Cscript%3E&state=x")
    assert denied.status == 401
    assert b"<script>" not in denied.body
    provider.person["roles"] = ["nothing"]
    reply = await signed_in(edge, provider, browser)
    assert (reply.status, browser.cookies) == (403, {})


async def test_the_way_back_leads_nowhere_else(edge: Edge, provider: Provider) -> None:
    for after in ("https://evil.example", "//evil.example", "/%5Cevil.example", "javascript:alert(1)"):
        back = await signed_in(edge, provider, browser_of(edge), after)
        assert (back.status, back.headers["Location"]) == (302, "/ui/"), after
    assert local_path("/ui/jobs?queue=a") == "/ui/jobs?queue=a"
    assert local_path("/ui\r\nSet-Cookie: x") == "/ui/"


async def test_claims_limit_sites_and_queues(provider: Provider, tmp_path: Path) -> None:
    settings = {**oidc_settings(provider, tmp_path), "oidc_sites_claim": "edge.sites", "oidc_queues_claim": "queues"}
    async with running_edge(tmp_path, **settings) as edge:
        limited = provider.token(edge={"sites": ["north"]}, queues="*")
        assert (await ask(edge, limited)).json["scope"] == {"sites": ["north"]}
        wrong: tuple[dict[str, Any], ...] = (
            {},
            {"edge": {"sites": []}, "queues": "*"},
            {"edge": {"sites": ["NOT A SITE"]}, "queues": "*"},
        )
        for claims in wrong:
            assert (await ask(edge, provider.token(**claims))).code == "forbidden", claims
        browser = browser_of(edge)
        provider.person |= {"edge": {"sites": ["north"]}, "queues": ["a", "b"]}
        start = await browser.call("GET", routes.ADMIN_OIDC_START)
        code, state = provider.authorize(start.headers["Location"])
        await browser.call("GET", return_path(routes.ADMIN_OIDC_RETURN, code, state))
        scope = (await browser.call("GET", routes.ADMIN_SESSION)).json["scope"]
        assert scope == {"sites": ["north"], "queues": ["a", "b"]}


async def test_without_a_provider_its_tokens_are_nothing(provider: Provider, tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        assert (await ask(edge, provider.token())).code == "unauthenticated"
        page = await Browser(edge).call("GET", routes.ADMIN_OIDC_START)
        assert (page.status, b"RELAY_OIDC_ISSUER" in page.body) == (404, True)


async def test_claims_that_the_id_token_lacks_are_asked_for(provider: Provider, tmp_path: Path) -> None:
    """What the ID token says counts first, and the answer must be about the same person."""
    provider.userinfo = {"sub": "42", "preferred_username": "eve", "roles": ["edge-admins"]}
    provider.person = {"sub": "42", "preferred_username": "ann"}
    async with running_edge(tmp_path, replicas=2, **oidc_settings(provider, tmp_path)) as edge:
        browser = browser_of(edge)
        assert (await signed_in(edge, provider, browser)).status == 302
        shown = (await browser.call("GET", routes.ADMIN_SESSION)).json
        assert (shown["name"], shown["role"]) == ("ann", "admin")
        provider.userinfo["sub"] = "43"
        reply = await signed_in(edge, provider, browser_of(edge))
        assert (reply.status, b"another person" in reply.body) == (401, True)
        provider.userinfo = {"sub": "42"}
        assert (await signed_in(edge, provider, browser_of(edge))).status == 403


async def test_the_provider_is_called_through_a_proxy(provider: Provider, tmp_path: Path) -> None:
    """And never without it: a proxy that is down is said to be the cause."""
    async with forward_proxy(tmp_path) as port:
        settings = {**oidc_settings(provider, tmp_path), "oidc_proxy_url": f"http://127.0.0.1:{port}"}
        async with running_edge(tmp_path, **settings) as edge:
            assert (await ask(edge, provider.token())).status == 200
    settings["oidc_proxy_url"] = f"http://127.0.0.1:{free_port()}"
    async with running_edge(tmp_path / "again", **settings) as edge:
        refused = await ask(edge, provider.token())
        assert (refused.status, refused.code) == (503, "provider_unavailable")
        assert "ClientProxyConnectionError" in refused.json["detail"]
