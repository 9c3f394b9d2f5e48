"""Jobs as operators see them, and what they do with them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from edge_broker.jetstream.stream_info import subjects_with_messages
from edge_broker.subjects import DEAD
from edge_schemas.admin.access import AccessScope, Role
from edge_schemas.life.events import Release, Withdraw
from edge_schemas.life.model import new_record
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job, TaskWork
from support.nats.server import eventually
from support.relay.agents import agent, publish
from support.relay.edge import Edge, Reply
from support.relay.fleet import audit, listed, token
from support.relay.jobs import make_job


async def parked(edge: Edge, job: Job | None = None) -> Job:
    """A job that was released too often, with its history."""
    worker = await agent(edge)
    job = await publish(edge.broker, job)
    [grant] = await worker.grants()
    for number in range(4):
        event = Release(worker.name, "no room", counted=True, at=datetime.now(UTC), grant=str(number))
        await edge.records.change(job.id, event)
    assert (await worker.release(grant, reason="no room")).status == 204
    return job


async def act(edge: Edge, do: str, *, replica: int = 0, **more: Any) -> Reply:
    return await edge.admin(
        "POST", routes.ADMIN_JOB_ACTIONS, {"action": {"do": do}, "reason": "wrong data", **more}, replica=replica
    )


async def shown(edge: Edge, count: int, **query: Any) -> list[dict[str, Any]]:
    """The list, as soon as it has so many rows."""

    async def rows() -> list[dict[str, Any]]:
        found = await listed(edge, routes.ADMIN_JOBS, replica=1, **query)
        return found if len(found) == count else []

    return list(await eventually(rows, what=f"{count} jobs")) if count else await rows()


def of_dag(dag_id: str, run_id: str = "r") -> Job:
    job = make_job()
    assert isinstance(job.work, TaskWork)
    task = job.work.task.model_copy(update={"dag_id": dag_id, "run_id": run_id, "map_index": 3})
    return job.model_copy(update={"work": job.work.model_copy(update={"task": task})})


async def test_jobs_are_filtered_and_sorted(edge: Edge) -> None:
    worker = await agent(edge)
    jobs = [await publish(edge.broker, of_dag(f"dag{number}")) for number in range(3)]
    [grant] = await worker.grants()
    assert (await worker.start(grant)).status == 204
    await shown(edge, 1, state="running")
    rows = await shown(edge, 3)
    assert [row["job"] for row in rows] == [job.id for job in jobs]
    assert rows[0]["task"] == "dag0.t[3]"
    assert (rows[0]["worker"], rows[0]["site"], rows[0]["state"]) == (worker.name, "plant", "running")
    assert "waits_since" not in rows[0]
    assert [row["job"] for row in await shown(edge, 3, sort="-created_at")] == [job.id for job in jobs[::-1]]
    assert [row["task"] for row in await shown(edge, 1, dag_id="dag2")] == ["dag2.t[3]"]
    assert [row["job"] for row in await shown(edge, 1, text="DAG1")] == [jobs[1].id]
    assert [row["job"] for row in await shown(edge, 1, worker=worker.name)] == [jobs[0].id]
    assert [row["job"] for row in await shown(edge, 1, site="plant")] == [jobs[0].id]
    assert await listed(edge, routes.ADMIN_JOBS, queue="gpu") == []


async def test_ended_jobs_are_listed_newest_first_from_memory_and_from_their_stream(edge: Edge) -> None:
    """Some were moved to their stream before the list was asked for, others are moved between two pages."""
    jobs = []
    for number in range(9):
        job = make_job("other" if number % 3 == 0 else "default")
        await edge.records.create(new_record(job))
        await edge.records.change(job.id, Withdraw("not needed", datetime.now(UTC)))
        jobs.append(job)
        if number < 5:
            await edge.records.move_ended(job.id)
    await shown(edge, 9, ended="true")
    relay = edge.relays[1].parts.mirror
    relay._ended.pop(jobs[0].id)  # it ended long ago: it is in the stream only
    relay._ended.pop(jobs[1].id)
    found, cursor = [], ""
    for number in range(20):
        reply = await edge.admin("GET", f"{routes.ADMIN_JOBS}?ended=true&limit=2{cursor}", replica=1)
        found += [row["job"] for row in reply.json["items"]]
        if number == 1:
            for job in jobs[5:]:
                await edge.records.move_ended(job.id)
            await edge.job()
        if "next" not in reply.json:
            break
        cursor = f"&cursor={reply.json['next']}"
    assert found == [job.id for job in jobs[::-1]]
    rows = await listed(edge, routes.ADMIN_JOBS, replica=1, ended="true", queue="other")
    assert [row["job"] for row in rows] == [jobs[number].id for number in (6, 3, 0)]
    assert (rows[0]["verdict"], rows[0]["reason"]) == ("cancelled", "not needed")
    bad = await edge.admin("GET", f"{routes.ADMIN_JOBS}?ended=true&sort=queue")
    assert (bad.code, "-ended_at" in bad.json["detail"]) == ("invalid_request", True)
    assert (await edge.admin("GET", f"{routes.ADMIN_JOBS}?ended=true&cursor=abc")).code == "invalid_request"


async def test_a_job_in_full_with_its_timeline(edge: Edge) -> None:
    job = await parked(edge)
    detail = (await edge.admin("GET", routes.ADMIN_JOB.format(job=job.id))).json
    assert "job" not in detail["record"]
    whats = [moment["what"] for moment in detail["timeline"]]
    assert whats[0] == "created"
    assert whats.count("released: no room") == 5
    assert any(what.startswith("parked: ") for what in whats)
    assert [moment["at"] for moment in detail["timeline"]] == sorted(moment["at"] for moment in detail["timeline"])
    assert detail["row"]["releases"] == 5


async def test_parked_jobs_are_redriven_or_purged_once(edge: Edge) -> None:
    one, other = await parked(edge), await parked(edge)
    rows = await shown(edge, 2, parked="true")
    assert {row["job"] for row in rows} == {one.id, other.id}
    assert rows[0]["parked"]
    [queue] = await listed(edge, routes.ADMIN_QUEUES, replica=1, queue="default")
    assert queue["dead"] == 2
    dry = await act(edge, "purge", where={"parked": True}, dry_run=True, replica=1)
    assert (dry.json["changed_count"], dry.json["dry_run"]) == (2, True)
    assert len(await shown(edge, 2, parked="true")) == 2
    assert (await act(edge, "redrive", jobs=[one.id])).json["changed"] == [one.id]
    assert (await act(edge, "redrive", jobs=[one.id])).json["unchanged_count"] == 1
    refused = (await act(edge, "purge", jobs=[one.id])).json["failures"]
    assert [(failure["target"], failure["code"]) for failure in refused] == [(one.id, "wrong_state")]
    assert (await act(edge, "purge", jobs=[other.id])).json["changed"] == [other.id]
    record = await edge.records.get(other.id)
    assert record is not None
    assert record.outcome is not None
    assert record.outcome.reason == "purged by operator tests: wrong data"
    assert [one.id in subject for subject in await subjects_with_messages(edge.broker, DEAD, "edge.dead.>")] == [True]
    done = [(event.action, event.target, event.reason) for event in await audit(edge, "job")]
    assert [event for event in done if event[0] != "job-parked"] == [
        ("job-redriven", one.id, "wrong data"),
        ("job-purged", other.id, "wrong data"),
    ]


async def test_many_jobs_are_cancelled_by_a_filter(edge: Edge) -> None:
    jobs = [await edge.job(job=of_dag("wrong")) for _ in range(40)]
    other = await edge.job(job=of_dag("right"))
    await shown(edge, 41)
    result = (await act(edge, "cancel", where={"dag_id": "wrong"}, replica=1)).json
    assert (result["changed_count"], result["failure_count"]) == (40, 0)
    assert sorted(result["changed"]) == sorted(job.id for job in jobs)
    assert [row["job"] for row in await shown(edge, 1)] == [other.id]
    [first, *_] = await audit(edge, "job")
    assert (first.before, first.after) == ({"state": "waiting"}, {"state": "ended"})


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"where": {}},
        {"jobs": ["00000000-0000-4000-8000-000000000000"], "where": {"queue": "q"}},
        {"jobs": ["x"]},
        {"jobs": []},
        {"where": {"queue": "q"}, "reason": ""},
        {"where": {"colour": "red"}},
    ],
)
async def test_an_order_that_is_none_changes_nothing(edge: Edge, order: dict[str, Any]) -> None:
    job = await edge.job()
    assert (await act(edge, "cancel", **order)).code == "invalid_request"
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.outcome is None


async def test_an_operator_acts_on_their_own_jobs_only(edge: Edge) -> None:
    mine, other = await edge.job(job=make_job("mine")), await edge.job(job=make_job("other"))
    await shown(edge, 2)
    limited = await token(edge, AccessScope(queues=("mine",)), Role.OPERATOR)
    viewer = await token(edge, AccessScope())

    async def cancel(secret: str) -> Reply:
        body = {"action": {"do": "cancel"}, "jobs": [mine.id, other.id], "reason": "r"}
        return await edge.call("POST", routes.ADMIN_JOB_ACTIONS, secret, json=body, operators=True, replica=1)

    assert (await cancel(viewer)).code == "forbidden"
    result = (await cancel(limited)).json
    assert result["changed"] == [mine.id]
    assert [(one["target"], one["code"]) for one in result["failures"]] == [(other.id, "not_found")]
