"""Calls to the Execution API: handed on as they came, for the holder only, and only with signed answers."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edge_schemas.life.events import Finish
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import Job
from support.nats.server import free_port
from support.relay.edge import Edge, Worker, running_edge
from support.relay.fake_gate import KEY, FakeGate, running_gate


@dataclass(frozen=True)
class Setup:
    """A relay, its gate, and a job that runs on a worker."""

    edge: Edge
    gate: FakeGate
    worker: Worker
    job: Job

    def path(self, raw: str) -> str:
        return routes.JOB_EXECUTION.format(job=self.job.id, path=raw)


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    """The first keeper in the list is away."""
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    async with running_gate() as gate:
        urls = (f"http://127.0.0.1:{free_port()}", gate.url)
        async with running_edge(tmp_path, gate_urls=urls, gate_key_file=secret) as edge:
            worker = await edge.worker()
            yield Setup(edge, gate, worker, await edge.job(worker))


async def raw_call(setup: Setup, target: str, method: str = "GET") -> tuple[int, str]:
    """A request line as no client library would write it; status and body of the answer."""
    url = urlsplit(setup.edge.relays[0].workers_url)
    context = ssl.create_default_context(cafile=str(setup.edge.ca))
    reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=context)
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {setup.worker.secret}\r\n"
    head += "Connection: close\r\n\r\n"
    writer.write(head.encode("latin-1"))
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2].decode()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_call_reaches_the_gate_as_it_came(setup: Setup, method: str) -> None:
    raw = "xcoms/my%20dag/run%2F1:x/%C3%A4?include=1&key=%2F..%2F&empty="
    body = b"" if method in {"GET", "HEAD"} else b'{"state": "running"}'
    setup.gate.status, setup.gate.body = 409, b'{"detail": "as it is"}'
    reply = await setup.edge.call(
        method,
        setup.path(raw),
        setup.worker.secret,
        body=body or None,
        headers={
            "Content-Type": "application/json",
            "Airflow-API-Version": "2026-01-01",
            "X-Request-Id": "request-0001",
            "traceparent": "00-aa-bb-01",
            "correlation-id": "c1",
            "Cookie": "secret",
            "X-Forwarded-For": "1.2.3.4",
        },
    )
    assert reply.status == 409
    assert reply.body == (b"" if method == "HEAD" else setup.gate.body)
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers[routes.ORIGIN_HEADER] == routes.EXECUTION_ORIGIN
    assert not {"Refreshed-API-Token", "Set-Cookie", "Edge-Signature"} & set(reply.headers)
    call = setup.gate.calls[-1]
    assert (call.method, call.target) == (method, f"/gate/v1/jobs/{setup.job.id}/execution/{raw}")
    assert (call.worker, call.request_id, call.body) == (setup.worker.name, "request-0001", body)
    sent = setup.gate.headers[-1]
    forwarded = {name: sent.get(name) for name in routes.FORWARDED_HEADERS}
    assert forwarded == {
        "content-type": "application/json",
        "airflow-api-version": "2026-01-01",
        "correlation-id": "c1",
        "traceparent": "00-aa-bb-01",
    }
    assert not {"authorization", "cookie", "x-forwarded-for"} & set(sent)


@pytest.mark.parametrize(
    "raw",
    [
        *[
            "",
            "..",
            "a/../b",
            "a//b",
            "/a",
            "a/",
            "%2e%2e/b",
            "a%2F%2Fb",
            "a%5cb",
            "a%00b",
            "a%0Ab",
            "a%C2%85",
            "a%ffb",
        ],
        *["a%zz", "a%", "a\\b", "a{b}", 'a"b', "../../../../poll", "%2e%2e/%2e%2e/finish", "~L2EvLi4vYg", "x" * 60_000],
        "a?b=" + "c" * 60_000,
    ],
)
async def test_whatever_path_a_worker_sends_the_gate_alone_decides(setup: Setup, raw: str) -> None:
    """The relay neither decodes it for itself nor changes it; it serves no other route for it."""
    status, _ = await raw_call(setup, setup.path(raw))
    assert status == 200
    assert [call.target for call in setup.gate.calls] == [routes.GATE_EXECUTION.format(job=setup.job.id, path=raw)]


@pytest.mark.parametrize("raw", ["a#b", "a\x7fb", "~a%", "~7aCA", "a?b#c", "a?b=\x7f", "\xe4"])
async def test_what_no_http_client_sends_is_refused(setup: Setup, raw: str) -> None:
    status, _ = await raw_call(setup, setup.path(raw))
    assert status == 400
    assert setup.gate.calls == []


@pytest.mark.parametrize("raw", ["x" * 65_537, "x?y=" + "z" * 65_536])
async def test_a_path_above_the_limit_is_refused_with_the_setting(setup: Setup, raw: str) -> None:
    status, body = await raw_call(setup, setup.path(raw))
    assert (status, "path_too_long" in body, "RELAY_MAX_PATH_BYTES = 65536" in body) == (414, True, True)
    assert setup.gate.calls == []


async def test_the_absolute_form_is_refused(setup: Setup) -> None:
    status, body = await raw_call(setup, f"http://elsewhere{setup.path('variables/x')}")
    assert (status, "invalid_request" in body) == (400, True)
    assert setup.gate.calls == []


@pytest.mark.parametrize(("method", "refusal"), [("OPTIONS", 405), ("TRACE", 405), ("PROPFIND", 405), ("CONNECT", 404)])
async def test_other_methods_are_refused(setup: Setup, method: str, refusal: int) -> None:
    status, _ = await raw_call(setup, setup.path("variables/x"), method)
    assert status == refusal
    assert setup.gate.calls == []


async def test_the_good_keeper_is_remembered_and_another_found_when_it_is_gone(setup: Setup, tmp_path: Path) -> None:
    """Without any keeper the answer is a clear 503, and the next keeper that comes is found."""
    for _ in range(3):
        assert (await setup.edge.call("GET", setup.path("variables/x"), setup.worker.secret)).status == 200
    gate = setup.edge.relays[0].parts.gate
    assert gate is not None
    assert gate._good == 1
    gate._urls = (f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}")
    reply = await setup.edge.call("GET", setup.path("variables/x"), setup.worker.secret)
    assert (reply.status, reply.code) == (503, "gate_unavailable")
    assert reply.headers["Retry-After"]
    gate._urls = (setup.gate.url, gate._urls[1])
    assert (await setup.edge.call("GET", setup.path("variables/x"), setup.worker.secret)).status == 200


async def test_an_answer_that_the_gate_did_not_sign_is_not_passed_on(setup: Setup) -> None:
    setup.gate.key = b"somebody else's"
    reply = await setup.edge.call("GET", setup.path("variables/x"), setup.worker.secret)
    assert (reply.status, reply.code) == (503, "gate_unavailable")
    assert b"ok" not in reply.body
    assert routes.ORIGIN_HEADER not in reply.headers


async def test_a_keeper_that_takes_calls_and_never_answers_costs_a_bounded_time(tmp_path: Path) -> None:
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        async with running_edge(tmp_path, gate_urls=(url,), gate_key_file=secret, gate_timeout_s=0.3) as edge:
            worker = await edge.worker()
            job = await edge.job(worker)
            path = routes.JOB_EXECUTION.format(job=job.id, path="variables/x")
            assert (await edge.call("GET", path, worker.secret)).code == "gate_unavailable"


async def test_bodies_are_bounded_and_plain(setup: Setup) -> None:
    path, limit = setup.path("xcoms/d/r/t/k"), 80 << 20
    big = await setup.edge.call("POST", path, setup.worker.secret, body=bytes(limit + 1))
    assert (big.status, big.code) == (413, "payload_too_large")
    assert f"RELAY_MAX_CALL_BYTES = {limit}" in big.json["detail"]
    fits = await setup.edge.call("POST", path, setup.worker.secret, body=bytes(limit))
    assert fits.status == 200
    packed = await setup.edge.call("POST", path, setup.worker.secret, body=b"x", headers={"Content-Encoding": "gzip"})
    assert (packed.status, packed.code) == (415, "unsupported_media_type")
    assert len(setup.gate.calls) == 1


async def test_answers_are_bounded(setup: Setup) -> None:
    """Each keeper would give the same answer: it is asked for once, and the refusal is final."""
    setup.gate.body = bytes(80 << 20)
    fits = await setup.edge.call("GET", setup.path("xcoms/d/r/t/k"), setup.worker.secret)
    assert (fits.status, len(fits.body)) == (200, 80 << 20)
    setup.gate.body += b"x"
    big = await setup.edge.call("GET", setup.path("xcoms/d/r/t/k"), setup.worker.secret)
    assert (big.status, big.code, big.json["retryable"]) == (413, "payload_too_large", False)
    assert len(setup.gate.calls) == 2


async def test_an_ended_job_makes_no_calls(setup: Setup) -> None:
    await setup.edge.records.change(setup.job.id, Finish(setup.worker.name, 0, None, datetime.now(UTC)))
    reply = await setup.edge.call("GET", setup.path("variables/x"), setup.worker.secret)
    assert (reply.status, reply.code) == (410, "job_ended")
    assert setup.gate.calls == []


async def test_a_relay_without_a_gate_says_so(edge: Edge) -> None:
    worker = await edge.worker()
    job = await edge.job(worker)
    reply = await edge.call("GET", routes.JOB_EXECUTION.format(job=job.id, path="x"), worker.secret)
    assert (reply.status, reply.code) == (503, "gate_unavailable")
    assert "RELAY_GATE_URLS" in reply.json["detail"]


@pytest.mark.parametrize("status", [413, 414, 431])
async def test_a_refusal_for_size_between_relay_and_gate_is_final(tmp_path: Path, status: int) -> None:
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    calls: list[str] = []

    async def refuse(request: web.Request) -> web.Response:
        calls.append(request.method)
        return web.Response(status=status, text="<html>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(app) as between:
        url = str(between.make_url("")).rstrip("/")
        async with running_edge(tmp_path, gate_urls=(url, url), gate_key_file=secret) as edge:
            worker = await edge.worker()
            job = await edge.job(worker)
            calls.clear()
            path = routes.JOB_EXECUTION.format(job=job.id, path="xcoms/d/r/t/k")
            reply = await edge.call("POST", path, worker.secret, body=b"1")
    assert (reply.code, reply.json["retryable"], len(calls)) == ("payload_too_large", False, 1)
    assert f"status {status}" in reply.json["detail"]


async def test_a_problem_of_the_gate_shows_that_it_is_the_gates(setup: Setup) -> None:
    problem = EdgeError(ErrorCode.GATE_UNAVAILABLE, "Airflow's api-server does not answer").problem()
    setup.gate.status, setup.gate.body = 503, problem.model_dump_json(exclude_none=True).encode()
    setup.gate.answer_headers = {"Content-Type": routes.PROBLEM_TYPE, routes.ORIGIN_HEADER: routes.GATE_ORIGIN}
    reply = await setup.edge.call("GET", setup.path("variables/a"), setup.worker.secret)
    assert (reply.status, reply.code, reply.headers[routes.ORIGIN_HEADER]) == (503, "gate_unavailable", "gate")
