"""Release of a payload by its consumer, before and after its start, and late, repeated and foreign ones."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge_relay.identity.receipts import Receipt, open_receipt, seal
from edge_schemas.life.model import JobRecord, JobState
from support.nats.server import eventually
from support.relay.agents import Agent, agent, metric
from support.relay.edge import Edge
from support.relay.producers import COMMAND, Producer, producer, publish_message

Grant = dict[str, Any]


@pytest.fixture
async def shop(edge: Edge) -> Producer:
    return await producer(edge)


async def record_of(edge: Edge, job: str) -> JobRecord:
    record = await edge.records.get(job)
    assert record is not None
    return record


async def granted(edge: Edge, one: Agent, shop: Producer, **job: Any) -> Grant:
    """A new job, granted to a worker and started by it."""
    published = await publish_message(edge, await shop.submitted(**job))
    [grant] = await one.grants(kinds=["payload", "command"])
    assert grant["job"]["id"] == published.id
    return grant


async def aged(edge: Edge, one: Agent, grant: Grant) -> Grant:
    """The same receipt, long after its grant wait."""
    key = await edge.relays[0].parts.identity.receipt_key.get()
    job = grant["job"]["id"]
    receipt = open_receipt(key, grant["receipt"], job=job, worker=one.name)
    late = Receipt(receipt.ack_subject, receipt.queue, job, one.name, datetime.now(UTC) - timedelta(hours=1))
    return {**grant, "receipt": seal(key, late)}


async def test_a_started_payload_waits_again_after_its_delay(edge: Edge, shop: Producer) -> None:
    """However old the receipt is; a repeat changes nothing, through either replica."""
    one = await agent(edge)
    grant = await granted(edge, one, shop)
    assert (await one.start(grant)).status == 204
    old = await aged(edge, one, grant)
    for replica in (0, 1, 0):
        assert (await one.release(old, delay_s=300, replica=replica)).status == 204
    record = await record_of(edge, grant["job"]["id"])
    assert (record.state, record.attempt, len(record.releases)) == (JobState.WAITING, 1, 1)
    assert record.not_before is not None
    assert record.not_before - record.releases[0].at == timedelta(seconds=300)
    assert record.holder is None
    released = sum(
        metric(edge, "edge_relay_started_releases_total", {"team": "", "queue": "default"}, replica=replica)
        for replica in (0, 1)
    )
    assert released == 1
    status = (await shop.status(record.id)).json
    assert (status["state"], status["attempt"]) == ("waiting", 1)
    assert "not_before" in status


async def test_the_last_attempt_parks_the_payload(edge: Edge, shop: Producer) -> None:
    one = await agent(edge)
    grant = await granted(edge, one, shop, max_attempts=1)
    await one.start(grant)
    assert (await one.release(await aged(edge, one, grant))).status == 204
    record = await record_of(edge, grant["job"]["id"])
    assert record.parked == "attempt 1 of 1 ended: does not fit"


async def test_a_payload_that_was_not_started_returns_as_any_job(edge: Edge, shop: Producer) -> None:
    one = await agent(edge)
    grant = await granted(edge, one, shop)
    old = await aged(edge, one, grant)
    assert (await one.release(old)).code == "receipt_expired"
    assert (await one.release(grant)).status == 204
    assert (await record_of(edge, grant["job"]["id"])).attempt == 0


async def test_a_late_release_of_an_earlier_grant_ends_no_later_start(edge: Edge, shop: Producer) -> None:
    """The same worker has started the job again: what it released is over, and another grant is not its own."""
    one = await agent(edge)
    first = await granted(edge, one, shop)
    await one.start(first)
    await one.release(first)
    job = first["job"]["id"]
    await publish_message(edge, job)
    [second] = await one.grants(kinds=["payload"])
    assert (await one.start(second)).status == 204
    assert (await one.release(await aged(edge, one, first))).status == 204, "a repeat"
    key = await edge.relays[0].parts.identity.receipt_key.get()
    never = Receipt("$JS.ACK.EDGE_JOBS.default.1.9.9.9.0", "default", job, one.name, datetime.now(UTC))
    assert (await one.release({**second, "receipt": seal(key, never)})).code == "receipt_expired"
    record = await record_of(edge, job)
    assert (record.state, record.attempt) == (JobState.RUNNING, 2)


async def test_a_started_command_is_not_released(edge: Edge, shop: Producer) -> None:
    one = await agent(edge)
    grant = await granted(edge, one, shop, command=COMMAND)
    await one.start(grant)
    assert (await one.release(await aged(edge, one, grant))).code == "wrong_state"


async def test_another_consumer_can_neither_release_nor_finish(edge: Edge, shop: Producer) -> None:
    one, two = await agent(edge), await agent(edge)
    grant = await granted(edge, one, shop)
    await one.start(grant)
    job = grant["job"]["id"]
    assert (await two.release(grant)).code == "forbidden"
    forged = {**grant, "receipt": grant["receipt"][:-2] + "AA"}
    assert (await one.release(forged)).code == "invalid_request"
    assert (await two.finish(job, exit_code=0, result={"text": "mine"})).code == "not_holder"
    too_large = {"text": "x" * (256 * 1024 + 1)}
    assert (await one.finish(job, exit_code=0, result=too_large)).code == "invalid_request"
    assert (await one.finish(job, exit_code=0, result={"text": "x" * 600_000})).code == "payload_too_large"
    assert (await record_of(edge, job)).state is JobState.RUNNING


async def test_operators_see_who_submitted_a_job_and_its_attempts(edge: Edge, shop: Producer) -> None:
    one = await agent(edge)
    grant = await granted(edge, one, shop, name="order 7", labels={"day": "mon"}, group="g")
    await one.start(grant)
    await one.release(grant, delay_s=600)
    job = grant["job"]["id"]
    behind = await shop.submitted(group="g", name="order 8")

    async def is_shown() -> bool:
        rows = (await edge.admin("GET", "/v1/admin/jobs?text=day=mon")).json["items"]
        return bool(rows and rows[0]["attempt"] == 1 and rows[0]["state"] == "waiting")

    await eventually(is_shown)
    [row] = (await edge.admin("GET", "/v1/admin/jobs?text=day=mon")).json["items"]
    shown = {name: row[name] for name in ("task", "kind", "producer", "labels", "group", "max_attempts")}
    assert shown == {
        "task": "order 7",
        "kind": "payload",
        "producer": "shop",
        "labels": {"day": "mon"},
        "group": "g",
        "max_attempts": 3,
    }
    detail = (await edge.admin("GET", f"/v1/admin/jobs/{job}")).json
    assert detail["row"] == row
    what = [moment["what"] for moment in detail["timeline"]]
    assert what[0] == "submitted by shop"
    assert "attempt 1 ended: does not fit" in what
    causes = (await edge.admin("GET", f"/v1/admin/jobs/{job}/why")).json["causes"]
    assert {"delayed", "waits_again"} <= {one["code"] for one in causes}
    assert any("Attempt 1 of 3 has ended" in one["text"] for one in causes)

    async def is_behind() -> bool:
        causes = (await edge.admin("GET", f"/v1/admin/jobs/{behind}/why")).json["causes"]
        return any(one["code"] == "behind_group" and "behind job order 7" in one["text"] for one in causes)

    await eventually(is_behind)


async def test_why_names_the_kind_that_no_worker_accepts(edge: Edge, shop: Producer) -> None:
    one = await agent(edge)
    await one.poll(kinds=["payload"], poll_timeout_s=1)
    job = await shop.submitted(command=COMMAND)

    async def is_explained() -> bool:
        causes = (await edge.admin("GET", f"/v1/admin/jobs/{job}/why")).json["causes"]
        return any("does not accept jobs of the kind command" in one["text"] for one in causes)

    await eventually(is_explained)
