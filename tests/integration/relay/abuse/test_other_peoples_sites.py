"""What an operator who is limited to some sites or queues learns of others, and can do to them: nothing."""

from collections.abc import Mapping
from typing import Any

from edge_schemas.admin.access import AccessScope, Role
from edge_schemas.wire import routes
from support.nats.server import eventually
from support.relay.agents import Agent, agent, arrived, publish
from support.relay.edge import Edge, Reply
from support.relay.fleet import token
from support.relay.jobs import make_job

OF_PLANT = AccessScope(sites=("plant",))


async def started(edge: Edge, one: Agent, queue: str = "default") -> str:
    """A job of this queue that runs on a worker; its next poll reports it."""
    job = await publish(edge.broker, make_job(queue))
    [grant] = await one.grants()
    assert grant["job"]["id"] == job.id
    assert (await one.start(grant)).status == 204
    return job.id


async def get(edge: Edge, path: str, secret: str) -> Reply:
    return await edge.call("GET", path, secret, operators=True)


async def act(edge: Edge, secret: str, route: str, do: Mapping[str, Any], **targets: Any) -> Reply:
    body = {"action": do, "reason": "a test", **targets}
    return await edge.call("POST", route, secret, json=body, operators=True)


async def test_why_says_nothing_about_a_job_of_another_site(edge: Edge) -> None:
    there = await agent(edge, site="office")
    await edge.worker(site="plant")
    job = await started(edge, there)
    limited = await token(edge, OF_PLANT)
    task = (await edge.admin("GET", routes.ADMIN_JOB.format(job=job))).json["row"]
    by_name = f"{routes.ADMIN_WHY}?dag={task['dag_id']}&run={task['run_id']}&task={task['task_id']}"
    paths = (routes.ADMIN_JOB.format(job=job), routes.ADMIN_JOB_WHY.format(job=job))
    for path in (*paths, by_name):
        await _is_not_found(edge, path, limited, there)
    assert (await there.finish(job, exit_code=0)).status == 204
    for path in paths:
        await _is_not_found(edge, path, limited, there)


async def _is_not_found(edge: Edge, path: str, secret: str, worker: Agent) -> None:
    reply = await get(edge, path, secret)
    assert reply.code == "not_found", reply.body
    assert worker.name not in reply.body.decode()


async def test_a_worker_in_full_shows_no_jobs_of_other_queues(edge: Edge) -> None:
    one = await agent(edge, queue="mine")
    await edge.act_on_worker(one.name, "set-queues", add=["secret"])
    job = await started(edge, one, "secret")
    await one.poll(poll_timeout_s=0, jobs=[{"id": job, "phase": "running", "offline": {}}])
    await arrived(edge, one)
    path = routes.ADMIN_WORKER.format(worker=one.name)
    limited = await token(edge, AccessScope(queues=("mine",)))

    async def is_known() -> bool:
        return [row["job"] for row in (await edge.admin("GET", path)).json["jobs"]] == [job]

    await eventually(is_known, what="the worker's job")
    reply = await get(edge, path, limited)
    assert reply.status == 200
    assert reply.json["jobs"] == []
    assert job not in reply.body.decode()


async def test_queues_of_the_enrolment_are_given_back_by_those_who_may_see_them(edge: Edge) -> None:
    """A worker that another operator has taken from a queue does not return to it by an operator of the new one."""
    one = await edge.worker(queue="secret")
    await edge.act_on_worker(one.name, "set-queues", queues=["mine"])
    limited = await token(edge, AccessScope(queues=("mine",)), Role.OPERATOR)
    as_enrolled = {"do": "set-queues", "as_enrolled": True}
    for dry_run in (True, False):
        reply = await act(edge, limited, routes.ADMIN_WORKER_ACTIONS, as_enrolled, workers=[one.name], dry_run=dry_run)
        assert [failure["code"] for failure in reply.json["failures"]] == ["forbidden"], reply.body
    assert edge.relays[0].parts.desired.worker(one.name).queues == ("mine",)


async def test_an_operator_of_a_site_gives_no_queue_that_is_new_to_the_site(edge: Edge) -> None:
    """Who serves a queue sees what waits there: an operator can't widen their own view."""
    one, other = await edge.worker(queue="mine"), await edge.worker(queue="mine-too")
    await edge.worker(queue="secret", site="office")
    of_site = await token(edge, OF_PLANT, Role.ADMIN)
    for add in ({"add": ["secret"]}, {"queues": ["mine", "secret"]}, {"add": ["not-there-yet"]}):
        for dry_run in (True, False):
            action = {"do": "set-queues", **add}
            reply = await act(edge, of_site, routes.ADMIN_WORKER_ACTIONS, action, workers=[one.name], dry_run=dry_run)
            assert [failure["code"] for failure in reply.json["failures"]] == ["forbidden"], reply.body
    wanted = {"site": "plant", "queues": ["secret"], "uses": 1, "ttl_s": 60}
    refused = await edge.call("POST", routes.ADMIN_ENROLL_TOKENS, of_site, json=wanted, operators=True)
    assert refused.code == "forbidden", "a new worker would serve the queue as well"
    assert edge.relays[0].parts.desired.worker(one.name).queues is None

    action = {"do": "set-queues", "add": ["mine-too"]}
    reply = await act(edge, of_site, routes.ADMIN_WORKER_ACTIONS, action, workers=[one.name, other.name])
    assert reply.json["changed"] == [one.name], "a queue of the site's own workers"
    both = await token(edge, AccessScope(sites=("plant",), queues=("mine", "mine-too", "secret")), Role.ADMIN)
    action = {"do": "set-queues", "add": ["secret"]}
    reply = await act(edge, both, routes.ADMIN_WORKER_ACTIONS, action, workers=[one.name])
    assert reply.json["changed"] == [one.name], "the token names the queue"
    allowed = await edge.call("POST", routes.ADMIN_ENROLL_TOKENS, both, json=wanted, operators=True)
    assert allowed.status == 201


