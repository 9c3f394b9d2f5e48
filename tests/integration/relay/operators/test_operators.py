"""What operators see and decide, by HTTP and by the command line."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from nats.aio.msg import Msg

from edge_relay.cli import main
from edge_relay.cli.output import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from edge_schemas.life.events import AnswerWrite, BeginFinishing, ReportUserCode
from edge_schemas.life.model import JobState, WriteAnswer
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import BundleRef
from edge_schemas.wire.offline import OfflinePolicy, OnSilence
from support.nats.server import eventually
from support.relay.agents import agent, parked, publish
from support.relay.edge import Edge
from support.relay.jobs import make_auxiliary_job, make_job


async def edge_relay(edge: Edge, tmp_path: Path, *words: str) -> int:
    """A command for operators, in a thread as it is synchronous."""
    token = tmp_path / "access.token"
    token.write_text(edge.access_token)
    where = ("--url", edge.relays[0].operators_url, "--access-token-file", str(token))
    return await asyncio.to_thread(main, [*words, *where])


async def test_a_job_is_shown_without_what_is_in_it(
    edge: Edge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = await agent(edge)
    contract = OfflinePolicy(tolerance_s=7200, on_silence=OnSilence.CONTINUE)
    bundle = BundleRef(name="dags", digest="4f0c2a91b7d3" + "0" * 52)
    job = await publish(edge.broker, make_job().model_copy(update={"offline": contract, "bundle": bundle}))
    [grant] = await one.grants()
    assert (await one.start(grant)).status == 204
    await edge.records.change(job.id, ReportUserCode(one.name, "press-4", 17, datetime.now(UTC)))
    answer = WriteAnswer(request_id="request-1", status=200, body="what a task was answered")
    await edge.records.change(job.id, AnswerWrite(one.name, answer))
    shown = await edge.admin("GET", routes.ADMIN_JOB.format(job=job.id))
    record = shown.json["record"]
    assert record["holder"]["worker"] == one.name
    assert record["offline"] == {"tolerance_s": 7200, "on_silence": "continue"}
    assert shown.json["bundle"] == bundle.model_dump(exclude_none=True)
    assert "workload" not in shown.body.decode()
    assert "what a task was answered" not in shown.body.decode()
    capsys.readouterr()
    assert await edge_relay(edge, tmp_path, "jobs", "show", job.id) == EXIT_OK
    said = capsys.readouterr().out
    for fact in (
        "d.t, run r, try 1",
        "running",
        "given up after 2 h without contact",
        "press-4, pid 17",
        one.name,
        "version 4f0c2a91b7d3 of bundle dags",
    ):
        assert fact in said, said
    assert await edge_relay(edge, tmp_path, "jobs", "show", job.id, "--json") == EXIT_OK
    said = capsys.readouterr().out
    printed = json.loads(said[said.index("{\n") :])
    assert {**printed, "as_of": ""} == {**shown.json, "as_of": ""}, "what the relay logs stands before it"


async def test_jobs_that_do_not_exist(edge: Edge, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = "00000000-0000-4000-8000-000000000000"
    assert await edge_relay(edge, tmp_path, "jobs", "show", nobody) == EXIT_FAILED
    assert "there is no such job" in capsys.readouterr().err
    assert await edge_relay(edge, tmp_path, "jobs", "cancel", nobody, "--reason", "x") == EXIT_FAILED
    assert await edge_relay(edge, tmp_path, "jobs", "cancel", nobody, "--reason", "") == EXIT_USAGE
    assert (await edge.call("GET", routes.ADMIN_JOB.format(job=nobody), operators=True)).code == "unauthenticated"
    assert (await edge.call("GET", routes.ADMIN_JOB.format(job=nobody), edge.access_token)).code == "not_found"


async def test_an_operator_cancels_a_job_and_its_worker_is_told_why(
    edge: Edge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever replica is asked and wherever the poll is parked; a repeat is no second cancellation."""
    audit: list[dict[str, Any]] = []

    async def take(message: Msg) -> None:
        audit.append(orjson.loads(message.data))

    await edge.broker.subscribe("edge.audit.job.*.job-cancelled", take)
    one = await agent(edge, replica=1)
    job, waiting = await publish(edge.broker), await publish(edge.broker, make_auxiliary_job("elsewhere"))
    [grant] = await one.grants()
    assert (await one.start(grant)).status == 204
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll(jobs=[{"id": job.id, "phase": "running"}]))
        await parked(edge, 1, replica=1)
        for _ in range(2):
            assert await edge_relay(edge, tmp_path, "jobs", "cancel", job.id, "--reason", "wrong data") == EXIT_OK
        reply = await poll
    why = "cancelled by operator tests: wrong data"
    assert reply.json["stop"] == [{"job": job.id, "reason": why, "drop": False}]
    assert f"worker {one.name} is notified" in capsys.readouterr().out
    assert await edge_relay(edge, tmp_path, "jobs", "cancel", waiting.id, "--reason", "not needed") == EXIT_OK
    assert "has ended: cancelled, cancelled by operator tests: not needed" in capsys.readouterr().out
    assert await edge_relay(edge, tmp_path, "jobs", "show", waiting.id) == EXIT_OK
    assert f"callback {waiting.id}" in capsys.readouterr().out
    await eventually(lambda: len(audit) >= 2, what="the audit")
    assert [(one["target"], one["reason"]) for one in audit] == [(job.id, "wrong data"), (waiting.id, "not needed")]


async def test_a_job_whose_final_state_is_on_its_way_continues(
    edge: Edge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    assert (await one.start(grant)).status == 204
    await edge.records.change(job.id, BeginFinishing(one.name))
    assert await edge_relay(edge, tmp_path, "jobs", "cancel", job.id, "--reason", "late") == EXIT_OK
    assert "its final state is on its way to Airflow" in capsys.readouterr().out
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.state is JobState.RUNNING


async def test_both_machines_of_a_conflicting_worker_are_listed_and_one_is_kept(
    edge: Edge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = await agent(edge)
    job = {"id": make_job().id, "phase": "granted", "offline": {"tolerance_s": 600, "on_silence": "stop"}}
    assert (await one.poll(poll_timeout_s=0)).status == 204
    copy = one.again(instance="copy", incarnation=one.incarnation)
    assert (await copy.poll(poll_timeout_s=0, jobs=[job])).status == 200, "two machines cannot have made the same start"
    assert await edge_relay(edge, tmp_path, "workers", "list") == EXIT_OK
    listed = capsys.readouterr().out
    for fact in ("conflict", "10 min", "host-of-machine (127.0.0.1)", "host-of-copy (127.0.0.1)"):
        assert fact in listed
    assert f"workers resolve {one.name} --keep older" in listed
    assert (
        await edge_relay(edge, tmp_path, "workers", "resolve", one.name, "--keep", "older", "--reason", "a clone")
        == EXIT_OK
    )
    entry = await edge.relays[1].parts.workers.get(one.name)
    assert entry is not None
    assert (entry.conflict, entry.agent.host) == (None, "host-of-machine")
    assert (
        await edge_relay(edge, tmp_path, "workers", "resolve", "nobody", "--keep", "older", "--reason", "x")
        == EXIT_FAILED
    )
    assert "'edge-relay workers list' shows all names" in capsys.readouterr().err
