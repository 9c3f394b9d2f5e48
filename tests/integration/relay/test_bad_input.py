"""Whatever comes: a clear 4xx problem, never a 500, and nothing changed."""

import asyncio
import gzip
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from yarl import URL

from edge_broker.bucket import Bucket
from edge_broker.layout import ensure_consumer
from edge_broker.subjects import RECORDS_BUCKET, dead_subject, job_subject
from edge_relay.app import Relay, build
from edge_relay.jobs import unreadable
from edge_schemas.life.events import Withdraw
from edge_schemas.life.model import new_record
from edge_schemas.life.transition import RELEASES_BEFORE_PARKED
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.workers import SecretKind, new_secret
from support.nats.server import eventually
from support.relay.agents import Agent, agent, metric, publish
from support.relay.edge import Edge, Worker, running_edge
from support.relay.jobs import make_job

JSON = {"Content-Type": "application/json"}


def problem(reply: Any) -> tuple[int, str]:
    assert reply.headers["Content-Type"] == routes.PROBLEM_TYPE
    assert reply.json["request_id"] == reply.headers["X-Request-Id"]
    return reply.status, reply.code


WRONG_FIELDS: list[dict[str, Any]] = [
    {"protocol": "one"},
    {"incarnation": 0},
    {"seq": -1},
    {"seq": 1.5},
    {"slots": 1025},
    {"free": 9},
    {"poll_timeout_s": 51},
    {"poll_timeout_s": -1},
    {"jobs": [{"id": "../x", "phase": "running"}]},
    {"jobs": [{"id": "00000000-0000-0000-0000-000000000000", "phase": "flying"}]},
    {"jobs": [{"id": "00000000-0000-0000-0000-000000000000", "phase": "running"}] * 2},
    {"jobs": {"id": 1}},
    {"versions": {"agent": "x" * 121, "python": "", "platform": ""}},
    {"health": {"load_1m": -1}},
    {"surprise": 1},
    {"queues": ["everything"]},
]
NO_REPORTS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"a":' * 5000,
    b'{"poll_timeout_s": NaN}',
    b"1" * 10_000,
    b'"\\ud800"',
]


async def test_fields_that_are_wrong(edge: Edge) -> None:
    one = await agent(edge)
    for change in WRONG_FIELDS:
        reply = await one.poll(**change)
        assert problem(reply) == (400, "invalid_request"), change
        [field] = change
        assert field in reply.json["detail"]


async def test_bodies_that_are_no_report(edge: Edge) -> None:
    one = await agent(edge)
    for body in NO_REPORTS:
        reply = await edge.call("POST", routes.POLL, one.secret, body=body, headers=JSON)
        assert problem(reply) == (400, "invalid_request"), body[:20]
    for number in (b"NaN", b"Infinity", b"1e999"):
        body = orjson.dumps(one.report(poll_timeout_s=12.5)).replace(b"12.5", number)
        reply = await edge.call("POST", routes.POLL, one.secret, body=body, headers=JSON)
        assert problem(reply) == (400, "invalid_request"), number


async def test_what_was_sent_is_not_repeated(edge: Edge) -> None:
    one = await agent(edge)
    reply = await one.poll(versions={"agent": one.secret * 5, "python": "", "platform": ""})
    assert problem(reply) == (400, "invalid_request")
    assert one.secret.encode() not in reply.body
    reply = await one.poll(**cast("Any", {"k" * 5000 + "\x1b[31m": one.secret}))
    assert len(reply.json["detail"]) < 500
    assert "\x1b" not in reply.json["detail"]


async def test_other_types_and_encodings(edge: Edge) -> None:
    one = await agent(edge)
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "nonsense"}):
        reply = await edge.call("POST", routes.POLL, one.secret, body=b"{}", headers=headers)
        assert problem(reply) == (415, "unsupported_media_type")
    packed = await edge.call(
        "POST", routes.POLL, one.secret, body=gzip.compress(b"{}"), headers={**JSON, "Content-Encoding": "gzip"}
    )
    assert problem(packed) == (415, "unsupported_media_type")


async def test_too_large(tmp_path: Path) -> None:
    async with running_edge(tmp_path, max_body_bytes=1 << 16) as edge:
        one = await agent(edge)
        reply = await edge.call("POST", routes.POLL, one.secret, body=b" " * ((1 << 16) + 1), headers=JSON)
        assert problem(reply) == (413, "payload_too_large")
        assert (await one.poll(poll_timeout_s=0)).status == 204


