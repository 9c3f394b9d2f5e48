"""Polls on two replicas over TLS, with a real NATS behind them."""

import asyncio
import time
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from edge_broker.layout import ensure_consumer
from edge_broker.subjects import worker_notice
from edge_relay.http.handlers import poll
from edge_schemas.life.events import Start, Withdraw
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.workers import hash_secret
from support.nats.server import eventually
from support.relay.agents import Agent, agent, metric, parked, publish, pulling
from support.relay.edge import Edge
from support.relay.fleet import worker_event
from support.relay.jobs import make_job


async def test_a_published_job_reaches_a_parked_poll(edge: Edge) -> None:
    one = await agent(edge)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll())
        await pulling(edge, "default")
        job = await publish(edge.broker)
        reply = await poll
    assert reply.status == 200
    [grant] = reply.json["grants"]
    assert grant["job"]["id"] == job.id
    assert reply.headers["X-Request-Id"]


async def test_nothing_to_say_is_204(edge: Edge) -> None:
    one = await agent(edge)
    assert (await one.poll(poll_timeout_s=0)).status == 204
    assert (await one.poll(poll_timeout_s=0.2)).status == 204


async def test_only_polls_with_an_empty_answer_are_missing_from_the_log(edge: Edge) -> None:
    """A thousand idle workers would fill it with nothing else."""
    one = await agent(edge)
    with capture_logs() as events:
        await one.poll(poll_timeout_s=0, settings_version=1)
        await one.poll(poll_timeout_s=0, settings_version=0)
        await one.poll(poll_timeout_s=-1)
    served = [event for event in events if event["event"] == "request_served"]
    assert [(event["status"], event["log_level"]) for event in served] == [(204, "debug"), (200, "info"), (400, "info")]


async def test_jobs_are_spread_over_workers_and_replicas_each_once(edge: Edge) -> None:
    agents = [await agent(edge, replica=i % 2) for i in range(4)]
    jobs = [await publish(edge.broker) for _ in range(20)]
    found: list[str] = []

    async def work(one: Agent) -> None:
        while len(found) < len(jobs):
            reply = await one.poll(free=2, poll_timeout_s=1)
            for grant in reply.json["grants"] if reply.status == 200 else []:
                assert (await one.start(grant)).status == 204
                found.append(grant["job"]["id"])

    async with asyncio.timeout(20):
        await asyncio.gather(*map(work, agents))
    assert sorted(found) == sorted(job.id for job in jobs)
    info = await edge.broker.api("STREAM.INFO.EDGE_JOBS")
    assert info["state"]["messages"] == 0


async def test_a_worker_is_given_its_own_queues_only(edge: Edge) -> None:
    other, mine = await agent(edge, queue="other"), await agent(edge, queue="mine.*.>")
    await publish(edge.broker, make_job("mine.*.>"))
    await ensure_consumer(edge.broker, None, "other", JobKind.TASK)
    [grant] = await mine.grants()
    assert grant["job"]["queue"] == "mine.*.>"
    assert (await other.poll(poll_timeout_s=0.5)).status == 204


async def test_no_more_jobs_than_are_free(edge: Edge) -> None:
    one = await agent(edge)
    for _ in range(5):
        await publish(edge.broker)
    reply = await one.poll(free=2)
    assert 1 <= len(reply.json["grants"]) <= 2
    assert (await one.poll(free=0, poll_timeout_s=0.3)).status == 204


async def test_a_job_whose_poll_has_gone_comes_back_at_once(edge: Edge) -> None:
    """The client leaves while it is parked: what then arrives must not wait for the grant wait of 30 s."""
    one, two = await agent(edge), await agent(edge, replica=1)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    gone = asyncio.create_task(one.poll(free=3))
    await pulling(edge, "default")
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await parked(edge, 0)
    job = await publish(edge.broker)
    began = time.monotonic()
    [grant] = await two.grants()
    assert grant["job"]["id"] == job.id
    assert time.monotonic() - began < 5


async def test_polls_stay_parked_while_the_broker_is_away(edge: Edge) -> None:
    one, two = await agent(edge), await agent(edge, replica=1)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    async with asyncio.TaskGroup() as group:
        polls = [group.create_task(a.poll(poll_timeout_s=40)) for a in (one, two)]
        await pulling(edge, "default", 2)
        await edge.server.stop(kill=True)
        await eventually(lambda: not edge.broker.connected, what="the loss is noticed")
        reply = await edge.call("GET", "/readyz")
        assert (reply.status, reply.code) == (503, "broker_unavailable")
        assert not any(poll.done() for poll in polls)
        await edge.server.start()
        await edge.broker.wait_connected(10)
        jobs = {(await publish(edge.broker)).id for _ in range(2)}
        replies = [await poll for poll in polls]
    assert {reply.json["grants"][0]["job"]["id"] for reply in replies} == jobs


async def test_a_queue_that_appears_later_is_served_at_once(edge: Edge) -> None:
    """Pulls for a consumer that does not exist are refused; the notice of its making ends the back-off."""
    one = await agent(edge, queue="later")
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll())
        await eventually(
            lambda: metric(edge, "edge_relay_pull_errors_total", {"status": "503"}) >= 5, what="refused pulls"
        )
        began = time.monotonic()
        await publish(edge.broker, make_job("later"))
        reply = await poll
    assert reply.status == 200
    assert time.monotonic() - began < 1


async def test_a_newer_poll_supersedes_an_older_one_wherever_it_is_parked(edge: Edge) -> None:
    one = await agent(edge)
    async with asyncio.TaskGroup() as group:
        for replica in (0, 1):
            old = group.create_task(one.poll(replica=0))
            await parked(edge, 1)
            new = group.create_task(one.poll(replica=replica))
            reply = await old
            assert (reply.status, reply.code) == (409, "superseded")
            await parked(edge, 1, replica=replica)
            assert not new.done()
            late = await one.poll(seq=1)
            assert late.code == "superseded"
            new.cancel()
            await parked(edge, 0, replica=replica)


