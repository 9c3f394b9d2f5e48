"""Start, finish and release on two replicas with a real NATS."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from nats.aio.msg import Msg

from edge_broker import layout
from edge_broker.connection.api import ApiAnswer
from edge_broker.subjects import RECORDS_BUCKET, dead_subject, kv_stream
from edge_relay.identity.receipts import Receipt, seal
from edge_schemas.life.events import Release
from edge_schemas.life.model import JobRecord, JobState, Verdict
from support.nats.server import eventually
from support.relay.agents import agent, publish
from support.relay.edge import Edge
from support.relay.jobs import make_auxiliary_job, make_job

Api = Callable[[str, Mapping[str, object] | None], Awaitable[ApiAnswer]]


async def waiting_messages(edge: Edge) -> int:
    return int((await edge.broker.api("STREAM.INFO.EDGE_JOBS"))["state"]["messages"])


async def test_start_and_finish_on_another_replica_than_the_grant(edge: Edge) -> None:
    one = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    for replica in (1, 0):
        assert (await one.start(grant, replica=replica)).status == 204, "a repeat gets the same answer"
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.state is JobState.RUNNING

    async def gone() -> bool:
        return await waiting_messages(edge) == 0

    await eventually(gone, what="the message is acked")
    for replica in (0, 1):
        assert (await one.finish(job.id, exit_code=0, replica=replica)).status == 204
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.outcome is not None
    assert record.outcome.verdict is Verdict.FAILED, "no final state was accepted"


async def test_a_relay_that_watches_a_record_swaps_it_without_a_read(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start at one replica and finish at another one: what each has seen in its watch is current."""
    one = await agent(edge)
    reads: list[str] = []
    for relay in edge.relays:
        broker = relay.parts.broker

        async def counted(call: str, body: Mapping[str, object] | None = None, *, api: Api = broker.api) -> ApiAnswer:
            if call == f"STREAM.MSG.GET.{kv_stream(RECORDS_BUCKET)}":
                reads.append(call)
            return await api(call, body)

        monkeypatch.setattr(broker, "api", counted)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    await eventually(lambda: edge.relays[0].parts.mirror.get(job.id) is not None)
    assert (await one.start(grant, replica=0)).status == 204

    def is_seen() -> bool:
        seen = edge.relays[1].parts.mirror.get(job.id)
        return seen is not None and seen.holder == one.name

    await eventually(is_seen)
    assert (await one.finish(job.id, exit_code=0, replica=1)).status == 204
    assert reads == []
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.state is JobState.ENDED


async def test_another_workers_receipt_is_worth_nothing(edge: Edge) -> None:
    one, two = await agent(edge), await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    assert (await two.start(grant)).code == "forbidden"
    assert (await two.release(grant)).code == "forbidden"
    assert (await two.finish(job.id)).code == "wrong_state"
    assert (await one.start(grant)).status == 204
    assert (await two.finish(job.id)).code == "not_holder"
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.holder is not None
    assert record.holder.worker == one.name


async def test_of_two_with_a_receipt_the_second_is_not_the_holder(edge: Edge) -> None:
    """The message was handed out again because the first worker took too long, then both start."""
    one, two = await agent(edge), await agent(edge, replica=1)
    await publish(edge.broker)
    [grant] = await one.grants()
    key = await edge.relays[0].parts.identity.receipt_key.get()
    receipt = Receipt("$JS.ACK.EDGE_JOBS.default.1.1.1.1.0", "default", grant["job"]["id"], two.name, later())
    assert (await one.start(grant)).status == 204
    reply = await two.start({**grant, "receipt": seal(key, receipt)})
    assert (reply.status, reply.code) == (409, "not_holder")


async def test_expired_receipts(edge: Edge) -> None:
    """A late start is refused, unless it repeats one that succeeded; a late release never touches the message."""
    one = await agent(edge)
    await publish(edge.broker)
    [grant] = await one.grants()
    key = await edge.relays[1].parts.identity.receipt_key.get()
    stale = Receipt("$JS.ACK.EDGE_JOBS.default.1.1.1.1.0", "default", grant["job"]["id"], one.name, datetime.now(UTC))
    old = {**grant, "receipt": seal(key, stale)}
    assert (await one.start(old)).code == "receipt_expired"
    assert (await one.release(old)).code == "receipt_expired"
    assert edge.relays[0].parts.metrics.registry.get_sample_value("edge_relay_expired_receipts_total") == 2
    assert (await one.start(grant)).status == 204
    assert (await one.start(old)).status == 204


async def test_forged_receipts(edge: Edge) -> None:
    one = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    good = grant["receipt"]
    forgeries = [
        "",
        "é",
        good[:-2],
        ("A" if good[0] != "A" else "B") + good[1:],
        base64.urlsafe_b64encode(bytes(32) + b'["$JS.ACK.X","default","j","w",9]').decode(),
        "x" * 5000,
    ]
    for forged in forgeries:
        assert (await one.start({**grant, "receipt": forged})).code == "invalid_request"
        assert (await one.release({**grant, "receipt": forged})).code == "invalid_request"
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.state is JobState.WAITING
    assert record.releases == ()


