"""A record that a replica cannot read, such as one of a later version, harms its job only, and not for good."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_broker.jetstream.stream_info import stream_info
from edge_broker.subjects import JOBS, RECORDS_BUCKET, kv_subject
from edge_relay.limits import unstarted_grants
from support.nats.server import eventually
from support.relay.agents import Agent, agent, publish
from support.relay.edge import Edge, running_edge

GRANT_WAIT_S = 1
LATER_STATE = b'"a_state_of_a_later_version"'


@pytest.fixture
async def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    """Grants run out soon."""
    monkeypatch.setattr("edge_broker.layout.GRANT_WAIT_S", GRANT_WAIT_S)
    monkeypatch.setattr("edge_relay.dispatch.grants.GRANT_WAIT_S", GRANT_WAIT_S)
    monkeypatch.setattr(unstarted_grants, "GRANT_WAIT_S", GRANT_WAIT_S)
    async with running_edge(tmp_path) as running:
        yield running


async def _make_unreadable(edge: Edge, job: str) -> bytes:
    """Store a record with an unknown state; returns the good one."""
    record = await edge.records.get(job)
    assert record is not None
    good = record.model_dump_json().encode()
    await _store(edge, job, good.replace(f'"{record.state.value}"'.encode(), LATER_STATE))
    return good


async def _store(edge: Edge, job: str, value: bytes) -> None:
    await edge.broker.store(kv_subject(RECORDS_BUCKET, job), value)


async def test_the_polls_of_its_worker_continue(edge: Edge) -> None:
    """Its grant runs out, and is compared with a record that can't be read."""
    await publish(edge.broker)
    one = await agent(edge)
    [grant] = await one.grants()
    await _make_unreadable(edge, grant["job"]["id"])
    table = edge.relays[0].parts.limits.unstarted

    async def forgotten() -> bool:
        assert (await one.poll(free=0, poll_timeout_s=0)).status == 204
        return not table._workers

    await eventually(forgotten, what="the grant ran out")


async def test_a_poll_that_reports_it_waits_for_its_message(edge: Edge) -> None:
    """The message is delivered again to the worker that has the job; it must not come back at once."""
    await publish(edge.broker)
    one = await agent(edge)
    [grant] = await one.grants()
    job = grant["job"]["id"]
    await _make_unreadable(edge, job)
    returns = edge.relays[0].parts.exports.metrics.returns.labels("already_held")
    async with asyncio.timeout(20):
        while not returns._value.get():
            assert (await one.poll(jobs=[{"id": job, "phase": "running"}], poll_timeout_s=1)).status in {200, 204}


async def test_the_outcome_is_accepted_once_the_record_can_be_read(edge: Edge) -> None:
    await publish(edge.broker)
    one = await agent(edge)
    [grant] = await one.grants()
    job = grant["job"]["id"]
    assert (await one.start(grant)).status == 204
    good = await _make_unreadable(edge, job)
    refused = await one.finish(job, exit_code=0)
    assert (refused.code, refused.json["retryable"]) == ("internal", True)
    await _store(edge, job, good)
    assert (await one.finish(job, exit_code=0)).status == 204


async def test_a_start_keeps_the_message(edge: Edge) -> None:
    await publish(edge.broker)
    one = await agent(edge)
    [grant] = await one.grants()
    good = await _make_unreadable(edge, grant["job"]["id"])
    assert (await one.start(grant)).json["retryable"]
    assert (await stream_info(edge.broker, JOBS))["state"]["messages"] == 1
    await _store(edge, grant["job"]["id"], good)


class _Keyless(Agent):
    headers = {}  # noqa: RUF012  # a class attribute of the agent that it replaces


async def test_a_copy_cannot_hide_by_leaving_out_its_key(edge: Edge) -> None:
    await publish(edge.broker)
    one = await agent(edge)
    [grant] = await one.grants()
    assert (await one.start(grant)).status == 204
    job = grant["job"]["id"]
    jobs = [{"id": job, "phase": "running"}]
    assert (await one.poll(jobs=jobs, poll_timeout_s=0)).status == 204
    copy = _Keyless(edge, one.worker, incarnation=one.incarnation, instance=one.instance)
    copy.seq = 1000
    await copy.poll(jobs=jobs, poll_timeout_s=0)
    entry = await edge.relays[0].parts.workers.get(one.name)
    assert entry is not None
    assert entry.conflict is not None
    assert (await copy.start(grant)).code == "takeover_pending"
    assert (await copy.finish(job, exit_code=0)).code == "takeover_pending"
    assert (await one.finish(job, exit_code=0)).status == 204
