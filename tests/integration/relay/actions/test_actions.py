"""Operators act on workers, sites and queues: who may, what is recorded, and a thousand at once. With a real NATS."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from edge_broker.bucket import Bucket
from edge_broker.subjects import ACCESS_BUCKET, AUDIT
from edge_relay.identity.access_keys import WORKER_PREFIX
from edge_schemas.admin.access import OPERATOR_ROLES, AccessScope, AccessTokenEntry, Role
from edge_schemas.wire import routes
from edge_schemas.wire.workers import SecretKind, WorkerAccess, WorkerSettings, hash_secret, new_secret
from support.nats.server import eventually
from support.relay.agents import agent
from support.relay.edge import Edge, Reply

PATHS = {
    "workers": routes.ADMIN_WORKER_ACTIONS,
    "sites": routes.ADMIN_SITE_ACTIONS,
    "queues": routes.ADMIN_QUEUE_ACTIONS,
}
QUEUE = [{"queue": "default"}]


async def operator(edge: Edge, role: Role, scope: AccessScope | None = None) -> str:
    """The token of an operator."""
    secret = new_secret(SecretKind.ACCESS)
    entry = AccessTokenEntry(name="ann", role=role, scope=scope or AccessScope(), created_at=datetime.now(UTC))
    value = entry.model_dump_json(exclude_none=True).encode()
    await Bucket(edge.broker, ACCESS_BUCKET).put(f"access.{hash_secret(secret)}", value)
    return secret


async def act(edge: Edge, token: str, kind: str, do: str, target: object, **more: Any) -> Reply:
    """An action by the owner of a token."""
    dry_run, where = more.pop("dry_run", False), more.pop("where", None)
    body = {"action": {"do": do, **more}, "reason": "the press is moved", "dry_run": dry_run}
    body |= {"where": where} if where is not None else {kind: target}
    return await edge.call("POST", PATHS[kind], token, json=body, operators=True)


def failures(reply: Reply) -> dict[str, str]:
    """The codes of the targets that failed."""
    assert reply.status == 200, reply.body
    return {one["target"]: one["code"] for one in reply.json["failures"]}


async def audit(edge: Edge, target: str) -> list[dict[str, Any]]:
    """The events about a target, oldest first."""
    last = (await edge.broker.api(f"STREAM.INFO.{AUDIT}"))["state"]["last_seq"]
    order = [orjson.dumps({"seq": number}) for number in range(1, last + 1)]
    found = [await edge.broker.request(f"$JS.API.DIRECT.GET.{AUDIT}", one) for one in order]
    return [event for event in (orjson.loads(one.data) for one in found) if event["target"] == target]


@pytest.mark.parametrize(
    ("kind", "do", "needed", "more"),
    [
        ("workers", "pause", Role.OPERATOR, {}),
        ("workers", "resume", Role.OPERATOR, {}),
        ("workers", "drain", Role.OPERATOR, {}),
        ("workers", "stop", Role.OPERATOR, {}),
        ("workers", "set-queues", Role.OPERATOR, {"queues": ["q"]}),
        ("workers", "set-slots", Role.OPERATOR, {"slots": 3}),
        ("workers", "set-labels", Role.OPERATOR, {"set": {"line": "3"}}),
        ("workers", "resolve", Role.OPERATOR, {"keep": "older"}),
        ("workers", "revoke", Role.ADMIN, {}),
        ("sites", "pause", Role.OPERATOR, {}),
        ("sites", "resume", Role.OPERATOR, {}),
        ("sites", "drain", Role.OPERATOR, {}),
        ("sites", "stop", Role.OPERATOR, {}),
        ("queues", "pause", Role.OPERATOR, {}),
        ("queues", "resume", Role.OPERATOR, {}),
        ("queues", "set", Role.ADMIN, {"max_running": 3}),
    ],
)
async def test_each_action_needs_its_role(edge: Edge, kind: str, do: str, needed: Role, more: dict[str, Any]) -> None:
    one = await edge.worker()
    target = {"workers": [one.name], "sites": ["plant"], "queues": QUEUE}[kind]
    for role in OPERATOR_ROLES:
        reply = await act(edge, await operator(edge, role), kind, do, target, **more)
        if role.includes(needed):
            assert failures(reply) == {}
        else:
            assert (reply.status, reply.code) == (403, "forbidden")


async def test_each_change_is_recorded_with_who_why_before_and_after(edge: Edge) -> None:
    one = await edge.worker()
    token = await operator(edge, Role.ADMIN)
    for _ in range(2):
        await act(edge, token, "workers", "set-slots", [one.name], slots=3)
    await act(edge, token, "workers", "pause", [one.name])
    await act(edge, token, "workers", "set-slots", [one.name], slots=9, dry_run=True)
    await act(edge, token, "workers", "revoke", [one.name])
    await eventually(lambda: _has(edge, one.name, 4), what="four events: enrolled, slots, pause, revoked")
    _, slots, paused, revoked = await audit(edge, one.name)
    assert (slots["action"], slots["before"], slots["after"]) == ("worker-slots-set", {"slots": None}, {"slots": 3})
    assert slots["actor"] == {"kind": "operator", "name": "ann", "by": "token", "address": "127.0.0.1"}
    assert (slots["reason"], slots["site"]) == ("the press is moved", "plant")
    assert (paused["action"], paused["before"]) == ("worker-paused", {"order": None})
    assert paused["after"]["order"]["reason"] == "the press is moved"
    assert (revoked["action"], revoked["after"]) == ("worker-revoked", {"revoked": True})


async def _has(edge: Edge, target: str, events: int) -> bool:
    return len(await audit(edge, target)) == events


async def test_a_dry_run_changes_nothing_and_names_what_would_change(edge: Edge) -> None:
    one, other = await edge.worker(), await edge.worker()
    await edge.act_on_worker(other.name, "pause")
    reply = await act(edge, edge.access_token, "workers", "pause", None, where={"site": "plant"}, dry_run=True)
    assert reply.json["dry_run"] is True
    assert (reply.json["changed_count"], sorted(reply.json["changed"])) == (2, sorted([one.name, other.name])), (
        "the reason of the other one would be another"
    )
    assert (await edge.call("GET", routes.WORKER, one.secret)).status == 200
    assert edge.relays[0].parts.desired.worker(one.name).order is None


async def test_another_ones_site_and_queue_are_not_found(edge: Edge) -> None:
    here, there = await edge.worker(), await edge.worker(site="office")
    of_plant = await operator(edge, Role.ADMIN, AccessScope(sites=("plant",)))
    reply = await act(edge, of_plant, "workers", "pause", [here.name, there.name, "nobody"])
    assert reply.json["changed"] == [here.name]
    assert failures(reply) == {there.name: "not_found", "nobody": "not_found"}
    assert failures(await act(edge, of_plant, "sites", "pause", ["office", "nowhere"])) == {
        "office": "not_found",
        "nowhere": "not_found",
    }
    assert (await act(edge, of_plant, "workers", "resume", None, where={})).json["changed"] == [here.name]
    assert (await act(edge, of_plant, "queues", "pause", QUEUE)).code == "forbidden"

    of_default = await operator(edge, Role.ADMIN, AccessScope(queues=("default",)))
    assert (await act(edge, of_default, "workers", "set-queues", [here.name], add=["spare"])).code == "not_found"
    assert failures(await act(edge, of_default, "queues", "pause", [{"queue": "spare"}])) == {"spare": "not_found"}
    assert (await act(edge, of_default, "sites", "pause", ["plant"])).code == "forbidden"
    await edge.act_on_worker(here.name, "set-queues", add=["spare"])
    assert failures(await act(edge, of_default, "workers", "pause", [here.name])) == {here.name: "forbidden"}
    await edge.act_on_worker(here.name, "set-queues", queues=["spare"])
    assert failures(await act(edge, of_default, "workers", "pause", [here.name])) == {here.name: "not_found"}


async def test_what_is_wrong_for_all_targets_is_refused(edge: Edge) -> None:
    one = await edge.worker()
    token = edge.access_token
    for more in (
        {"do": "pause", "until": "2020-01-01T00:00:00Z"},
        {"do": "set-queues"},
        {"do": "set-queues", "as_enrolled": True, "add": ["x"]},
        {"do": "set-slots", "slots": -1},
        {"do": "set-labels", "set": {"NO": "x"}},
        {"do": "dance"},
    ):
        reply = await act(edge, token, "workers", target=[one.name], **more)
        assert (reply.status, reply.code) == (400, "invalid_request"), more
    both = {"action": {"do": "pause"}, "workers": [one.name], "where": {}, "reason": "x"}
    assert (await edge.admin("POST", routes.ADMIN_WORKER_ACTIONS, both)).code == "invalid_request"
    neither = {"action": {"do": "pause"}, "reason": "x"}
    assert (await edge.admin("POST", routes.ADMIN_WORKER_ACTIONS, neither)).code == "invalid_request"
    await edge.act_on_worker(one.name, "revoke")
    assert failures(await act(edge, token, "workers", "pause", [one.name])) == {one.name: "wrong_state"}
    assert (await act(edge, token, "workers", "pause", None, where={})).json["changed_count"] == 0


async def test_a_filter_by_state_and_label(edge: Edge) -> None:
    one, never = await agent(edge), await edge.worker()
    await one.poll(poll_timeout_s=0)
    await eventually(lambda: _selects(edge, {"state": "online"}, [one.name]), what="the poll is known")
    assert await _selects(edge, {"state": "never seen"}, [never.name])
    await edge.act_on_worker(never.name, "set-labels", set={"line": "3"})
    assert await _selects(edge, {"label": "line=3"}, [never.name])
    await edge.act_on_worker(one.name, "pause")
    assert await _selects(edge, {"state": "paused"}, [one.name])


async def _selects(edge: Edge, where: dict[str, str], workers: list[str]) -> bool:
    reply = await act(edge, edge.access_token, "workers", "set-slots", None, where=where, slots=77, dry_run=True)
    return list(reply.json["changed"]) == workers


async def test_a_thousand_workers_are_changed_by_one_call(edge: Edge) -> None:
    """With one that another replica has just enrolled, and one that can't be changed."""
    access = Bucket(edge.broker, ACCESS_BUCKET)
    names = [f"plant-{number:04}" for number in range(1000)]

    async def enrolled(name: str) -> None:
        secret_hash = hash_secret(name)
        entry = WorkerAccess(
            worker=name,
            secret_hash=secret_hash,
            site="plant",
            settings=WorkerSettings(version=1, queues=("default",)),
            enrolled_at=datetime.now(UTC),
            revoked_at=datetime.now(UTC) if name == names[7] else None,
        )
        await access.put(WORKER_PREFIX + secret_hash, entry.model_dump_json(exclude_none=True).encode())

    for start in range(0, 1000, 100):
        await asyncio.gather(*map(enrolled, names[start : start + 100]))
    await eventually(
        lambda: all(len(relay.parts.credentials.workers()) == 1000 for relay in edge.relays), what="all are known"
    )
    reply = await act(edge, edge.access_token, "workers", "pause", names)
    assert (reply.json["changed_count"], reply.json["unchanged_count"]) == (999, 0)
    assert failures(reply) == {names[7]: "wrong_state"}
    states = [relay.parts.desired for relay in edge.relays]
    await eventually(
        lambda: all(sum(state.worker(name).order is not None for name in names) == 999 for state in states),
        what="each replica knows all",
    )
    again = await act(edge, edge.access_token, "workers", "pause", None, where={"site": "plant"})
    assert (again.json["changed_count"], again.json["unchanged_count"]) == (0, 999)
