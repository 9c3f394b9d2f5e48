"""Restarted and copied agents of one worker, through two replicas and a real NATS."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from nats.aio.msg import Msg
from structlog.testing import capture_logs
from structlog.typing import EventDict

from edge_broker.layout import ensure_consumer
from edge_broker.subjects import worker_notice
from edge_relay import relay_beats
from edge_schemas.life import agents
from edge_schemas.life.events import ReportUserCode, Withdraw
from edge_schemas.life.model import JobState
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.worker_entry import WorkerEntry
from support.nats.server import eventually
from support.relay.agents import Agent, agent, arrived, parked, publish, pulling
from support.relay.edge import Edge, Reply


@pytest.fixture
def events() -> Iterator[list[EventDict]]:
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def _frequent_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for it before the relays start."""
    monkeypatch.setattr(relay_beats, "RELAY_BEAT_S", 0.1)


async def entry_of(edge: Edge, one: Agent) -> WorkerEntry:
    """As it stands in the bucket."""
    entry = await edge.relays[0].parts.workers.get(one.name)
    assert entry is not None
    return entry


@asynccontextmanager
async def audited(edge: Edge, action: str) -> AsyncIterator[list[dict[str, Any]]]:
    """The audit events of an action that are published meanwhile."""
    found: list[dict[str, Any]] = []

    async def take(message: Msg) -> None:
        found.append(orjson.loads(message.data))

    number = await edge.broker.subscribe(f"edge.audit.*.*.{action}", take)
    try:
        yield found
    finally:
        await edge.broker.unsubscribe(number)


async def polled(one: Agent, **report: Any) -> Reply:
    """A poll as an agent makes it: turned away, it says at once by whom."""
    reply = await one.poll(**report)
    if reply.code == "superseded":
        reply = await one.poll(**{**report, "superseded_by": reply.json["superseded_by"]})
    return reply


async def in_conflict(edge: Edge) -> tuple[Agent, Agent]:
    """The older and the newer one of two agents with one credential, on a replica each."""
    older = await agent(edge)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    assert (await older.poll(poll_timeout_s=0)).status == 204
    newer = older.again(instance="copy")
    newer.replica = 1
    assert (await newer.poll(poll_timeout_s=0)).status == 204
    assert (await polled(older, poll_timeout_s=0)).status == 204
    return older, newer


async def test_a_restarted_agent_takes_over_at_once(edge: Edge) -> None:
    """No lock-out, and the older one's parked poll is told by whom it was outlived, on whichever replica it is."""
    one = await agent(edge)
    two = one.again()
    for replica in (0, 1):
        async with asyncio.TaskGroup() as group:
            old = group.create_task(one.poll())
            await parked(edge, 1)
            assert (await two.poll(poll_timeout_s=0, replica=replica)).status == 204
            reply = await old
        assert (reply.status, reply.code, reply.json["superseded_by"]) == (409, "superseded", two.incarnation)
        one, two = two, two.again()
    entry = await entry_of(edge, one)
    assert entry.conflict is None
    assert agents.has_taken_over(entry, datetime.now(UTC)), "it stands on the same machine since its boot"


async def test_a_poll_whose_connection_closes_is_marked_and_only_that(edge: Edge) -> None:
    """So that an agent on a rebooted machine need not wait for a whole hold."""
    one = await agent(edge)
    poll = asyncio.create_task(one.poll())
    await arrived(edge, one)
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)

    async def left() -> bool:
        return (await entry_of(edge, one)).agent.left

    await eventually(left, what="the end of the connection is marked")
    assert (await one.poll(poll_timeout_s=0)).status == 204
    assert not await left()
    assert (await one.poll(poll_timeout_s=0.1)).status == 204
    assert not await left(), "a poll that was answered"
    rebooted = one.again(instance="after the reboot")
    assert (await rebooted.poll(poll_timeout_s=0)).status == 204
    assert not agents.has_taken_over(await entry_of(edge, one), datetime.now(UTC))


