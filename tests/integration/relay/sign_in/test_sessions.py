"""Sessions of browsers: the cookie at every replica, its end, forgeries, and changes that other sites cause."""

from pathlib import Path

import pytest

from edge_broker.bucket import Bucket
from edge_broker.jetstream.stored import last_message
from edge_broker.subjects import ACCESS_BUCKET, kv_stream, kv_subject
from edge_relay.identity.access_keys import SESSION_PREFIX
from edge_relay.identity.operators import ended_sessions
from edge_relay.sign_in.sessions import KEY_NAME
from edge_schemas.wire import routes
from edge_schemas.wire.workers import hash_secret
from support.nats.server import eventually
from support.operators.browser import Browser
from support.relay.edge import Edge, running_edge

ENROLL = {"queues": ["default"], "site": "plant"}


async def test_a_session_is_good_at_every_replica_and_changes_need_its_value(edge: Edge) -> None:
    browser = Browser(edge)
    assert (await browser.call("GET", routes.ADMIN_SIGN_IN)).json == {"token": True}
    session = await browser.sign_in(edge.access_token)
    [(name, cookie)] = browser.set_cookie.items()
    assert name == "edge-session"
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["secure"]) == (True, "Strict", "/", "")
    assert edge.access_token not in cookie.value
    for replica in (0, 1):
        shown = await browser.call("GET", routes.ADMIN_SESSION, replica=replica)
        assert (shown.status, shown.json["csrf"], shown.json["by"]) == (200, session["csrf"], "token")
        path = routes.ADMIN_ENROLL_TOKENS
        assert (await browser.call("POST", path, replica=replica, json=ENROLL)).code == "forbidden"
        for wrong in ("", "x", session["csrf"][:-1]):
            reply = await browser.call("POST", path, replica=replica, json=ENROLL, Edge_Csrf=wrong)
            assert reply.code == "forbidden", wrong
        made = await browser.call("POST", path, replica=replica, json=ENROLL, Edge_Csrf=session["csrf"])
        assert made.status == 201, made.body
    assert len((await edge.admin("GET", routes.ADMIN_ENROLL_TOKENS)).json["items"]) == 2


async def test_a_page_of_another_site_changes_nothing(edge: Edge) -> None:
    browser = Browser(edge)
    csrf = (await browser.sign_in(edge.access_token))["csrf"]
    path = routes.ADMIN_ENROLL_TOKENS
    own = edge.relays[0].operators_url
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": own, "Sec-Fetch-Site": "cross-site"},
    ):
        there = Browser(edge, **headers)
        there.cookies = browser.cookies
        reply = await there.call("POST", path, json=ENROLL, Edge_Csrf=csrf)
        assert reply.code == "forbidden", headers
        stranger = Browser(edge, **headers)
        signed_in = await stranger.call("POST", routes.ADMIN_SIGN_IN, json={"token": edge.access_token})
        assert signed_in.code == "forbidden", "it would sign a person in as somebody else"
    good = await browser.call("POST", path, json=ENROLL, Edge_Csrf=csrf, Origin=own, Sec_Fetch_Site="same-origin")
    assert good.status == 201
    assert (await edge.admin("POST", path, ENROLL, headers={"Origin": "https://evil.example"})).status == 201, (
        "a bearer"
    )


async def test_a_value_of_another_session_is_not_accepted(edge: Edge) -> None:
    one, other = Browser(edge), Browser(edge)
    await one.sign_in(edge.access_token)
    csrf = (await other.sign_in(edge.access_token))["csrf"]
    assert (await one.call("POST", routes.ADMIN_ENROLL_TOKENS, json=ENROLL, Edge_Csrf=csrf)).code == "forbidden"


