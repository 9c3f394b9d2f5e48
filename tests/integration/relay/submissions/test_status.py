"""Status, lists, log and cancellation of submitted jobs, as their producer sees them on two replicas."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from edge_relay.submissions import logs
from edge_schemas.life.events import Finish, GiveUp, Start
from edge_schemas.wire import routes
from support.nats.server import eventually
from support.relay.agents import agent, metric
from support.relay.edge import Edge, Worker
from support.relay.producers import Producer, producer, publish_message


async def start(edge: Edge, job: str, worker: str = "w", *, grant: str = "g") -> None:
    await edge.records.change(job, Start(worker, 1, datetime.now(UTC), grant))


async def end(edge: Edge, job: str, worker: str = "w") -> None:
    await edge.records.change(job, Finish(worker, 0, None, datetime.now(UTC), grant="g"))


async def waits(edge: Edge, number: int, *, replica: int = 0) -> None:
    """Until this many calls wait at a replica."""
    await eventually(lambda: metric(edge, "edge_relay_producer_waits", replica=replica) == number)


async def test_a_payload_goes_to_a_consumer_and_its_result_to_the_producer(edge: Edge) -> None:
    """The whole path: submit, grant, start, finish with a result; the producer waits at the other replica."""
    shop, one = await producer(edge), await agent(edge)
    job = await shop.submitted(key="k", labels={"a": "b"})
    await publish_message(edge, job)
    [grant] = await one.grants(kinds=["payload"])
    assert grant["job"]["id"] == job
    assert grant["job"]["work"]["payload"]["text"] == "hello"
    assert (await one.start(grant)).status == 204
    waiting = asyncio.create_task(shop.status(job, wait=20, replica=1))
    await waits(edge, 1, replica=1)
    result = {"content_type": "text/plain", "text": "r" * 256 * 1024}
    for _ in range(2):
        reply = await one.finish(job, exit_code=0, result=result, receipt=grant["receipt"])
        assert reply.status == 204, reply.body
    status = (await waiting).json
    assert status["state"] == "ended"
    assert status["outcome"]["verdict"] == "succeeded"
    assert status["outcome"]["result"] == result
    assert (status["worker"], status["site"], status["attempt"]) == (one.name, "plant", 1)
    assert (status["name"], status["producer"], status["kind"]) == ("payload", "shop", "payload")
    assert metric(edge, "edge_relay_results_total", {"team": "", "queue": "default"}) == 1


async def test_an_older_worker_is_not_granted_a_payload(edge: Edge) -> None:
    """A poll that names no kinds accepts tasks only."""
    shop, one = await producer(edge), await agent(edge)
    job = await shop.submitted()
    await publish_message(edge, job)
    assert (await one.poll(free=1, poll_timeout_s=1)).status == 204
    assert (await shop.status(job)).json["state"] == "waiting"


async def test_a_wait_ends_with_its_time(edge: Edge) -> None:
    shop = await producer(edge)
    job = await shop.submitted()
    assert (await shop.status(job, wait=0.2)).json["state"] == "waiting"


async def test_a_wait_begins_before_the_watch_has_seen_the_job(edge: Edge) -> None:
    """The end wakes the call although this replica may never have seen the job unfinished."""
    shop = await producer(edge)
    for _ in range(5):
        job = await shop.submitted()
        call = asyncio.create_task(shop.status(job, wait=20, replica=1))
        await start(edge, job)
        await end(edge, job)
        assert (await asyncio.wait_for(call, 10)).json["state"] == "ended"


async def test_a_replica_that_stops_answers_the_calls_that_wait(edge: Edge) -> None:
    shop = await producer(edge)
    job = await shop.submitted()
    calls = [
        asyncio.create_task(shop.status(job, wait=50)),
        asyncio.create_task(shop.log(job, wait=50)),
    ]
    await waits(edge, 2)
    edge.relays[0].parts.lifecycle.stop()
    status, log = await asyncio.wait_for(asyncio.gather(*calls), 10)
    assert (status.status, status.json["state"]) == (200, "waiting")
    assert (log.status, log.body) == (200, b"")


async def test_a_log_is_followed_through_another_replica(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOOK_S", 600.0)  # only a notice wakes the call in time
    shop = await producer(edge)
    worker = await edge.worker()
    job = await shop.submitted()
    await start(edge, job, worker.name)
    call = asyncio.create_task(shop.log(job, wait=20, replica=1))
    await waits(edge, 1, replica=1)
    await put_log(edge, worker, job, 0, b"first\n")
    reply = await call
    assert reply.body == b"first\n"
    assert reply.headers[routes.LOG_OFFSET_HEADER] == "0"
    assert reply.headers[routes.JOB_STATE_HEADER] == "running"
    call = asyncio.create_task(shop.log(job, 6, wait=20, replica=1))
    await waits(edge, 1, replica=1)
    await end(edge, job, worker.name)
    reply = await call
    assert (reply.body, reply.headers[routes.JOB_STATE_HEADER]) == (b"", "ended")


async def test_a_log_is_read_from_any_offset(edge: Edge) -> None:
    """Many chunks among those of another log; each offset gives the bytes from there on."""
    shop, other = await producer(edge), await edge.worker()
    worker = await edge.worker()
    job, beside = await shop.submitted(), await shop.submitted()
    await start(edge, job, worker.name)
    await start(edge, beside, other.name)
    text = b""
    for number in range(12):
        chunk = f"line {number}\n".encode()
        await put_log(edge, worker, job, len(text), chunk)
        await put_log(edge, other, beside, 7 * number, b"beside\n")
        text += chunk
    for offset in range(0, len(text) + 2, 3):
        found, at = b"", offset
        while part := (await shop.log(job, at, replica=offset % 2)).body:
            found, at = found + part, at + len(part)
        assert found == text[offset:], offset


async def test_a_log_shows_where_each_attempt_begins(edge: Edge) -> None:
    """The line is at an offset like any other; it is there once, from whichever offset the log is read."""
    shop, one, two = await producer(edge), await edge.worker(), await edge.worker()
    job = await shop.submitted(on_lost="requeue", max_attempts=3)
    await start(edge, job, one.name)
    await put_log(edge, one, job, 0, b"the first\n")
    assert (await shop.log(job)).body == b"the first\n", "one attempt needs no mark"
    await edge.records.change(job, GiveUp("silent", datetime.now(UTC)))
    await start(edge, job, two.name, grant="another")
    await put_log(edge, two, job, 0, b"the second\n")
    await put_log(edge, two, job, 11, b"goes on\n")
    text = (await shop.log(job)).body
    first, mark, second, last = text.decode().splitlines()
    assert (first, second, last) == ("the first", "the second", "goes on")
    assert json.loads(mark)["event"] == f"Attempt 2 begins here: worker {two.name} has started the job"
    for offset in (9, 10, 50, len(text) - 9):
        found = b""
        while part := (await shop.log(job, offset + len(found), replica=1)).body:
            found += part
        assert found == text[offset:], offset


async def put_log(edge: Edge, worker: Worker, job: str, offset: int, data: bytes) -> None:
    path = f"{routes.JOB_LOG.format(job=job)}?offset={offset}"
    sent = {"Content-Type": "application/octet-stream"}
    reply = await edge.call("PUT", path, worker.secret, body=data, headers=sent)
    assert reply.status == 200, reply.body


async def test_cancel_ends_a_waiting_job_and_stops_a_running_one(edge: Edge) -> None:
    shop = await producer(edge)
    waiting, running = await shop.submitted(), await shop.submitted()
    await start(edge, running)
    for _ in range(2):
        reply = await shop.cancel(waiting, reason="not needed")
        assert (reply.status, reply.json["outcome"]["verdict"]) == (200, "cancelled")
        assert (await shop.cancel(running)).json["state"] == "stopping"
    without_reason = await shop.call("POST", routes.JOB_CANCEL.format(job=running))
    assert (without_reason.status, without_reason.json["state"]) == (200, "stopping")
    events = (await edge.admin("GET", f"{routes.ADMIN_AUDIT}?action=job-cancelled")).json["items"]
    assert {one["target"] for one in events} == {waiting, running}
    assert len(events) == 2, "a repeat is no event"
    assert {one["actor"]["kind"] for one in events} == {"producer"}
    assert {one["actor"]["name"] for one in events} == {"shop"}


async def pages(shop: Producer, query: str) -> list[dict[str, Any]]:
    """All pages of a list."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        reply = await shop.list(f"?{query}{after}")
        assert reply.status == 200, reply.body
        found += reply.json["jobs"]
        if "next" not in reply.json:
            return found
        after = f"&after={reply.json['next']}"


