"""A queue with jobs of several kinds: what waits for workers of another kind delays nothing."""

import asyncio
from typing import Any

from edge_broker.jetstream.stream_info import subjects_with_messages
from edge_broker.subjects import JOBS, consumer_name, job_subject, queue_filter
from edge_schemas.wire.jobs import JobKind
from support.nats.server import eventually
from support.nats.submitted import submit
from support.relay.agents import Agent, agent, arrived, publish, pulling
from support.relay.edge import Edge
from support.relay.jobs import command_job, make_auxiliary_job, make_job, payload_job

AT_ONCE_S = 1.0
PAYLOADS = 200


async def messages(edge: Edge) -> int:
    return len(await subjects_with_messages(edge.broker, JOBS, queue_filter(None, "default")))


async def delivered(edge: Edge, kind: JobKind) -> int:
    """How many messages of a kind the server has delivered, in vain or not."""
    info = await edge.broker.api(f"CONSUMER.INFO.{JOBS}.{consumer_name(None, 'default', kind)}")
    return int(info["delivered"]["consumer_seq"])


async def started(one: Agent, **report: Any) -> str:
    """The job that it is granted next, and starts."""
    [grant] = await one.grants(**report)
    assert (await one.start(grant)).status == 204
    return str(grant["job"]["id"])


async def test_many_payloads_that_no_worker_accepts_do_not_delay_a_command(edge: Edge) -> None:
    """They are older, and wait at both replicas; the command comes through the relays' own upkeep."""
    for _ in range(PAYLOADS):
        await publish(edge.broker, payload_job())
    workers = [await agent(edge, replica=number) for number in range(2)]
    for one in workers:
        ended = await submit(edge, command_job())
        async with asyncio.timeout(AT_ONCE_S):
            assert await started(one, kinds=["command"]) == ended.id
    parked = [asyncio.create_task(started(one, kinds=["command"])) for one in workers]
    for one in workers:
        await arrived(edge, one)
    commands = [await submit(edge, command_job()) for _ in workers]
    async with asyncio.timeout(AT_ONCE_S):
        assert set(await asyncio.gather(*parked)) == {job.id for job in commands}
    assert await messages(edge) == PAYLOADS
    assert await delivered(edge, JobKind.PAYLOAD) == 0, "nothing is fetched that nobody wants"


async def test_a_callback_reaches_the_worker_that_allows_it_at_once(edge: Edge) -> None:
    """Though workers at both replicas that do not allow it have waited longer, and tasks wait before it."""
    others = [await agent(edge, replica=number % 2) for number in range(4)]
    polls = [asyncio.create_task(one.poll()) for one in others]
    for one in others:
        await arrived(edge, one)
    willing = await agent(edge, replica=1)
    waits = asyncio.create_task(started(willing, auxiliary=["callback"], kinds=["command"]))
    await arrived(edge, willing)
    async with asyncio.timeout(AT_ONCE_S):
        callback = await publish(edge.broker, make_auxiliary_job("default"))
        assert await waits == callback.id
    assert not any(poll.done() for poll in polls)
    tasks = {(await publish(edge.broker)).id for _ in others}
    assert {(await poll).json["grants"][0]["job"]["id"] for poll in polls} == tasks


async def test_a_worker_of_all_kinds_gets_each_of_them(edge: Edge) -> None:
    """Whichever waits first: with all of them waiting, and with a poll that waits for any."""
    one = await agent(edge)
    accepts = {"kinds": ["task", "command", "payload"], "auxiliary": ["callback"]}
    jobs = [await publish(edge.broker, job) for job in (make_job(), make_auxiliary_job("default"))]
    jobs += [await submit(edge, job) for job in (command_job(), payload_job())]
    assert {await started(one, **accepts) for _ in jobs} == {job.id for job in jobs}
    for job in (make_auxiliary_job("default"), make_job()):
        waits = asyncio.create_task(started(one, **accepts))
        await pulling(edge, consumer_name(None, "default", job.kind))
        await publish(edge.broker, job)
        assert await waits == job.id


async def test_a_plain_worker_waits_at_one_consumer(edge: Edge) -> None:
    """Thousands of idle workers of tasks cost what they did before there were other kinds."""
    for job in (make_auxiliary_job("default"), command_job(), payload_job()):
        await publish(edge.broker, job)
    one = await agent(edge)
    polling = asyncio.create_task(one.poll(poll_timeout_s=5))
    await arrived(edge, one)
    await eventually(lambda: edge.relays[0].parts.dispatchers.free_slots() == {"default": 1}, what="it waits")
    polling.cancel()


async def test_a_message_of_an_earlier_version_delays_neither_its_job_nor_a_task(edge: Edge) -> None:
    """Once it had the subject of a task, whatever its kind: it is stored again in its place, and removed from there."""
    command = command_job()
    before, now = (job_subject(None, "default", kind, command.id) for kind in (JobKind.TASK, JobKind.COMMAND))
    await edge.broker.store(before, command.model_dump_json().encode())
    await submit(edge, command)
    await eventually(lambda: subjects_with_messages(edge.broker, JOBS, now), what="it is in its place too")
    task = await publish(edge.broker)
    async with asyncio.timeout(AT_ONCE_S):
        assert await started(await agent(edge)) == task.id
    assert await subjects_with_messages(edge.broker, JOBS, before) == []
