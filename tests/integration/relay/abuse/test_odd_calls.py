"""Calls that no honest client makes: each is answered with what is wrong, and none is an error of the relay."""

import asyncio
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote

import orjson

from edge_schemas.wire import routes
from support.operators.browser import Browser
from support.relay.edge import Edge

ENDS_OF_TIME = (
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-12:00",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
)
LINES = ("two\nlines", "\x1b[31mred", "nul\x00", "\u202egnihton", "para\u2029graph", "  ", "")


async def test_times_at_the_ends_of_the_calendar(edge: Edge) -> None:
    worker = (await edge.worker()).name
    for time in ENDS_OF_TIME:
        for name in ("since", "until"):
            reply = await edge.admin("GET", f"{routes.ADMIN_AUDIT}?{name}={quote(time)}")
            assert reply.status == 200, (name, time, reply.body)
            is_all = (name == "until") == time.startswith("9")
            assert bool(reply.json["items"]) is is_all, (name, time)
        for route, targets in (
            (routes.ADMIN_WORKER_ACTIONS, {"workers": [worker]}),
            (routes.ADMIN_SITE_ACTIONS, {"sites": ["plant"]}),
            (routes.ADMIN_QUEUE_ACTIONS, {"queues": [{"queue": "default"}]}),
        ):
            body = {"action": {"do": "pause", "until": time}, "reason": "a test", **targets}
            reply = await edge.admin("POST", route, body)
            assert reply.status == (200 if time.startswith("9") else 400), reply.body
        for route in (routes.ADMIN_WORKERS, routes.ADMIN_SITES, routes.ADMIN_QUEUES, routes.ADMIN_OVERVIEW):
            assert (await edge.admin("GET", route)).status == 200, (route, time)
        assert (await edge.admin("GET", routes.ADMIN_WORKER.format(worker=worker))).status == 200


async def test_headers_that_are_none(edge: Edge) -> None:
    for origin in ("http://[", "http://[::1", "https://a:b:c", "null", "\udcff"):
        reply = await edge.call(
            "POST", routes.ADMIN_SIGN_IN, json={"token": edge.access_token}, headers={"Origin": origin}, operators=True
        )
        assert reply.code == "forbidden", (origin, reply.body)
    browser = Browser(edge)
    await browser.sign_in(edge.access_token)
    [(name, cookie)] = browser.cookies.items()
    for value in (b"\xff\xfe", "é".encode(), b"x" * 4000):
        headers = {"Cookie": f"{name}={cookie}".encode(), "Edge-Csrf": value}
        status, body = await asyncio.to_thread(_signs_out, edge.relays[0].operators_url, headers)
        assert (status, orjson.loads(body)["code"]) == (403, "forbidden"), (value, body)


def _signs_out(url: str, headers: dict[str, bytes]) -> tuple[int, bytes]:
    """A call whose headers are bytes that no client of the tests would send."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.putrequest("DELETE", routes.ADMIN_SESSION)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    with closing(connection):
        return answer.status, answer.read()


async def test_a_reason_is_one_line_that_shows_what_it_is(edge: Edge) -> None:
    """It is shown in terminals, logs of tasks, and on pages."""
    worker = (await edge.worker()).name
    for text in LINES:
        await _is_refused(edge, worker, text)
    assert edge.relays[0].parts.desired.order(worker, "plant") is None


async def _is_refused(edge: Edge, worker: str, text: str) -> None:
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        (routes.ADMIN_WORKER_ACTIONS, {"action": {"do": "pause"}, "workers": [worker], "reason": text}),
        (routes.ADMIN_SITE_ACTIONS, {"action": {"do": "pause"}, "sites": ["plant"], "reason": text}),
        (routes.ADMIN_QUEUE_ACTIONS, {"action": {"do": "pause"}, "queues": [{"queue": "q"}], "reason": text}),
        (routes.ADMIN_JOB_ACTIONS, {"action": {"do": "cancel"}, "where": {"queue": "q"}, "reason": text}),
        (routes.ADMIN_ACCESS_TOKENS, {"name": text}),
    )
    for route, body in calls:
        reply = await edge.admin("POST", route, body)
        assert reply.code == "invalid_request", (text, reply.body)
    if text.strip():
        revoked = await edge.admin("DELETE", f"{routes.ADMIN_ACCESS_TOKEN.format(token='0' * 12)}?reason={quote(text)}")
        assert revoked.code == "invalid_request"


async def test_a_reason_in_any_language(edge: Edge) -> None:
    await edge.worker()
    for text in ("Prüfstand 3 zieht um <b>", "停电检修", "צריך תיקון", "👩‍🔧 servicing"):
        body = {"action": {"do": "pause"}, "sites": ["plant"], "reason": text}
        assert (await edge.admin("POST", routes.ADMIN_SITE_ACTIONS, body)).json["changed"] == ["plant"]
        [row] = (await edge.admin("GET", routes.ADMIN_SITES)).json["items"]
        assert row["order"]["reason"] == text


async def test_a_queue_must_accept_something(edge: Edge) -> None:
    body = {"action": {"do": "set", "kinds": []}, "queues": [{"queue": "default"}], "reason": "a test"}
    reply = await edge.admin("POST", routes.ADMIN_QUEUE_ACTIONS, body)
    assert (reply.code, "kinds" in reply.json["detail"]) == ("invalid_request", True)
