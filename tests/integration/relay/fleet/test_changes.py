"""The change stream and the overview."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from edge_relay.fleet import changes
from edge_relay.fleet.lists import cached
from edge_schemas.admin.access import AccessScope
from edge_schemas.wire import routes
from support.nats.server import eventually
from support.relay.agents import agent, arrived, publish
from support.relay.edge import Edge, running_edge
from support.relay.fleet import listed, revoke_access, token
from support.relay.jobs import make_job


class Stream:
    """An open change stream."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def event(self) -> set[str]:
        """The views of the next event that names any; empty at the end of the stream."""
        while line := await self.answer.content.readline():
            if line.startswith(b"data: ") and (views := orjson.loads(line.removeprefix(b"data: ")).get("views")):
                return set(views)
        return set()

    async def until(self, *views: str) -> None:
        """Read events until they have named all of these views."""
        missing = set(views)
        async with asyncio.timeout(10):
            while missing:
                missing -= await self.event()


@asynccontextmanager
async def following(edge: Edge, *, replica: int = 0, secret: str | None = None) -> AsyncIterator[Stream]:
    url = edge.relays[replica].operators_url + routes.ADMIN_CHANGES
    headers = {"Authorization": f"Bearer {secret or edge.access_token}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        yield Stream(answer)


ALL = {"workers", "sites", "queues", "jobs", "tokens", "audit"}


async def test_each_change_names_the_lists_that_it_concerns(edge: Edge) -> None:
    worker = await agent(edge)
    async with following(edge, replica=1) as stream:
        assert await stream.event() == ALL, "a new client reads everything once"
        await publish(edge.broker)
        await stream.until("jobs", "queues")
        [grant] = await worker.grants()
        await stream.until("workers", "sites")
        order = {"action": {"do": "cancel"}, "jobs": [grant["job"]["id"]], "reason": "r"}
        assert (await edge.admin("POST", routes.ADMIN_JOB_ACTIONS, order)).status == 200
        await stream.until("jobs", "audit")
        await edge.worker()
        await stream.until("tokens", "workers")


async def test_nothing_is_computed_without_a_client_and_one_is_told_that_the_stream_ends(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        parts = edge.relays[0].parts.changes
        async with following(edge) as stream:
            await stream.event()
            await eventually(lambda: len(parts._clients) == 1, what="the client is known")
        await eventually(lambda: not parts._clients, what="the client is forgotten")
        await eventually(lambda: not parts._has_clients.is_set(), what="the computation rests")
        await publish(edge.broker)
        await listed(edge, routes.ADMIN_JOBS)
        assert not parts._changed
        async with following(edge) as stream:
            await stream.event()
            edge.relays[0].parts.lifecycle.stop()
            async with asyncio.timeout(5):
                while await stream.event():
                    pass


async def test_clients_are_bounded_and_a_stream_ends_with_its_token(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_CLIENTS", 1)
    secret = await token(edge, AccessScope())
    async with following(edge, secret=secret) as stream:
        await stream.event()
        refused = await edge.admin("GET", routes.ADMIN_CHANGES)
        assert (refused.status, refused.code) == (429, "rate_limited")
        await revoke_access(edge, secret)
        await publish(edge.broker)
        async with asyncio.timeout(10):
            while await stream.event():
                pass


async def test_one_operator_can_not_take_the_streams_of_all(tmp_path: Path) -> None:
    async with running_edge(tmp_path, streams_per_operator=1) as edge:
        secret = await token(edge, AccessScope())
        async with following(edge, secret=secret) as first:
            await first.event()
            refused = await edge.call("GET", routes.ADMIN_CHANGES, secret, operators=True)
            assert (refused.status, refused.code) == (429, "rate_limited")
            assert "Retry-After" in refused.headers
            async with following(edge) as another:
                assert await another.event(), "another operator is served"
            counted = (await edge.call("GET", "/metrics", operators=True)).body.decode()
            assert 'edge_relay_limited_total{limit="change_streams_of_operator"} 1.0' in counted
        async with following(edge, secret=secret) as again:
            assert await again.event()


async def overview(edge: Edge, replica: int = 0) -> dict[str, Any]:
    reply = await edge.admin("GET", routes.ADMIN_OVERVIEW, replica=replica)
    assert reply.status == 200, reply.body
    return dict(reply.json)


async def test_an_empty_installation_leads_to_its_next_step(edge: Edge) -> None:
    async def steps() -> list[str]:
        return [step["code"] for step in (await overview(edge))["next_steps"]]

    assert await steps() == ["create-token", "enroll-worker", "install-runtime", "run-worker"]
    worker = await agent(edge)
    await eventually(lambda: _is(steps, ["install-runtime", "run-worker"]), what="the worker has enrolled")
    versions = {"agent": "0", "python": "3.11", "platform": "test", "airflow": "3.1.0"}
    assert (await worker.poll(poll_timeout_s=0, versions=versions)).status == 204
    await eventually(lambda: _is(steps, ["send-job"]), what="the worker has polled")
    await publish(edge.broker)
    await eventually(lambda: _is(steps, []), what="a job has come")


async def _is(actual: Any, wanted: object) -> bool:
    return bool(await actual() == wanted)


async def test_what_needs_an_operator_comes_first(edge: Edge) -> None:
    sick, fine = await agent(edge), await agent(edge)
    await publish(edge.broker, make_job("nobody's"))
    await sick.poll(poll_timeout_s=0, free=0, no_jobs_reason="the disk is full")
    await fine.poll(poll_timeout_s=0)
    copy = fine.again(instance="copy", incarnation=fine.incarnation)
    await copy.poll(poll_timeout_s=0)
    await arrived(edge, sick)

    async def codes() -> list[str]:
        return [one["code"] for one in (await overview(edge, 1))["attention"]]

    wanted = ["conflict", "queue-without-worker", "worker-unhealthy"]
    await eventually(lambda: _is(codes, wanted), what="all that needs an operator")
    found = await overview(edge, 1)
    assert found["workers"] == {"conflict": 1, "unhealthy": 1}
    assert (found["waiting"], found["running"], found["dead"]) == (1, 0, 0)
    texts = [one["text"] for one in found["attention"]]
    assert texts[1] == "1 job of queue nobody's waiting, and no worker serves the queue"
    assert texts[2] == f"{sick.name} accepts no jobs: the disk is full"


async def test_a_worker_in_full(edge: Edge) -> None:
    worker = await agent(edge)
    path = routes.ADMIN_WORKER.format(worker=worker.name)

    async def detail() -> dict[str, Any]:
        reply = await edge.admin("GET", path, replica=1)
        assert reply.status == 200, reply.body
        return dict(reply.json)

    async def is_known() -> bool:
        return (await edge.admin("GET", path, replica=1)).status == 200

    await eventually(is_known, what="the worker is known")
    assert (await detail())["missing"][0].startswith("it has never polled")
    job = await publish(edge.broker)
    [grant] = await worker.grants()
    assert (await worker.start(grant)).status == 204
    await worker.poll(poll_timeout_s=0, free=0, jobs=[{"id": job.id, "phase": "running"}])

    async def has_job() -> bool:
        return bool((await detail()).get("jobs"))

    await eventually(has_job, what="its job is shown")
    found = await detail()
    [shown] = found["jobs"]
    assert (shown["job"], shown["task"], shown["phase"]) == (job.id, "d.t", "running")
    assert "started_at" in shown
    assert found["missing"] == []
    revoke = {"action": {"do": "revoke"}, "workers": [worker.name], "reason": "gone"}
    assert (await edge.admin("POST", routes.ADMIN_WORKER_ACTIONS, revoke)).json["changed"] == [worker.name]

    async def actions() -> list[str]:
        return [event["action"] for event in (await detail())["history"]]

    await eventually(lambda: _is(actions, ["worker-revoked", "worker-enrolled"]), what="its history is shown")
    assert (await edge.admin("GET", routes.ADMIN_WORKER.format(worker="nobody"))).code == "not_found"
    assert (await edge.admin("GET", routes.ADMIN_WORKER.format(worker="A.*"))).code == "invalid_request"


async def test_a_list_that_was_computed_before_a_change_is_named_again(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who follows each event must not be left with what was kept in memory from before the last change."""
    monkeypatch.setattr(cached, "FRESH_FOR_S", 4.0)
    worker = await agent(edge)
    await worker.poll(poll_timeout_s=0)
    path = routes.ADMIN_WORKER.format(worker=worker.name)

    async def state() -> str:
        return str((await edge.admin("GET", path)).json["row"]["state"])

    async with following(edge) as stream:
        assert await stream.event() == ALL
        await eventually(lambda: _is(state, "online"), what="the list has the worker")
        await worker.poll(poll_timeout_s=0, free=0, no_jobs_reason="the disk is full")
        while await state() != "unhealthy":
            await stream.until("workers")