async def test_a_receipt_does_not_start_another_job(edge: Edge) -> None:
    one = await agent(edge)
    job, other = await publish(edge.broker), make_job()
    [grant] = await one.grants()
    assert (await one.start(grant, job=other.id)).code == "invalid_request"
    assert (await one.start(grant, job="nonsense")).code == "invalid_request"
    assert (await one.finish(other.id)).code == "job_ended"
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.state is JobState.WAITING


async def test_a_released_job_comes_back_and_is_parked_in_the_end(edge: Edge) -> None:
    """At the fifth counted release the job is put aside with its history; others are not held up by it."""
    one = await agent(edge)
    job = await publish(edge.broker, make_job())
    [grant] = await one.grants()
    assert (await one.release(grant, counted=False, reason="draining")).status == 204
    # Five grants would wait 1 + 2 + 4 + 8 s; the last token of an ack subject tells them apart and settles nothing.
    key = await edge.relays[0].parts.identity.receipt_key.get()
    ack = (await ack_subject(edge)).rpartition(".")[0]
    receipts = [seal(key, Receipt(f"{ack}.{number}", "default", job.id, one.name, later())) for number in range(5)]
    for number, receipt in enumerate(receipts):
        assert (await one.release({**grant, "receipt": receipt}, reason=f"no {number}")).status == 204
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.parked == "released 5 times, last: no 4"
    dead = await edge.broker.api("STREAM.MSG.GET.EDGE_DEAD", {"last_by_subj": dead_subject(None, "default", job.id)})
    history = base64.b64decode(dead["message"]["data"])
    assert b"no 0" in history
    assert b"no 4" in history

    async def gone() -> bool:
        return await waiting_messages(edge) == 0

    await eventually(gone, what="the message was removed")
    assert (await one.start({**grant, "receipt": receipts[-1]})).code == "wrong_state"


async def test_no_job_is_parked_before_its_history_is_kept(edge: Edge) -> None:
    """`EDGE_DEAD` fails at the fifth release: the job stays as it was until the history is stored."""
    one = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    for number in range(4):
        event = Release("other", "no room", counted=True, at=datetime.now(UTC), grant=str(number))
        await edge.records.change(job.id, event)
    dead: asyncio.Queue[Msg] = asyncio.Queue()
    # In the stream's place, so that the test sees the attempt and decides how it ends.
    await edge.broker.api("STREAM.DELETE.EDGE_DEAD")
    number = await edge.broker.subscribe("edge.dead.>", dead.put)
    releasing = asyncio.create_task(one.release(grant, reason="the last"))
    async with asyncio.timeout(5):
        attempt = await dead.get()
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.parked is None
    await edge.broker.unsubscribe(number)
    await layout.apply(edge.broker, layout.LayoutSettings())
    refusal = {"error": {"code": 503, "err_code": 10008, "description": "system temporarily unavailable"}}
    await edge.broker.publish(attempt.reply, orjson.dumps(refusal))
    assert (await releasing).status == 204
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.parked == "released 5 times, last: the last"
    kept = await edge.broker.api("STREAM.MSG.GET.EDGE_DEAD", {"last_by_subj": dead_subject(None, "default", job.id)})
    assert JobRecord.model_validate_json(base64.b64decode(kept["message"]["data"])).parked == record.parked


async def test_a_release_brings_the_job_back_after_a_moment(edge: Edge) -> None:
    one, two = await agent(edge), await agent(edge, replica=1)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    assert (await one.release(grant)).status == 204
    [again] = await two.grants()
    assert again["job"]["id"] == job.id
    assert (await two.start(again)).status == 204
    assert (await one.start(grant)).code == "not_holder"


async def test_an_auxiliary_job_goes_to_a_worker_that_allows_it(edge: Edge) -> None:
    """The others get the tasks behind it, and it is not delivered to them."""
    one, two = await agent(edge), await agent(edge, replica=1)
    callback = await publish(edge.broker, make_auxiliary_job("default"))
    task = await publish(edge.broker)
    [grant] = await one.grants()
    assert grant["job"]["id"] == task.id
    [grant] = await two.grants(auxiliary=["callback"])
    assert grant["job"]["id"] == callback.id


@pytest.mark.parametrize("counted", [True, False])
async def test_a_repeated_release_does_not_take_the_job_from_the_next_worker(edge: Edge, *, counted: bool) -> None:
    """Its ack subject is good for every later delivery of the message, too."""
    one, two = await agent(edge), await agent(edge, replica=1)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    assert (await one.release(grant, counted=counted)).status == 204
    [again] = await two.grants()
    for replica in (0, 1, 0, 1):
        assert (await one.release(grant, counted=counted, replica=replica)).status == 204
    assert (await one.poll(free=1, poll_timeout_s=3)).status == 204, "nothing is delivered to a third poll"
    assert (await one.start(grant)).code == "receipt_expired"
    assert (await two.start(again)).status == 204
    assert again["job"]["id"] == job.id


async def ack_subject(edge: Edge) -> str:
    """Of the only message: what JetStream fences with is its stream sequence."""
    state = (await edge.broker.api("STREAM.INFO.EDGE_JOBS"))["state"]
    return f"$JS.ACK.EDGE_JOBS.default.1.{state['last_seq']}.1.1.0"


def later() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=20)