async def test_revoking_the_token_ends_its_sessions_at_once(edge: Edge) -> None:
    browser = Browser(edge)
    made = (await edge.admin("POST", routes.ADMIN_ACCESS_TOKENS, {"name": "ann", "role": "admin"})).json
    csrf = (await browser.sign_in(made["token"]))["csrf"]
    assert (await browser.call("GET", routes.ADMIN_SESSION, replica=1)).status == 200
    kept = dict(browser.cookies)
    await edge.admin("DELETE", routes.ADMIN_ACCESS_TOKEN.format(token=made["id"]))
    refused = await browser.call("POST", routes.ADMIN_ENROLL_TOKENS, json=ENROLL, Edge_Csrf=csrf)
    assert (refused.status, refused.code) == (401, "credential_revoked")
    assert browser.cookies == {}, "the browser's cookie is cleared"

    async def refused_elsewhere() -> bool:
        browser.cookies = dict(kept)
        return (await browser.call("GET", routes.ADMIN_SESSION, replica=1)).status == 401

    await eventually(refused_elsewhere, timeout_s=2, what="the other replica refuses the session")


async def test_forged_and_altered_cookies_are_refused_and_cleared(edge: Edge) -> None:
    browser = Browser(edge)
    await browser.sign_in(edge.access_token)
    [(name, good)] = browser.cookies.items()
    middle = len(good) // 2
    altered = good[:middle] + ("A" if good[middle] != "A" else "B") + good[middle + 1 :]
    for bad in (altered, good[:-4], good + "AAAA", "", "x", "é", "AAAA" * 20, "A" * 5000, good[::-1]):
        browser.cookies = {name: bad}
        try:
            reply = await browser.call("GET", routes.ADMIN_SESSION)
        except ValueError:
            continue  # no HTTP client sends it
        assert (reply.status, reply.code) == (401, "unauthenticated"), bad
        assert browser.cookies == {}, bad
    browser.cookies = {name: good}
    assert (await browser.call("GET", routes.ADMIN_SESSION)).status == 200


async def test_signing_out_clears_the_cookie(edge: Edge) -> None:
    browser = Browser(edge)
    csrf = (await browser.sign_in(edge.access_token))["csrf"]
    assert (await browser.call("DELETE", routes.ADMIN_SESSION)).code == "forbidden"
    assert (await browser.call("DELETE", routes.ADMIN_SESSION, Edge_Csrf=csrf)).status == 204
    assert browser.cookies == {}
    assert (await browser.call("GET", routes.ADMIN_SESSION)).code == "unauthenticated"


async def test_signing_out_ends_the_session_at_every_replica(edge: Edge) -> None:
    """A copy of the cookie, from a backup or a stolen disk, must be of no use afterwards."""
    browser, other = Browser(edge), Browser(edge)
    csrf = (await browser.sign_in(edge.access_token))["csrf"]
    await other.sign_in(edge.access_token)
    copy = dict(browser.cookies)
    assert (await browser.call("DELETE", routes.ADMIN_SESSION, Edge_Csrf=csrf)).status == 204

    async def refused_at(replica: int) -> bool:
        browser.cookies = dict(copy)
        reply = await browser.call("GET", routes.ADMIN_SESSION, replica=replica)
        return (reply.status, reply.code, browser.cookies) == (401, "unauthenticated", {})

    assert await refused_at(0)
    await eventually(lambda: refused_at(1), timeout_s=2, what="the other replica refuses the session")
    for replica in (0, 1):
        assert (await other.call("GET", routes.ADMIN_SESSION, replica=replica)).status == 200, "another session"


async def test_a_replica_that_has_not_read_all_entries_refuses_an_ended_session(edge: Edge) -> None:
    browser = Browser(edge)
    csrf = (await browser.sign_in(edge.access_token))["csrf"]
    copy = dict(browser.cookies)
    assert (await browser.call("DELETE", routes.ADMIN_SESSION, Edge_Csrf=csrf)).status == 204
    credentials = edge.relays[0].parts.identity.credentials
    credentials.operators.ended_sessions._ends.clear()
    credentials.complete.clear()
    browser.cookies = copy
    assert (await browser.call("GET", routes.ADMIN_SESSION)).code == "unauthenticated"


