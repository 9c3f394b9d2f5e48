"""Submissions on two replicas with a real NATS: what becomes a job, what does not, and that no job is made twice."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from edge_broker.records import RecordStore
from edge_relay.submissions.new_job import job_id
from edge_schemas.life.events import Finish, Start
from edge_schemas.life.model import JobRecord
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import JobKind, OnLost
from edge_schemas.wire.offline import DEFAULT_TOLERANCE_S
from support.nats.server import eventually
from support.relay.agents import metric
from support.relay.edge import Edge
from support.relay.producers import COMMAND, producer


async def record_of(edge: Edge, job: str) -> JobRecord:
    record = await edge.records.get(job)
    assert record is not None
    return record


async def test_a_command_gets_the_defaults_of_a_command(edge: Edge) -> None:
    shop = await producer(edge)
    job = await shop.submitted(command=COMMAND, labels={"site": "a/1"})
    record = await record_of(edge, job)
    assert record.terms is not None
    assert record.terms.model_dump(exclude={"digest"}) == {
        "kind": JobKind.COMMAND,
        "name": "backup",
        "producer": "shop",
        "priority": 0,
        "on_lost": OnLost.FAIL,
        "max_attempts": 1,
        "expires_at": None,
        "group": None,
        "labels": {"site": "a/1"},
    }
    assert record.offline.tolerance_s == DEFAULT_TOLERANCE_S
    assert record.not_before is None
    assert metric(edge, "edge_relay_submissions_total", {"team": "", "queue": "default", "kind": "command"}) == 1


async def test_a_payload_waits_again_and_what_is_sent_counts(edge: Edge) -> None:
    shop = await producer(edge)
    job = await shop.submitted(delay_s=60, ttl_s=120, priority=7, group="g", name="order 7", offline_tolerance_s=20)
    record = await record_of(edge, job)
    assert record.terms is not None
    assert (record.terms.on_lost, record.terms.max_attempts) == (OnLost.REQUEUE, 3)
    assert (record.terms.name, record.terms.priority, record.terms.group) == ("order 7", 7, "g")
    assert record.not_before is not None
    assert record.terms.expires_at is not None
    assert (record.not_before - record.created_at).total_seconds() == 60
    assert (record.terms.expires_at - record.created_at).total_seconds() == 120
    assert record.offline.tolerance_s == 20


async def test_what_operators_have_set_for_the_queue_counts_where_the_producer_says_nothing(edge: Edge) -> None:
    shop = await producer(edge)
    settings = {"do": "set", "tolerance_s": 30, "timeout_s": 90, "kinds": ["payload"]}
    order = {"action": settings, "queues": [{"queue": "default"}], "reason": "a test"}
    reply = await edge.admin("POST", routes.ADMIN_QUEUE_ACTIONS, order)
    assert reply.json["changed_count"] == 1, reply.body
    record = await record_of(edge, await shop.submitted())
    assert record.terms is not None
    assert record.terms.expires_at is not None
    assert record.offline.tolerance_s == 30
    assert (record.terms.expires_at - record.created_at).total_seconds() == 90
    refused = await shop.submit(command=COMMAND)
    assert (refused.status, refused.code) == (403, "forbidden")
    assert "does not accept jobs of the kind command" in refused.json["detail"]
    rejected = metric(edge, "edge_relay_submissions_rejected_total", {"code": "forbidden"})
    assert rejected == 1


async def test_a_paused_queue_accepts_jobs_that_wait(edge: Edge) -> None:
    shop = await producer(edge)
    order = {"action": {"do": "pause"}, "queues": [{"queue": "default"}], "reason": "a test"}
    await edge.admin("POST", routes.ADMIN_QUEUE_ACTIONS, order)
    assert (await shop.submit()).status == 201

    async def is_shown() -> bool:
        figures = (await shop.call("GET", routes.QUEUE.format(queue="default"))).json
        return bool(figures["is_paused"] and figures["waiting"] == 1)

    await eventually(is_shown)


async def test_a_key_is_one_job_while_it_waits_runs_has_ended_and_was_moved(edge: Edge) -> None:
    shop = await producer(edge)
    job = await shop.submitted(key="order-1", labels={"a": "1", "b": "2"})

    async def check() -> None:
        again = await shop.submit(key="order-1", labels={"b": "2", "a": "1"}, replica=1)
        assert (again.status, again.json) == (200, {"job": job, "queue": "default", "is_new": False})
        other = await shop.submit(key="order-1", priority=1)
        assert (other.status, other.code) == (409, "key_reused")

    await check()
    await edge.records.change(job, Start("w", 1, datetime.now(UTC), "g"))
    await check()
    await edge.records.change(job, Finish("w", 0, None, datetime.now(UTC), grant="g"))
    await check()
    await edge.records.move_ended(job)
    await check()


async def test_a_key_belongs_to_its_queue(edge: Edge) -> None:
    shop, other = await producer(edge), await producer(edge, "other")
    assert await shop.submitted(key="k") == job_id("default", "k")
    assert await other.submitted(key="k") == job_id("other", "k")


async def test_two_replicas_at_once_make_one_job_of_a_key(edge: Edge) -> None:
    shop = await producer(edge)
    for number in range(5):
        calls = [shop.submit(key=f"k{number}", replica=one % 2) for one in range(8)]
        replies = await asyncio.gather(*calls)
        assert sorted(reply.status for reply in replies) == [200] * 7 + [201]
        assert len({reply.json["job"] for reply in replies}) == 1


async def test_without_a_key_each_submission_is_a_job(edge: Edge) -> None:
    shop = await producer(edge)
    assert await shop.submitted() != await shop.submitted()


async def test_each_of_a_batch_is_accepted_or_rejected_for_itself(edge: Edge) -> None:
    shop = await producer(edge)
    await shop.submitted(key="old")
    payload = {"payload": {"text": "x"}}
    reply = await shop.batch(
        {**payload, "key": "a"},
        {"payload": {"text": "y"}, "key": "old"},
        {**payload, "key": "a"},
        {**payload, "labels": {"n": "4"}},
    )
    assert reply.status == 200, reply.body
    results = reply.json["jobs"]
    assert [one.get("code") for one in results] == [None, "key_reused", None, None]
    assert results[0]["job"] == results[2]["job"]
    assert sorted([results[0]["is_new"], results[2]["is_new"]]) == [False, True]
    assert results[3]["is_new"]


WRONG: dict[str, dict[str, Any]] = {
    "no work": {"payload": None},
    "both": {"command": COMMAND, "payload": {"text": "x"}},
    "a bad label": {"labels": {"a b": "c"}},
    "too many labels": {"labels": {f"l{number}": "x" for number in range(17)}},
    "an unknown field": {"pirority": 1},
    "a priority out of range": {"priority": 1001},
    "a name that is not printable": {"name": "a\x1b[2J"},
    "attempts of a job that fails": {"command": COMMAND, "max_attempts": 3},
    "no base64": {"payload": {"data": "???"}},
    "too many arguments": {"command": {"argv": ["a"] * 1001}},
    "too many variables": {"command": {"argv": ["a"], "env": {f"V{number}": "" for number in range(1001)}}},
    "a relative folder": {"command": {"argv": ["a"], "cwd": "here"}},
    "a folder that no system has": {"command": {"argv": ["a"], "cwd": "/\0"}},
}


@pytest.mark.parametrize("job", WRONG.values(), ids=WRONG)
async def test_what_is_wrong_is_named_and_nothing_is_stored(edge: Edge, job: dict[str, Any]) -> None:
    shop = await producer(edge)
    reply = await shop.submit(**job)
    assert (reply.status, reply.code) == (400, "invalid_request"), reply.body
    assert reply.json["detail"]
    assert (await shop.list()).json["jobs"] == []


async def test_sizes(edge: Edge) -> None:
    """256 KiB of payload fit; a byte more, and a body that is too long, are refused."""
    shop = await producer(edge)
    most = 256 * 1024
    assert (await shop.submit(payload={"text": "x" * most})).status == 201
    assert (await shop.submit(payload={"text": "x" * (most + 1)})).code == "invalid_request"
    assert (await shop.submit(payload={"text": "x" * (1 << 20)})).code == "payload_too_large"
    many = [{"payload": {"text": "x" * 200_000}} for _ in range(30)]
    assert (await shop.batch(*many)).status == 200
    assert (await shop.batch(*many, *many)).code == "payload_too_large"


async def test_a_job_is_stored_before_the_answer(edge: Edge) -> None:
    """A reader that has nothing but NATS finds it at once."""
    shop = await producer(edge)
    job = await shop.submitted(payload={"data": "AAECAw=="})
    record = await RecordStore(edge.broker).get(job)
    assert record is not None
    assert record.job is not None
    assert record.job.work.model_dump(exclude_none=True) == {
        "payload": {"content_type": "application/octet-stream", "data": "AAECAw=="}
    }