async def test_the_same_poll_again_takes_over(edge: Edge) -> None:
    """Its connection died without a word, so the worker repeats it, here on another replica."""
    one = await agent(edge)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(one.poll(seq=7))
        await parked(edge, 1)
        second = group.create_task(one.poll(seq=7, replica=1))
        assert (await first).code == "superseded"
        await parked(edge, 1, replica=1)
        second.cancel()


async def test_a_newer_poll_that_nobody_announces(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notice of its arrival at the other replica was lost."""
    one = await agent(edge)
    monkeypatch.setattr(edge.relays[0].parts.polls, "notice", lambda *_: None)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(one.poll())
        await parked(edge, 1)
        second = group.create_task(one.poll(replica=1))
        assert (await first).code == "superseded"
        second.cancel()


async def test_a_stop_wish_reaches_a_parked_poll_within_a_second(edge: Edge) -> None:
    one = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    assert (await one.start(grant)).status == 204
    report = [{"id": job.id, "phase": "running"}]
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll(jobs=report))
        await parked(edge, 1)
        began = time.monotonic()
        await edge.records.change(job.id, Withdraw("marked failed", datetime.now(UTC)))
        await edge.broker.publish(worker_notice(one.name))
        reply = await poll
    assert time.monotonic() - began < 1
    assert reply.json["stop"] == [{"job": job.id, "reason": "marked failed", "drop": False}]
    again = await one.poll(jobs=report)
    assert again.json["stop"] == reply.json["stop"], "repeated until the report agrees"
    assert (await one.poll(jobs=[{"id": job.id, "phase": "finishing"}], poll_timeout_s=0.2)).status == 204
    assert (await one.finish(job.id)).status == 204
    told = await one.poll(jobs=report)
    assert told.json["stop"] == [{"job": job.id, "reason": "the job has ended: marked failed", "drop": True}]


async def test_a_job_of_another_worker_is_dropped(edge: Edge) -> None:
    one, two = await agent(edge), await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    await one.start(grant)
    reply = await two.poll(jobs=[{"id": job.id, "phase": "running"}], free=0)
    assert reply.json["stop"][0]["drop"] is True


async def test_a_revoked_worker_is_told_while_its_poll_is_parked(edge: Edge) -> None:
    one = await agent(edge)
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll(replica=1))
        await parked(edge, 1, replica=1)
        began = time.monotonic()
        await edge.act_on_worker(one.name, "revoke")
        reply = await poll
    assert (reply.status, reply.code) == (401, "credential_revoked")
    for replica in (0, 1):
        assert (await one.poll(replica=replica)).code == "credential_revoked"
    assert time.monotonic() - began < 2


async def test_new_settings_are_told_until_the_worker_has_them(edge: Edge) -> None:
    one = await agent(edge)
    reply = await one.poll(settings_version=0)
    settings = reply.json["settings"]
    assert (settings["version"], settings["queues"], settings["availability"]) == (1, ["default"], "active")
    assert (await one.poll(settings_version=1, poll_timeout_s=0)).status == 204


async def test_a_revocation_that_nobody_announces(edge: Edge) -> None:
    """The replica that wrote it died before its notice: the bucket's watch brings it."""
    one = await agent(edge)
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll(replica=1))
        await parked(edge, 1, replica=1)
        began = time.monotonic()
        event = worker_event("worker-revoked", one.name)
        await edge.enrollments.revoke(hash_secret(one.secret), now=event.at, event=event)
        reply = await poll
    assert reply.code == "credential_revoked"
    assert time.monotonic() - began < 2


async def test_a_grant_that_could_not_be_written_comes_back_at_once(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks between the message's arrival and the last byte of the answer."""
    one, two = await agent(edge), await agent(edge, replica=1)
    job = await publish(edge.broker)

    class Broken(web.Response):
        async def write_eof(self, data: bytes = b"") -> None:
            raise ConnectionResetError("the client has gone")

    with monkeypatch.context() as patch:
        patch.setattr(poll, "json_response", lambda model: Broken())
        with pytest.raises(aiohttp.ClientConnectionError):
            await one.poll()
    began = time.monotonic()
    [grant] = await two.grants()
    assert grant["job"]["id"] == job.id
    assert time.monotonic() - began < 5


async def test_a_message_of_a_job_that_runs_is_dropped(edge: Edge) -> None:
    """The ack of its start was lost; it comes to the very worker that runs the job."""
    one = await agent(edge)
    job = await publish(edge.broker)
    await edge.records.change(job.id, Start(one.name, 1, datetime.now(UTC)))
    assert (await one.poll(jobs=[{"id": job.id, "phase": "running"}])).status == 204

    async def gone() -> bool:
        return bool((await edge.broker.api("STREAM.INFO.EDGE_JOBS"))["state"]["messages"] == 0)

    await eventually(gone, what="the message was acked")


async def test_pulls_end_without_errors_while_all_is_well(edge: Edge) -> None:
    """A filled pull, one that was cut short and a queue that ran dry are no reason to back off."""
    one = await agent(edge)
    for _ in range(4):
        await publish(edge.broker)
    granted = 0
    while granted < 4:
        for grant in (await one.poll(free=2 if granted == 0 else 8)).json["grants"]:
            assert (await one.start(grant)).status == 204
            granted += 1
    assert (await one.poll(free=8, poll_timeout_s=0.2)).status == 204
    for status in ("400", "409", "503"):
        assert metric(edge, "edge_relay_pull_errors_total", {"status": status}) == 0
