"""Consumers that mix up, repeat and invent calls: no job of another one is touched, and each call has its answer."""

import uuid
from typing import Any

import orjson
import pytest

from edge_schemas.life.model import JobRecord, JobState, Verdict
from edge_schemas.wire import routes
from edge_schemas.wire.polls import MAX_SLOTS
from support.relay.agents import Agent, agent, arrived, metric
from support.relay.edge import Edge, Reply, running_edge
from support.relay.producers import Producer, producer, publish_message

Grant = dict[str, Any]
RESULT = {"content_type": "text/plain", "text": "forged"}


@pytest.fixture
async def shop(edge: Edge) -> Producer:
    return await producer(edge)


async def granted(edge: Edge, one: Agent, shop: Producer, **job: Any) -> Grant:
    """A new payload, granted to a consumer."""
    published = await publish_message(edge, await shop.submitted(**job))
    [grant] = await one.grants(kinds=["payload"])
    assert grant["job"]["id"] == published.id
    return grant


def len_of(number: int) -> str:
    return f"{len(str(number))} digits"


async def record_of(edge: Edge, job: str) -> JobRecord:
    record = await edge.records.get(job)
    assert record is not None
    return record


async def log(edge: Edge, one: Agent, job: str, offset: object, data: bytes = b"x", **headers: str) -> Reply:
    path = f"{routes.JOB_LOG.format(job=job)}?offset={offset}"
    sent = {"Content-Type": "application/octet-stream", **one.headers, **headers}
    return await edge.call("PUT", path, one.secret, body=data, headers=sent)


async def test_calls_for_the_job_of_another_consumer(edge: Edge, shop: Producer) -> None:
    """With its own receipt, with the other one's, with an altered and with an invented one."""
    one, other = await agent(edge), await agent(edge)
    theirs, own = await granted(edge, one, shop), await granted(edge, other, shop)
    job, receipt = theirs["job"]["id"], theirs["receipt"]
    altered = receipt[:-5] + ("A" if receipt[-5] != "A" else "B") + receipt[-4:]
    forged = {
        "own": own["receipt"],
        "theirs": receipt,
        "altered": altered,
        "invented": "x",
        "empty": "",
        "odd": "\u00fc",
    }
    for started in (False, True):
        before = await record_of(edge, job)
        for name, text in forged.items():
            body = {"receipt": text, "incarnation": 1}
            start = await other._post(routes.JOB_START, job, body, None)
            release = await other._post(routes.JOB_RELEASE, job, {"receipt": text, "reason": "r", "delay_s": 0}, None)
            finish = await other.finish(job, exit_code=0, receipt=text, result=RESULT)
            codes = {start.code, release.code, finish.code}
            assert codes <= {"forbidden", "invalid_request"}, (name, codes)
        assert (await other.finish(job, exit_code=0, result=RESULT)).code == (
            "not_holder" if started else "wrong_state"
        )
        assert (await log(edge, other, job, 0)).code == ("not_holder" if started else "wrong_state")
        assert await record_of(edge, job) == before
        if not started:
            assert (await one.start(theirs)).status == 204
    assert (await one.finish(job, exit_code=0, receipt=receipt)).status == 204
    assert (await other.finish(job, exit_code=0, result=RESULT)).code == "job_ended"
    assert (await log(edge, other, job, 0)).code == "not_holder"
    assert "result" not in (await shop.status(job)).json["outcome"]