async def test_paths_and_methods_nobody_knows(edge: Edge) -> None:
    assert problem(await edge.call("GET", "/v1/nothing")) == (404, "not_found")
    assert problem(await edge.call("GET", "/%2e%2e/%00")) == (404, "not_found")
    reply = await edge.call("DELETE", routes.POLL)
    assert problem(reply) == (405, "method_not_allowed")
    assert reply.headers["Allow"] == "POST"


async def test_other_protocols(edge: Edge) -> None:
    one = await agent(edge)
    for protocol in (0, 2, 10**15):
        assert problem(await one.poll(protocol=protocol)) == (426, "protocol_unsupported")


PRODUCERS = {
    *(routes.QUEUE, routes.QUEUE_JOBS, routes.QUEUE_JOB_BATCHES),
    *(routes.JOB, routes.JOB_WHY, routes.JOB_CANCEL),
}


async def test_no_call_without_a_credential(edge: Edge) -> None:
    """Every route but the open ones; a credential of another kind opens none of them either."""
    one = await agent(edge)
    token = await edge.token()
    relay: Relay = _relay_of(edge)
    open_routes = {routes.HEALTHZ, routes.READYZ, routes.OPENAPI, routes.METRICS}
    open_routes |= {"/", routes.ADMIN_SIGN_IN, routes.ADMIN_OIDC_START, routes.ADMIN_OIDC_RETURN}
    for app, operators in ((relay.workers, False), (relay.operators, True)):
        for route in app.router.routes():
            resource = route.resource
            if resource is None or resource.canonical in open_routes or resource.canonical.startswith("/ui"):
                continue
            path = resource.canonical.replace("{token}", "0" * 12).replace("{digest}", "0" * 64)
            for name in ("job", "worker", "path", "queue", "bundle"):
                path = path.replace(f"{{{name}}}", "00000000-0000-0000-0000-000000000000")
            method = "POST" if route.method == "*" else route.method
            if method == "HEAD":  # as GET, but for the body that says why
                continue
            wrong = {None, "x", new_secret(SecretKind.WORKER), new_secret(SecretKind.ACCESS)}
            is_producers = resource.canonical in PRODUCERS or (method, resource.canonical) == ("GET", routes.JOB_LOG)
            wrong |= {one.secret, token} if operators or is_producers else {edge.access_token}
            for secret in wrong:
                reply = await edge.call(method, path, secret, json={}, operators=operators)
                if resource.canonical == routes.ENROLL:
                    assert reply.code in {"unauthenticated", "enrollment_refused", "invalid_request"}, path
                else:
                    assert problem(reply) == (401, "unauthenticated"), path
                    assert reply.headers["WWW-Authenticate"] == "Bearer"


async def test_an_unknown_credential_while_the_broker_is_away(tmp_path: Path) -> None:
    """Nobody can know that it is wrong: the worker must come back, not think that it was revoked."""
    async with running_edge(tmp_path) as edge:
        one = await agent(edge)
        assert (await one.poll(poll_timeout_s=0)).status == 204
        await edge.server.stop(kill=True)
        stranger = Agent(edge, one_like(one))
        assert problem(await stranger.poll()) == (503, "broker_unavailable")


async def test_a_worker_that_enrolled_elsewhere_a_moment_ago(edge: Edge) -> None:
    """The other replica's memory may be behind; it asks before it refuses."""
    for _ in range(5):
        worker = await edge.worker()
        assert (await Agent(edge, worker).poll(replica=1, poll_timeout_s=0)).status == 204