async def test_figures_of_a_queue_are_those_of_the_own_sites(edge: Edge) -> None:
    here, there = await agent(edge, site="plant"), await agent(edge, site="office")
    limited = await token(edge, OF_PLANT)
    await started(edge, here)
    ended = await started(edge, there)
    await started(edge, there)
    assert (await there.finish(ended, exit_code=0)).status == 204

    async def figures(secret: str) -> dict[str, Any]:
        [row] = (await get(edge, routes.ADMIN_QUEUES, secret)).json["items"]
        return dict(row)

    async def is_known() -> bool:
        row = await figures(edge.access_token)
        return (row["running"], sum(row["out_per_minute"])) == (2, 1)

    await eventually(is_known, what="the jobs of both sites")
    own = await figures(limited)
    assert (own["running"], own["workers"], own["of_own_sites"]) == (1, 1, True)
    assert not own["out_per_minute"]
    whole = await figures(edge.access_token)
    assert (whole["workers"], whole["of_own_sites"]) == (2, False)
    assert (await get(edge, routes.ADMIN_OVERVIEW, limited)).json["running"] == 1


async def test_no_filter_selects_a_job_of_another_site(edge: Edge) -> None:
    here, there = await agent(edge, site="plant", queue="here"), await agent(edge, site="office")
    job = await started(edge, there)
    limited = await token(edge, OF_PLANT, Role.OPERATOR)

    async def selected(secret: str, where: dict[str, str]) -> int:
        reply = await act(edge, secret, routes.ADMIN_JOB_ACTIONS, {"do": "cancel"}, where=where, dry_run=True)
        return int(reply.json["changed_count"])

    for where in ({"worker": there.name}, {"queue": "default"}, {"dag_id": "d"}, {"run_id": "r", "queue": "default"}):

        async def is_selected(where: dict[str, str] = where) -> bool:
            return await selected(edge.access_token, where) == 1

        await eventually(is_selected, what="an unlimited operator selects it")
        assert await selected(limited, where) == 0, where
    named = await act(edge, limited, routes.ADMIN_JOB_ACTIONS, {"do": "cancel"}, jobs=[job])
    nobody = await act(edge, limited, routes.ADMIN_JOB_ACTIONS, {"do": "cancel"}, jobs=[f"{job[:-4]}0000"])
    assert _without_target(named) == _without_target(nobody), "a job of another site is as one that does not exist"
    by_worker = await act(edge, limited, routes.ADMIN_WORKER_ACTIONS, {"do": "stop"}, where={"site": "office"})
    assert by_worker.json["changed_count"] + by_worker.json["failure_count"] == 0
    assert here.name in (await get(edge, routes.ADMIN_WORKERS, limited)).body.decode()


def _without_target(reply: Reply) -> list[dict[str, Any]]:
    return [{**failure, "target": ""} for failure in reply.json["failures"]]


async def test_what_is_seen_of_the_fleet_does_not_change_with_other_sites(edge: Edge) -> None:
    """Lists, overview and audit, with their totals and ETags."""
    await agent(edge, site="plant", queue="here")
    limited = await token(edge, OF_PLANT)
    paths = (
        routes.ADMIN_WORKERS,
        routes.ADMIN_SITES,
        routes.ADMIN_QUEUES,
        routes.ADMIN_JOBS,
        routes.ADMIN_OVERVIEW,
        routes.ADMIN_AUDIT,
    )

    async def seen() -> list[tuple[str, Any]]:
        replies = [await get(edge, path, limited) for path in paths]
        assert {reply.status for reply in replies} == {200}
        return [
            (reply.headers.get("ETag", ""), {**reply.json, "as_of": ""} | {"next": reply.json.get("next")})
            for reply in replies
        ]

    async def is_listed() -> bool:
        return len((await get(edge, routes.ADMIN_WORKERS, limited)).json["items"]) == 1

    await eventually(is_listed, what="the own worker")
    before = await seen()
    there = await agent(edge, site="office")
    await started(edge, there)
    await publish(edge.broker)
    await edge.act_on_worker(there.name, "pause")
    await edge.admin(
        "POST", routes.ADMIN_QUEUE_ACTIONS, {"action": {"do": "pause"}, "queues": [{"queue": "default"}], "reason": "r"}
    )

    async def others_are_listed() -> bool:
        return len((await edge.admin("GET", routes.ADMIN_WORKERS)).json["items"]) == 2

    await eventually(others_are_listed, what="the other worker")
    assert await seen() == before