async def test_the_order_of_calls(edge: Edge, shop: Producer) -> None:
    """Finish and log before the start; a second start and finish; calls after the end."""
    one = await agent(edge)
    grant = await granted(edge, one, shop)
    job = grant["job"]["id"]
    assert (await log(edge, one, job, 0)).code == "wrong_state"
    assert (await one.finish(job, exit_code=0, receipt=grant["receipt"])).code == "wrong_state"
    assert {(await one.start(grant)).status for _ in range(3)} == {204}
    assert (await record_of(edge, job)).attempt == 1
    ends: list[dict[str, Any]] = [
        {"exit_code": 0, "result": RESULT},
        {"exit_code": 9, "reason": "changed"},
        {"release": True},
    ]
    assert {(await one.finish(job, receipt=grant["receipt"], **end)).status for end in ends} == {204}
    outcome = (await shop.status(job)).json["outcome"]
    assert (outcome["verdict"], outcome["exit_code"], outcome["result"]) == ("succeeded", 0, RESULT), "the first counts"
    assert (await one.start(grant)).code == "job_ended"
    assert (await one.release(grant, delay_s=0)).code == "job_ended"
    assert (await log(edge, one, job, 0, b"late")).json == {"offset": 4}, "of what was printed before the end"


async def test_what_was_given_up_can_not_be_finished(edge: Edge, shop: Producer) -> None:
    """The next attempt runs elsewhere: the first consumer's result is none, by any receipt."""
    one, other = await agent(edge), await agent(edge)
    first = await granted(edge, one, shop)
    job = first["job"]["id"]
    assert (await one.start(first)).status == 204
    assert (await one.release(first, delay_s=0)).status == 204
    await publish_message(edge, job)
    [second] = await other.grants(kinds=["payload"])
    assert (await other.start(second)).status == 204
    assert (await one.finish(job, exit_code=0, result=RESULT)).code == "not_holder"
    repeat = await one.finish(job, exit_code=0, result=RESULT, receipt=first["receipt"])
    assert repeat.status == 204, "a repeat of what this grant has reported: it changes nothing"
    assert (await one.finish(job, exit_code=0, result=RESULT, receipt=second["receipt"])).code == "forbidden"
    assert (await one.start(first)).code in {"not_holder", "receipt_expired"}
    assert (await log(edge, one, job, 0)).code == "not_holder"
    record = await record_of(edge, job)
    assert record.state is JobState.RUNNING
    assert record.holder is not None
    assert record.holder.worker == other.name


ODD_BODIES: dict[str, bytes] = {
    "a list": b"[]",
    "deep": b'{"receipt":' + b"[" * 5000,
    "a number": b'{"receipt":1,"incarnation":1}',
    "a huge number": b'{"receipt":"x","incarnation":' + b"9" * 400 + b"}",
    "no number": b'{"receipt":"x","incarnation":NaN}',
    "negative": b'{"receipt":"x","incarnation":-1}',
    "half a character": b'{"receipt":"\\ud800","incarnation":1}',
    "twice": b'{"receipt":"x","receipt":"y","incarnation":1}',
    "too large": b'{"receipt":"' + b"x" * 3000 + b'","incarnation":1}',
    "unknown": b'{"receipt":"x","incarnation":1,"more":1}',
    "a result of two kinds": b'{"incarnation":1,"result":{"text":"x","data":"eA=="}}',
    "a result that is too large": orjson.dumps({"incarnation": 1, "result": {"text": "x" * 262_145}}),
    "a result of no type": b'{"incarnation":1,"result":{"text":"x","content_type":"x"}}',
    "a result that is a number": b'{"incarnation":1,"result":7}',
    "a silly delay": b'{"receipt":"x","reason":"r","delay_s":1e9}',
    "a negative delay": b'{"receipt":"x","reason":"r","delay_s":-1}',
    "a delay that is none": b'{"receipt":"x","reason":"r","delay_s":NaN}',
}


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
async def test_odd_bodies_change_nothing(edge: Edge, shop: Producer, body: bytes) -> None:
    one = await agent(edge)
    grant = await granted(edge, one, shop)
    job = grant["job"]["id"]
    assert (await one.start(grant)).status == 204
    before = await record_of(edge, job)
    sent = {"Content-Type": "application/json", **one.headers}
    for route in (routes.JOB_START, routes.JOB_FINISH, routes.JOB_RELEASE):
        reply = await edge.call("POST", route.format(job=job), one.secret, body=body, headers=sent)
        refusals = {"invalid_request", "payload_too_large"} if len(body) > 8192 else {"invalid_request"}
        assert reply.code in refusals, (route, reply.body)
    assert await record_of(edge, job) == before