async def test_lists_have_waiting_running_ended_and_moved_jobs_by_label(edge: Edge) -> None:
    shop = await producer(edge)
    jobs = [await shop.submitted(labels={"day": "mon" if number % 2 else "tue/1"}) for number in range(8)]
    for job in jobs[2:]:
        await start(edge, job)
    for job in jobs[4:]:
        await end(edge, job)
    for job in jobs[6:]:
        await edge.records.move_ended(job)

    async def is_complete() -> bool:
        shown = [one["job"] for one in await pages(shop, "limit=3")]
        return sorted(shown) == sorted(jobs) and len(await pages(shop, "state=ended&limit=1")) == 4

    await eventually(is_complete)
    assert [one["job"] for one in await pages(shop, "label=day=mon&limit=1")] == jobs[1::2]
    assert [one["job"] for one in await pages(shop, "label=day=tue/1")] == jobs[0::2]
    assert [one["job"] for one in await pages(shop, "state=waiting")] == jobs[:2]
    assert [one["job"] for one in await pages(shop, "state=running&limit=1")] == jobs[2:4]
    assert {one["job"] for one in await pages(shop, "state=ended&label=day=mon")} == {jobs[5], jobs[7]}
    [moved] = [one for one in await pages(shop, "state=ended") if one["job"] == jobs[7]]
    assert moved["outcome"]["verdict"] == "succeeded"
    assert (await shop.list("?label=day=sun")).json["jobs"] == []
    for wrong in ("?label=day", "?after=x", "?state=none", "?limit=0", "?limit=1001", "?what=1", "?limit=1&limit=2"):
        assert (await shop.list(wrong)).code == "invalid_request", wrong


async def test_figures_of_a_queue(edge: Edge) -> None:
    shop = await producer(edge)
    jobs = [await shop.submitted(group="g") for _ in range(3)]
    await shop.submitted(delay_s=3600)
    await start(edge, jobs[0])
    path = routes.QUEUE.format(queue="default")

    async def is_right() -> bool:
        figures = (await shop.call("GET", path)).json
        return (figures["waiting"], figures["delayed"], figures["running"], figures["parked"]) == (0, 3, 1, 0)

    await eventually(is_right)
    await end(edge, jobs[0])

    async def is_next() -> bool:
        figures = (await shop.call("GET", path)).json
        return (figures["waiting"], figures["delayed"], figures["running"]) == (1, 2, 0)

    await eventually(is_next, what="the next one of the group waits for a worker only")