async def test_a_copied_credential_is_named_once(edge: Edge, events: list[EventDict]) -> None:
    async with audited(edge, "credential-copied") as told:
        older, newer = await in_conflict(edge)
        for one in (older, newer, older):
            assert (await one.poll(poll_timeout_s=0, in_conflict=one is newer)).status == 204
        await eventually(lambda: told, what="the audit")
    logged = [event for event in events if event["event"] == "credential_copied"]
    assert [event["target"] for event in told] == [older.name]
    assert [event["worker"] for event in logged] == [older.name]
    for facts in (*(event["facts"] for event in told), *logged):
        assert (facts["older_host"], facts["newer_host"]) == ("host-of-machine", "host-of-copy")
        assert (facts["older_incarnation"], facts["newer_incarnation"]) == ("1", "2")
        assert facts["older_address"] == facts["newer_address"] == "127.0.0.1"
    assert (len(told), len(logged)) == (1, 1)
    assert logged[0]["log_level"] == "error"


async def test_the_newer_of_two_gets_no_jobs_until_an_operator_decides(edge: Edge) -> None:
    """It is told so until it says that it knows; then its polls are parked like any other's."""
    older, newer = await in_conflict(edge)
    told = await newer.poll(poll_timeout_s=5)
    assert told.json["conflict"]["older"]["host"] == "host-of-machine"
    assert told.json["conflict"]["newer"]["host"] == "host-of-copy"
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(newer.poll(poll_timeout_s=20, in_conflict=True))
        await parked(edge, 1, replica=1)
        job = await publish(edge.broker)
        [grant] = await older.grants()
        assert grant["job"]["id"] == job.id
        assert (await older.start(grant)).status == 204
        waits = await publish(edge.broker)
        assert (await older.poll(free=0, poll_timeout_s=0.2)).status == 204
        assert not waiting.done()
        async with audited(edge, "worker-conflict-resolved") as audit_events:
            for _ in range(2):
                await edge.act_on_worker(older.name, "resolve", keep="newer")
            await eventually(lambda: audit_events, what="the audit")
        assert [(one["actor"]["name"], one["after"]["kept"]) for one in audit_events] == [("tests", "newer")], (
            "a repeat changes nothing"
        )
        reply = await waiting
    assert reply.json["conflict_resolved"] is True
    found = reply.json["grants"] or await newer.grants()
    assert found[0]["job"]["id"] == waits.id


async def test_a_conflict_that_begins_while_a_poll_is_parked_takes_its_jobs_away(edge: Edge) -> None:
    """The newer one's poll waits for jobs when the older one shows that it lives."""
    older = await agent(edge)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    newer = older.again(instance="copy")
    newer.replica = 1
    async with asyncio.TaskGroup() as group:
        old = group.create_task(older.poll())
        await parked(edge, 1)
        waiting = group.create_task(newer.poll())
        await pulling(edge, "default", 1)
        turned_away = await old
        assert turned_away.code == "superseded"
        back = group.create_task(older.poll(superseded_by=turned_away.json["superseded_by"]))
        reply = await waiting
        assert reply.json["grants"] == []
        assert reply.json["conflict"]["newer"]["host"] == "host-of-copy"
        job = await publish(edge.broker)
        assert (await back).json["grants"][0]["job"]["id"] == job.id


async def test_both_sides_keep_their_jobs_and_are_told_to_stop_them(edge: Edge) -> None:
    older = await agent(edge)
    jobs = [await publish(edge.broker), await publish(edge.broker)]
    grants = await older.grants(2)
    assert [(await older.start(grant)).status for grant in grants] == [204, 204]
    newer = older.again(instance="copy")
    assert (await newer.poll(poll_timeout_s=0, replica=1)).status == 204
    extra = await publish(edge.broker)
    [grant] = await newer.grants(replica=1)
    assert (await newer.start(grant, replica=1)).status == 204
    listed = [{"id": job.id, "phase": "running"} for job in jobs]
    assert (await polled(older, poll_timeout_s=0, jobs=listed)).status == 204
    assert (await newer.finish(jobs[0].id, incarnation=newer.incarnation)).code == "takeover_pending"
    mine = {"id": extra.id, "phase": "running"}
    for one, report, job in ((older, listed, jobs[0]), (newer, [mine], extra)):
        await edge.records.change(job.id, Withdraw("marked failed", datetime.now(UTC)))
        await edge.broker.publish(worker_notice(one.name))
        reply = await one.poll(jobs=report, in_conflict=one is newer)
        assert [(stop["job"], stop["drop"]) for stop in reply.json["stop"]] == [(job.id, False)]
        assert (await one.finish(job.id, incarnation=one.incarnation)).status == 204
    assert (await older.finish(jobs[1].id, incarnation=older.incarnation)).status == 204