async def test_the_end_of_a_session_is_stored_as_long_as_its_cookie_lives(edge: Edge) -> None:
    browser = Browser(edge)
    csrf = (await browser.sign_in(edge.access_token))["csrf"]
    assert (await browser.call("DELETE", routes.ADMIN_SESSION, Edge_Csrf=csrf)).status == 204
    [key] = await Bucket(edge.broker, ACCESS_BUCKET).keys(f"{SESSION_PREFIX}>")
    stored = await last_message(edge.broker, kv_stream(ACCESS_BUCKET), kv_subject(ACCESS_BUCKET, key))
    assert stored is not None
    life_s = edge.relays[0].parts.settings.session_s
    assert life_s <= int(stored.headers["Nats-TTL"].removesuffix("s")) <= life_s + 60
    assert hash_secret(edge.access_token)[:16] not in key, "it does not say whose session it was"


async def test_one_owner_can_not_fill_the_store_of_ended_sessions(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended_sessions, "MAX_OF_OWNER", 1)
    replies = []
    for _ in range(2):
        browser = Browser(edge)
        csrf = (await browser.sign_in(edge.access_token))["csrf"]
        replies.append(await browser.call("DELETE", routes.ADMIN_SESSION, Edge_Csrf=csrf))
    assert [(reply.status, reply.code) for reply in replies] == [(204, ""), (429, "rate_limited")]
    made = (await edge.admin("POST", routes.ADMIN_ACCESS_TOKENS, {"name": "ann", "role": "admin"})).json
    another = Browser(edge)
    csrf = (await another.sign_in(made["token"]))["csrf"]
    assert (await another.call("DELETE", routes.ADMIN_SESSION, Edge_Csrf=csrf)).status == 204


async def test_a_browser_signs_in_with_an_access_token_only(edge: Edge) -> None:
    worker = await edge.worker()
    for token in (worker.secret, await edge.token(), "", "x", "a.b.c"):
        reply = await Browser(edge).call("POST", routes.ADMIN_SIGN_IN, json={"token": token})
        assert reply.code == "unauthenticated", token
    assert (
        await Browser(edge).call("POST", routes.ADMIN_SIGN_IN, json={"token": "x" * 5000})
    ).code == "invalid_request"


async def test_a_session_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_edge(tmp_path) as edge:
        browser = Browser(edge)
        sessions = edge.relays[0].parts.identity.sessions
        monkeypatch.setattr(sessions, "_life", sessions._life * 0)
        await browser.sign_in(edge.access_token)
        reply = await browser.call("GET", routes.ADMIN_SESSION)
        assert (reply.status, reply.code) == (401, "unauthenticated")
        assert "has ended" in reply.json["detail"]
        assert browser.cookies == {}


async def test_behind_a_trusted_proxy_the_cookie_is_for_https_only(tmp_path: Path) -> None:
    async with running_edge(
        tmp_path, trusted_proxies=("127.0.0.0/8",), operators_public_url="https://relay.example"
    ) as edge:
        browser = Browser(edge, **{"X-Forwarded-Proto": "https", "Origin": "https://relay.example"})
        csrf = (await browser.sign_in(edge.access_token))["csrf"]
        [(name, cookie)] = browser.set_cookie.items()
        assert (name, cookie["secure"]) == ("__Host-edge-session", True)
        assert (await browser.call("DELETE", routes.ADMIN_SESSION, Edge_Csrf=csrf)).status == 204
        assert browser.cookies == {}
        plain = Browser(edge)
        await plain.sign_in(edge.access_token)
        [(_, value)] = plain.cookies.items()
        planted = Browser(edge, **{"X-Forwarded-Proto": "https"})
        planted.cookies = {"edge-session": value}
        assert (await planted.call("GET", routes.ADMIN_SESSION)).code == "unauthenticated", "another host may set it"


async def test_a_stranger_can_not_pretend_https(edge: Edge) -> None:
    browser = Browser(edge, **{"X-Forwarded-Proto": "https"})
    await browser.sign_in(edge.access_token)
    assert list(browser.cookies) == ["edge-session"]


async def test_the_key_of_sessions_is_its_own(edge: Edge) -> None:
    sessions = [relay.parts.identity.sessions for relay in edge.relays]
    keys = [await one.key.get() for one in sessions]
    assert keys[0] == keys[1]
    assert keys[0] != await edge.relays[0].parts.identity.receipt_key.get()
    assert KEY_NAME == "session-key"
