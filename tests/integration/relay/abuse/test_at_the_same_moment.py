"""Operators who act at the same moment, while NATS is away, and on workers that come and go."""

import asyncio
import uuid
from collections import Counter
from typing import Any

import pytest

from edge_broker.bucket import Bucket
from edge_relay.actions.bulk import AT_ONCE
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.admin.desired import DesiredWorker
from edge_schemas.wire import routes
from support.nats.server import eventually
from support.network.link import Cut
from support.relay.agents import agent
from support.relay.edge import Edge, Reply, running_edge
from support.relay.fleet import audit

ACT_WITHIN_S = 20.0


async def act(edge: Edge, workers: list[str], do: str, *, replica: int = 0, reason: str = "r", **more: Any) -> Reply:
    body = {"action": {"do": do, **more}, "workers": workers, "reason": reason}
    reply = await edge.admin("POST", routes.ADMIN_WORKER_ACTIONS, body, replica=replica)
    assert reply.status == 200, reply.body
    return reply


async def recorded(edge: Edge, action: str, number: int) -> list[AuditEvent]:
    """The events of this action, once there are so many."""

    async def found() -> list[AuditEvent]:
        return [event for event in await audit(edge, "worker") if event.action == action]

    async def are_there() -> bool:
        return len(await found()) >= number

    await eventually(are_there, what=f"{number} events {action}")
    return await found()


async def test_two_operators_change_one_worker_at_once_and_nothing_is_lost(edge: Edge) -> None:
    worker = (await edge.worker()).name
    calls = [
        act(edge, [worker], "set-labels", replica=number % 2, set={f"label-{number}": str(number)})
        for number in range(16)
    ]
    replies = await asyncio.gather(*calls)
    assert all(reply.json["changed"] == [worker] for reply in replies)
    labels = {f"label-{number}": str(number) for number in range(16)}
    await eventually(
        lambda: all(relay.parts.desired.worker(worker).labels == labels for relay in edge.relays), what="all labels"
    )
    events = await recorded(edge, "worker-labels-set", 16)
    chain = sorted(len((event.before or {})["labels"]) for event in events)
    assert chain == list(range(16)), "each change is recorded with what it really changed"


async def test_a_pause_and_a_resume_at_once_end_in_one_of_both_everywhere(edge: Edge) -> None:
    worker = (await edge.worker()).name
    for _ in range(5):
        await asyncio.gather(act(edge, [worker], "pause"), act(edge, [worker], "resume", replica=1))
        stored = await Bucket(edge.broker, "edge_desired").get(f"worker.{worker}")

        def agree() -> bool:
            orders = [relay.parts.desired.worker(worker) for relay in edge.relays]
            return orders[0] == orders[1]

        await eventually(agree, what="both replicas know the same")
        order = edge.relays[0].parts.desired.worker(worker).order
        assert (order is not None) == (DesiredWorker.model_validate_json(stored.value or b"{}").order is not None)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("cut", [Cut.REFUSE, Cut.BLACK_HOLE])
async def test_without_nats_an_action_says_so_in_time_and_its_repeat_is_safe(
    edge: Edge, tmp_path_factory: pytest.TempPathFactory, cut: Cut
) -> None:
    async with running_edge(tmp_path_factory.mktemp("linked"), linked=True) as linked:
        workers = [(await linked.worker()).name for _ in range(2)]
        many = [f"nobody-{number}" for number in range(5 * AT_ONCE)]
        jobs = [str(uuid.uuid4()) for _ in range(5 * AT_ONCE)]
        order = {"action": {"do": "cancel"}, "jobs": jobs, "reason": "first"}
        await linked.nats_link.cut(cut)
        pause = {"action": {"do": "pause"}, "workers": [*workers, *many], "reason": "first"}
        async with asyncio.timeout(ACT_WITHIN_S):
            paused, cancelled = await asyncio.gather(
                linked.admin("POST", routes.ADMIN_WORKER_ACTIONS, pause),
                linked.admin("POST", routes.ADMIN_JOB_ACTIONS, order),
            )
        assert (paused.status, paused.code) == (503, "broker_unavailable")
        assert Counter(one["code"] for one in cancelled.json["failures"]) == {"broker_unavailable": len(jobs)}
        assert any("repeat the call" in one["detail"] for one in cancelled.json["failures"])
        await linked.nats_link.restore()

        async def is_done() -> bool:
            again = await linked.admin("POST", routes.ADMIN_WORKER_ACTIONS, {**pause, "workers": workers})
            return again.status == 200 and not again.json["failures"]

        await eventually(is_done, timeout_s=30, what="the repeat succeeds")
        assert all(linked.relays[0].parts.desired.worker(worker).order for worker in workers)


async def test_a_failure_of_one_target_does_not_keep_others_waiting(edge: Edge) -> None:
    workers = [(await edge.worker()).name for _ in range(3)]
    nobody = [f"nobody-{number}" for number in range(3 * AT_ONCE)]
    reply = await act(edge, [*nobody, *workers, *workers], "pause")
    assert (reply.json["changed"], reply.json["failure_count"]) == (sorted(workers), len(nobody))


async def test_the_pause_of_a_site_holds_for_a_worker_that_enrols_again(edge: Edge) -> None:
    """The pause of a worker ends with its removal; that of its site does not."""
    worker = await edge.worker()
    await act(edge, [worker.name], "pause")
    body = {"action": {"do": "pause"}, "sites": ["plant"], "reason": "r"}
    assert (await edge.admin("POST", routes.ADMIN_SITE_ACTIONS, body)).json["changed"] == ["plant"]
    await act(edge, [worker.name], "revoke")
    await act(edge, [worker.name], "remove")
    again = await agent(edge)
    reply = await again.poll(poll_timeout_s=0)
    assert reply.json["settings"]["availability"] == "paused"
    stale = await edge.call("GET", routes.WORKER, worker.secret)
    assert stale.code == "credential_revoked"


async def test_a_rotation_and_a_revocation_at_once_leave_no_valid_secret(edge: Edge) -> None:
    for _ in range(3):
        worker = await edge.worker()
        await asyncio.gather(act(edge, [worker.name], "rotate"), act(edge, [worker.name], "revoke", replica=1))
        for replica in (0, 1):

            async def is_refused(replica: int = replica, secret: str = worker.secret) -> bool:
                return (await edge.call("GET", routes.WORKER, secret, replica=replica)).code == "credential_revoked"

            await eventually(is_refused, timeout_s=2, what="the secret is refused")