async def test_an_agent_settles_older_jobs_only_once_it_stands_alone(edge: Edge) -> None:
    """It may run on a copy of the state folder, and know nothing of a job that continues elsewhere."""
    one = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    assert (await one.start(grant)).status == 204
    two = one.again(instance="after the reboot")
    early = await two.finish(job.id, incarnation=two.incarnation, release=True)
    assert (early.status, early.code) == (409, "takeover_pending")
    assert early.json["retryable"]
    assert early.headers["Retry-After"] == "2"
    assert (await two.poll(poll_timeout_s=0)).status == 204
    assert (await two.start(grant)).code == "takeover_pending"
    assert (await two.finish(job.id, incarnation=two.incarnation)).code == "takeover_pending"
    await edge.relays[0].parts.workers.leave(one.name, (await entry_of(edge, one)).predecessors[0].arrival)
    assert (await two.start(grant)).status == 204, "a restart in the middle of the start"
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.holder is not None
    assert record.holder.incarnation == two.incarnation
    assert (await two.finish(job.id, incarnation=two.incarnation, release=True)).status == 204


LIES: list[dict[str, Any]] = [
    {},
    {"incarnation": "of the holder"},
    {"incarnation": "of the holder", "instance": "machine"},
    {"incarnation": 99},
]


@pytest.mark.parametrize("lie", LIES, ids=str)
async def test_a_copy_settles_no_job_of_the_original(edge: Edge, lie: dict[str, Any]) -> None:
    """It has the state folder with the receipts, and may claim to be any incarnation on any machine."""
    older = await agent(edge)
    jobs = [await publish(edge.broker) for _ in range(3)]
    grants = await older.grants(3)
    for grant in grants:
        assert (await older.start(grant)).status == 204
    newer = older.again(instance="copy")
    newer.replica = 1
    assert (await newer.poll(poll_timeout_s=0)).status == 204
    assert (await polled(older, poll_timeout_s=0)).status == 204
    assert (await entry_of(edge, older)).conflict is not None
    claimed = {**lie}
    if claimed.get("incarnation") == "of the holder":
        claimed["incarnation"] = newer.incarnation = older.incarnation
    newer.instance = claimed.pop("instance", newer.instance)
    job, grant = jobs[0].id, next(one for one in grants if one["job"]["id"] == jobs[0].id)
    for receipt in ({}, {"receipt": grant["receipt"]}):
        for release in (False, True):
            reply = await newer.finish(job, release=release, **claimed, **receipt)
            assert reply.code == "takeover_pending", (claimed, receipt, release)
    assert (await newer.start(grant)).code == "takeover_pending", "an accepted start would run it twice"
    record = await edge.records.get(job)
    assert record is not None
    assert record.state is JobState.RUNNING
    for own in jobs:
        assert (await older.finish(own.id, exit_code=1)).status == 204, "the original loses nothing"


async def test_the_task_of_the_original_keeps_its_calls_and_that_of_a_copy_has_none(edge: Edge) -> None:
    """A final state settles a job, too. There is no gate here: a call that is let through finds none."""
    older = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await older.grants()
    assert (await older.start(grant)).status == 204
    copy = older.again(instance="copy")
    path = routes.JOB_EXECUTION.format(job=job.id, path="variables/x")

    async def code_for(one: Agent) -> str:
        return (await edge.call("GET", path, one.secret, headers=one.headers)).code

    assert await code_for(copy) == "gate_unavailable", "the credential opens it until the original polls again"
    assert (await copy.poll(poll_timeout_s=0)).status == 204
    assert (await polled(older, poll_timeout_s=0)).status == 204
    assert [await code_for(older), await code_for(copy)] == ["gate_unavailable", "takeover_pending"]