@pytest.mark.parametrize("number", [2**53, 2**64, 10**30, 10**400], ids=len_of)
async def test_a_number_that_readers_of_json_refuse_is_not_accepted(edge: Edge, shop: Producer, number: int) -> None:
    """As an exit code, such a number made the producer's status and each list with the job unreadable."""
    one = await agent(edge)
    grant = await granted(edge, one, shop)
    job = grant["job"]["id"]
    assert (await one.start(grant)).status == 204
    sent = {"Content-Type": "application/json", **one.headers}
    good = one.report(free=0, poll_timeout_s=0)
    for route, body, field in (
        (routes.POLL, good, "incarnation"),
        (routes.POLL, good, "seq"),
        (routes.POLL, good, "settings_version"),
        (routes.POLL, {**good, "superseded_by": 1}, "superseded_by"),
        (routes.JOB_START, {"receipt": grant["receipt"], "incarnation": 1}, "incarnation"),
        (routes.JOB_FINISH, {"incarnation": 1}, "incarnation"),
        (routes.JOB_FINISH, {"incarnation": 1, "exit_code": 0}, "exit_code"),
    ):
        text = orjson.dumps({**body, field: "HERE"}).replace(b'"HERE"', str(number).encode())
        reply = await edge.call("POST", route.format(job=job), one.secret, body=text, headers=sent)
        assert (reply.code, field in reply.json["detail"]) == ("invalid_request", True), (route, field, reply.body)
    figures = orjson.dumps(good).replace(b'"versions"', b'"health":{"held_calls":%d},"versions"' % number)
    reply = await edge.call("POST", routes.POLL, one.secret, body=figures, headers=sent)
    assert reply.status in {200, 204}, "figures are for people"
    await arrived(edge, one)
    for path in (routes.ADMIN_WORKERS, routes.ADMIN_JOBS, routes.ADMIN_OVERVIEW, routes.METRICS):
        assert (await edge.call("GET", path, edge.access_token, operators=True)).status == 200, path
    assert (await one.finish(job, exit_code=2**32 - 1)).status == 204
    assert (await shop.status(job)).json["outcome"]["exit_code"] == 2**32 - 1


async def test_offsets_that_lie(edge: Edge, shop: Producer) -> None:
    """What is stored stays as it is, and a gap is refused with the offset that is expected."""
    one = await agent(edge)
    grant = await granted(edge, one, shop)
    job = grant["job"]["id"]
    assert (await one.start(grant)).status == 204
    assert (await log(edge, one, job, 0, b"0123456789")).json == {"offset": 10}
    for offset in (11, 268_435_456, 999_999_999_999):
        reply = await log(edge, one, job, offset)
        assert (reply.code, reply.json["expected_offset"]) == ("offset_mismatch", 10)
    for wrong in ("-1", "1e3", "0x1", "00", "9" * 13, "", "1&offset=2", "%D9%A3"):
        assert (await log(edge, one, job, wrong)).code == "invalid_request", wrong
    assert (await log(edge, one, job, 0, b"XXXX")).json == {"offset": 10}, "what is stored is not replaced"
    assert (await log(edge, one, job, 8, b"XXab")).json == {"offset": 12}, "an overlap is trimmed"
    assert (await log(edge, one, job, 12, b"")).json == {"offset": 12}
    assert (await shop.log(job)).body == b"0123456789ab"