async def test_a_message_that_holds_no_job(edge: Edge) -> None:
    """It is removed, counted, and those behind it are served."""
    one = await agent(edge)
    good = await publish(edge.broker)
    await edge.broker.store(job_subject(None, "default", JobKind.TASK, "no-job"), b'{"id": 1}')
    await edge.broker.store(job_subject(None, "default", JobKind.TASK, "other"), good.model_dump_json().encode())
    last = await publish(edge.broker)
    grants = await one.grants(2)
    assert {grant["job"]["id"] for grant in grants} == {good.id, last.id}
    assert metric(edge, "edge_relay_bad_messages_total") == 2


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 50_000, b'{"id": 1}', None])
async def test_a_waiting_job_whose_message_cannot_be_read_is_parked(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, body: bytes | None
) -> None:
    """Removed only, it would be published again and again. Its history and its record say why it is parked."""
    monkeypatch.setattr(unreadable, "release_delay_s", lambda _: 0.05)
    one, odd = await agent(edge), make_job()
    await edge.records.create(new_record(odd))
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    sent = make_job().model_dump_json().encode() if body is None else body
    await edge.broker.store(job_subject(None, "default", JobKind.TASK, odd.id), sent)
    good = await publish(edge.broker)
    [grant] = await one.grants()
    assert grant["job"]["id"] == good.id
    polling = asyncio.create_task(one.poll(poll_timeout_s=5))

    async def is_parked() -> bool:
        record = await edge.records.get(odd.id)
        return record is not None and record.parked is not None

    await eventually(is_parked, what="parked")
    record = await edge.records.get(odd.id)
    assert record is not None
    assert (len(record.releases), record.releases[0].worker) == (RELEASES_BEFORE_PARKED, None)
    assert "the message holds no job that relay relay-" in (record.parked or "")
    await edge.broker.api("STREAM.MSG.GET.EDGE_DEAD", {"last_by_subj": dead_subject(None, "default", odd.id)})
    assert (await polling).status == 204
    assert int((await edge.broker.api("STREAM.INFO.EDGE_JOBS"))["state"]["messages"]) == 1, "that of the granted job"


@pytest.mark.parametrize("value", [b"", b"{", b'{"state": "paused"}', b"[" * 50_000])
async def test_an_unreadable_record_concerns_its_job_only(edge: Edge, value: bytes) -> None:
    """The worker's other jobs get their directives, and each call for this job gets a final answer."""
    one = await agent(edge)
    odd, other = await publish(edge.broker), await publish(edge.broker)
    grants = {grant["job"]["id"]: grant for grant in await one.grants(2)}
    for grant in grants.values():
        assert (await one.start(grant)).status == 204
    await edge.records.change(other.id, Withdraw("why", datetime.now(UTC)))
    await Bucket(edge.broker, RECORDS_BUCKET).put(odd.id, value)
    reply = await one.poll(jobs=[{"id": job, "phase": "running"} for job in grants], poll_timeout_s=5)
    assert [stop["job"] for stop in reply.json["stop"]] == [other.id]
    for reply in (await one.start(grants[odd.id]), await one.finish(odd.id), await one.release(grants[odd.id])):
        assert (reply.status, reply.code, reply.json["retryable"]) == (500, "internal", True)


async def test_a_flood_of_unknown_credentials(edge: Edge) -> None:
    """Strangers are refused or told to wait; a worker is served meanwhile."""
    one = await agent(edge)
    strangers = [edge.call("POST", routes.POLL, new_secret(SecretKind.WORKER), json={}) for _ in range(300)]
    replies, mine = await asyncio.gather(asyncio.gather(*strangers), one.poll(poll_timeout_s=0))
    assert {reply.code for reply in replies} <= {"unauthenticated", "rate_limited"}
    assert mine.status == 204


async def test_what_is_no_http(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    """Refused, and what came is not quoted in the log: it may hold a credential."""
    one = await agent(edge)
    header = f"Authorization: Bearer {one.secret}"
    for request in (
        f"POST /v1/poll HTTP/1.1\r\nHost: x\r\n{header}\x00\r\n\r\n",
        f"POST /v1/poll HTTP/1.1\r\nHost: x\r\n{header}{'x' * 20_000}\r\n\r\n",
        f"POST {one.secret}",
        f"POST /v1/poll HTTP/1.1\r\nHost: x\r\n{header}\r\nTransfer-Encoding: chunked\r\n\r\n{one.secret}\r\n",
    ):
        reader, writer = await raw(edge)
        writer.write(request.encode())
        writer.write_eof() if writer.can_write_eof() else None
        async with asyncio.timeout(5):
            line = await reader.readline() if "HTTP" in request else b""
        assert line.split()[1:2] in ([b"400"], []), line
        writer.close()
    assert one.secret not in caplog.text
    assert (await one.poll(poll_timeout_s=0)).status == 204


async def raw(edge: Edge) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=str(edge.ca))
    port = URL(edge.relays[0].workers_url).port
    return await asyncio.open_connection("127.0.0.1", port, ssl=context)


def one_like(one: Agent) -> Worker:
    return Worker(one.name, new_secret(SecretKind.WORKER))


def _relay_of(edge: Edge) -> Relay:
    return build(edge.relays[0].parts.settings)