async def test_a_finish_names_its_incarnation(edge: Edge) -> None:
    one = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    assert (await one.start(grant)).status == 204
    path = routes.JOB_FINISH.format(job=job.id)
    reply = await edge.call("POST", path, one.secret, json={"exit_code": 0}, headers=one.headers)
    assert (reply.status, reply.code) == (400, "invalid_request")


async def test_a_job_that_is_given_back_waits_again(edge: Edge) -> None:
    """Its worker was shut down before user code ran, so no try is spent. How often is counted like releases."""
    one = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    assert (await one.start(grant)).status == 204
    why = "the worker is being shut down"
    for replica in (0, 1):
        reply = await one.finish(job.id, release=True, reason=why, replica=replica, receipt=grant["receipt"])
        assert reply.status == 204
    record = await edge.records.get(job.id)
    assert record is not None
    assert (record.state, record.holder, record.parked) == (JobState.WAITING, None, None)
    assert [note.reason for note in record.releases] == [why]
    assert (await one.start(grant)).code == "receipt_expired", "a repeat of the start must not start it again"


async def test_a_job_whose_user_code_ran_is_not_given_back(edge: Edge) -> None:
    one = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    assert (await one.start(grant)).status == 204
    await edge.records.change(job.id, ReportUserCode(one.name, "h", 1, datetime.now(UTC)))
    assert (await one.finish(job.id, release=True)).status == 204
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.state is JobState.ENDED


@pytest.mark.usefixtures("_frequent_beats")
async def test_a_replica_beats_while_it_serves(edge: Edge) -> None:
    """Since when without a break; a broker that was away, and a replica that stops, begin again or say nothing."""
    heard: dict[str, list[datetime]] = {"relay-0": [], "relay-1": []}
    late_s: list[float] = []

    async def take(message: Msg) -> None:
        beat = orjson.loads(message.data)
        heard[beat["relay"]].append(datetime.fromisoformat(beat["serving_since"]))
        late_s.append((datetime.now(UTC) - datetime.fromisoformat(beat["at"])).total_seconds())

    await edge.broker.subscribe("edge.notices.relay", take)
    await eventually(lambda: all(len(since) > 1 for since in heard.values()), what="beats of both replicas")
    first = heard["relay-0"][0]
    assert set(heard["relay-0"]) == {first}
    edge.relays[1].parts.lifecycle.stop()
    said = len(heard["relay-1"])
    await edge.server.stop(kill=True)
    await eventually(lambda: not edge.broker.connected, what="the loss is noticed")
    gone_at = datetime.now(UTC)
    await edge.server.start()
    await eventually(lambda: heard["relay-0"][-1] > first, what="a beat after the outage")
    assert heard["relay-0"][-1] > gone_at
    assert len(heard["relay-1"]) <= said + 1, "a replica that stops says nothing more"
    assert all(0 <= one < 10 for one in late_s), "each beat contains the time at which it was sent"


@pytest.mark.usefixtures("_frequent_beats")
async def test_no_beat_while_no_poll_can_arrive(edge: Edge) -> None:
    """Connected is not enough: the entries of workers can't be kept, so nobody may be thought silent."""
    looks: list[Msg] = []
    beats: list[Msg] = []

    async def count_look(message: Msg) -> None:
        looks.append(message)

    async def count_beat(message: Msg) -> None:
        beats.append(message)

    await edge.broker.api("STREAM.DELETE.KV_edge_workers")
    await edge.broker.subscribe("$KV.edge_workers.-", count_look)
    await eventually(lambda: len(looks) >= 2, what="both replicas have looked whether polls can arrive")
    await edge.broker.subscribe("edge.notices.relay", count_beat)
    more = len(looks) + 4
    await eventually(lambda: len(looks) >= more, timeout_s=20, what="and several times more")
    assert not beats