async def test_a_poll_with_thousands_of_jobs_that_are_none_of_its_own(edge: Edge, shop: Producer) -> None:
    """It is told to drop them all; those of others run on, and other consumers are served meanwhile."""
    one, victim = await agent(edge), await agent(edge)
    theirs = await granted(edge, victim, shop)
    job = theirs["job"]["id"]
    assert (await victim.start(theirs)).status == 204
    fake = [str(uuid.UUID(int=number)) for number in range(2 * MAX_SLOTS - 1)]
    reports = [{"id": name, "phase": "running"} for name in (*fake, job)]
    told: set[str] = set()
    while told != {*fake, job}:
        reply = await one.poll(free=0, jobs=[one for one in reports if one["id"] not in told], poll_timeout_s=20)
        assert reply.status == 200, reply.body
        assert all(stop["drop"] for stop in reply.json["stop"])
        told |= {stop["job"] for stop in reply.json["stop"]}
        assert told <= {*fake, job}
    assert (await victim.poll(free=0, jobs=reports[-1:], poll_timeout_s=0)).status == 204, "the holder goes on"
    assert (await granted(edge, victim, shop))["job"]["queue"] == "default"
    assert (await one.poll(free=0, jobs=[*reports, reports[0]], poll_timeout_s=0)).code == "invalid_request"
    assert (await victim.finish(job, exit_code=0)).status == 204
    assert (await shop.status(job)).json["outcome"]["verdict"] == Verdict.SUCCEEDED


async def test_kinds_and_queues_that_were_not_granted(edge: Edge, shop: Producer) -> None:
    """A poll can't widen what its enrolment allows."""
    one = await agent(edge, queue="other")
    job = await shop.submitted()
    await publish_message(edge, job)
    assert (await one.poll(free=1, kinds=["payload", "task", "command"], poll_timeout_s=1)).status == 204
    for wrong in ({"queues": ["default"]}, {"kinds": ["root"]}, {"kinds": ["callback"]}, {"free": 9}, {"slots": -1}):
        assert (await one.poll(**wrong)).code == "invalid_request", wrong
    assert (await record_of(edge, job)).state is JobState.WAITING


async def test_two_consumers_with_one_credential(edge: Edge, shop: Producer) -> None:
    """The copy of a state folder: the conflict is named, and the job of the first is handled once."""
    one = await agent(edge)
    grant = await granted(edge, one, shop)
    job = grant["job"]["id"]
    assert (await one.start(grant)).status == 204
    copy = one.again(instance="another machine", incarnation=10**6)
    assert (await copy.poll(free=1, kinds=["payload"], poll_timeout_s=0)).status in {200, 204}
    await arrived(edge, copy)
    assert (await copy.finish(job, exit_code=0, result=RESULT)).code == "takeover_pending"
    assert (await copy.start(grant)).code == "takeover_pending"
    reply = await one.poll(free=0, jobs=[{"id": job, "phase": "running"}], superseded_by=10**6, poll_timeout_s=0)
    assert reply.status in {200, 204}, reply.body
    named = await copy.poll(free=1, kinds=["payload"], poll_timeout_s=5)
    assert {named.json["conflict"][side]["host"] for side in ("older", "newer")} == {
        "host-of-machine",
        "host-of-another machine",
    }
    await publish_message(edge, await shop.submitted())
    assert not (await copy.poll(free=1, kinds=["payload"], in_conflict=True, poll_timeout_s=1)).body, "no new jobs"
    assert (await copy.finish(job, exit_code=0, result=RESULT)).code == "takeover_pending"
    assert (await one.finish(job, exit_code=0)).status == 204
    assert "result" not in (await shop.status(job)).json["outcome"]


async def test_a_flood_of_odd_calls_leaves_nothing_behind(tmp_path_factory: pytest.TempPathFactory) -> None:
    """After refused starts, releases, finishes and logs, no memory of bodies is held and the queue moves."""
    async with running_edge(tmp_path_factory.mktemp("edge")) as edge:
        shop, one = await producer(edge), await agent(edge)
        grant = await granted(edge, one, shop)
        for number in range(100):
            unknown = str(uuid.uuid4())
            assert (await one.finish(unknown, exit_code=number)).code == "job_ended"
            assert (await log(edge, one, unknown, 0)).code == "job_ended"
            assert (await one.start({**grant, "receipt": grant["receipt"][::-1]})).code == "invalid_request"
        assert metric(edge, "edge_relay_body_bytes") == 0
        assert (await one.start(grant)).status == 204
