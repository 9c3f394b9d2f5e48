"""Every call of operators, with each role and from outside the caller's part of the fleet.

The least role is compared with the OpenAPI document, so no handler can forget its check and no document can be wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, get_args

import pytest
from aiohttp import web
from pydantic import BaseModel

from edge_relay.app import build
from edge_schemas.admin.access import OPERATOR_ROLES, TOKEN_ID_CHARS, Role
from edge_schemas.openapi.operation import Operation
from edge_schemas.openapi.operations import OPERATIONS
from edge_schemas.wire import routes
from edge_schemas.wire.workers import hash_secret
from edge_ui.paths import UI_PATHS
from support.nats.server import eventually
from support.relay.edge import Edge, Reply

LISTED: Final = {one.id: one for one in OPERATIONS if one.tag == "operators"}
GUARDED: Final = {name: one for name, one in LISTED.items() if one.role is not None}
OPEN = {"showSignInMethods", "signIn", "startOidc", "finishOidc"}
"""How callers become operators."""
ELSEWHERE = {"sites": ["elsewhere"], "queues": ["elsewhere"]}

Outside = Callable[[Reply], bool]
"""Whether an answer is right for a caller who may see nothing of what the call is about."""


def is_missing(reply: Reply) -> bool:
    return reply.code == "not_found"


def is_refused(reply: Reply) -> bool:
    return reply.code == "forbidden"


def is_empty(reply: Reply) -> bool:
    return reply.status == 200 and not reply.json.get("items")


def shows_nothing(reply: Reply) -> bool:
    return reply.status == 200 and not any(reply.json["workers"].values()) and reply.json["waiting"] == 0


def changes_nothing(reply: Reply) -> bool:
    codes = {one["code"] for one in reply.json["failures"]}
    return reply.status == 200 and not reply.json.get("changed_count") and codes == {"not_found"}


def is_about_the_caller(reply: Reply) -> bool:
    return reply.status in {200, 204}


@dataclass(frozen=True)
class Call:
    """A call that succeeds with enough rights."""

    outside: Outside
    json: dict[str, Any] | None = None
    query: str = ""


@dataclass(frozen=True)
class Things:
    """What calls are about."""

    worker: str
    job: str
    access_token: str
    enroll_token: str


def calls(about: Things) -> dict[str, Call]:
    """A call for each operation. Actions are dry runs."""
    act = {"action": {"do": "pause"}, "reason": "a test", "dry_run": True}
    cancel = {**act, "action": {"do": "cancel"}, "jobs": [about.job]}
    access = {"name": "new", "role": "viewer", "ttl_s": 60}
    enroll = {"queues": ["default"], "site": "plant", "uses": 1, "ttl_s": 60}
    return {
        "showSession": Call(is_about_the_caller),
        "signOut": Call(is_about_the_caller),
        "listAccessTokens": Call(is_refused),
        "createAccessToken": Call(is_refused, access),
        "revokeAccessToken": Call(is_refused),
        "listEnrollTokens": Call(is_empty),
        "createEnrollToken": Call(is_refused, enroll),
        "revokeEnrollToken": Call(is_missing),
        "listAudit": Call(is_empty),
        "showOverview": Call(shows_nothing),
        "followChanges": Call(is_about_the_caller),  # it says which lists to read again, and nothing of them
        "listWorkers": Call(is_empty),
        "showWorker": Call(is_missing),
        "listSites": Call(is_empty),
        "listQueues": Call(is_empty),
        "listJobs": Call(is_empty),
        "showJob": Call(is_missing),
        "actOnJobs": Call(changes_nothing, cancel),
        "actOnWorkers": Call(changes_nothing, {**act, "workers": [about.worker]}),
        "actOnSites": Call(is_refused, {**act, "sites": ["plant"]}),
        "actOnQueues": Call(is_refused, {**act, "queues": [{"queue": "default"}]}),
        "whyJob": Call(is_missing),
        "listPolicies": Call(is_empty),
        "listAccesses": Call(is_refused, query="?queue=default"),
        "whyTask": Call(is_missing, query="?dag=d&run=r&task=t"),
    }


@pytest.fixture
async def about(edge: Edge) -> Things:
    """A worker, a waiting job and tokens that have not been used, known to the replica that is asked."""
    worker, job = await edge.worker(), await edge.job()
    secret = await edge.access_token_for("spare", role=Role.VIEWER)
    access = hash_secret(secret)[:TOKEN_ID_CHARS]
    enroll = hash_secret(await edge.token())[:TOKEN_ID_CHARS]

    async def is_known() -> bool:
        jobs = await edge.admin("GET", routes.ADMIN_JOBS)
        workers = await edge.admin("GET", routes.ADMIN_WORKERS)
        tokens = await edge.admin("GET", routes.ADMIN_ACCESS_TOKENS)
        shown = (jobs.body + workers.body + tokens.body).decode()
        return all(name in shown for name in (worker.name, job.id, access))

    await eventually(is_known)
    return Things(worker.name, job.id, access, enroll)


async def do(edge: Edge, about: Things, operation: Operation, call: Call, secret: str | None) -> Reply:
    token = about.enroll_token if operation.path == routes.ADMIN_ENROLL_TOKEN else about.access_token
    path = operation.path.format(worker=about.worker, job=about.job, token=token) + call.query
    method = operation.method.upper()
    return await edge.call(method, path, secret, json=call.json, operators=True, to_end=path != routes.ADMIN_CHANGES)


def test_every_operation_names_its_least_role() -> None:
    assert set(LISTED) - set(GUARDED) == OPEN
    assert set(calls(Things("w", "j", "a", "e"))) == set(GUARDED)


async def test_every_route_of_the_operators_is_described(edge: Edge) -> None:
    """A route that no operation describes would escape the other tests."""
    relay = build(edge.relays[0].parts.settings)
    served = {
        (route.method.lower(), route.resource.canonical)
        for route in relay.operators.router.routes()
        if route.method != "HEAD" and route.resource is not None
    }
    others = {("get", path) for path in (routes.HEALTHZ, routes.READYZ, routes.METRICS)}
    others |= {(method, path) for method, path in served if path in UI_PATHS}
    assert served - others == {(one.method, one.path) for one in LISTED.values()}
    assert isinstance(relay.workers, web.Application)
    assert not any("/admin/" in route.resource.canonical for route in relay.workers.router.routes() if route.resource)


async def test_a_call_without_a_valid_credential_is_refused(edge: Edge, about: Things) -> None:
    stranger = await edge.worker()
    wrong = {}
    for name, call in calls(about).items():
        for who, secret in {"nobody": None, "a worker": stranger.secret, "a stranger": "era_" + "x" * 43}.items():
            reply = await do(edge, about, GUARDED[name], call, secret)
            if (reply.status, reply.code) != (401, "unauthenticated"):
                wrong[name, who] = (reply.status, reply.code)
    assert wrong == {}


async def test_a_call_needs_exactly_the_role_that_is_described(edge: Edge, about: Things) -> None:
    secrets = {role: await edge.access_token_for(f"a {role}", role=role) for role in OPERATOR_ROLES}
    wrong = {}
    for name, call in calls(about).items():
        operation = GUARDED[name]
        assert operation.role is not None
        # From the least rights: a call with enough of them may use up what it is about.
        for role in OPERATOR_ROLES:
            is_enough = role.includes(operation.role)
            reply = await do(edge, about, operation, call, secrets[role])
            is_right = reply.status in operation.answers if is_enough else reply.code == "forbidden"
            if not is_right:
                wrong[name, role] = (reply.status, reply.code)
            if is_enough:
                break
    assert wrong == {}


async def test_a_producer_may_call_nothing_of_operators(edge: Edge, about: Things) -> None:
    secret = await edge.access_token_for("a producer", role=Role.PRODUCER, queues=["default"])
    wrong = {}
    for name, call in calls(about).items():
        reply = await do(edge, about, GUARDED[name], call, secret)
        if reply.code != "forbidden":
            wrong[name] = (reply.status, reply.code)
    assert wrong == {}


async def test_a_caller_for_another_site_and_queue_meets_nothing(edge: Edge, about: Things) -> None:
    secrets = {role: await edge.access_token_for(f"a {role}", role=role, **ELSEWHERE) for role in OPERATOR_ROLES}
    wrong = {}
    for name, call in calls(about).items():
        operation = GUARDED[name]
        assert operation.role is not None
        reply = await do(edge, about, operation, call, secrets[operation.role])
        if not call.outside(reply):
            wrong[name] = (reply.status, reply.body)
    assert wrong == {}


@pytest.mark.parametrize(
    ("name", "limited"),
    [("actOnSites", {"sites": ["elsewhere"]}), ("actOnQueues", {"queues": ["elsewhere"]})],
    ids=["sites", "queues"],
)
async def test_one_limit_alone_hides_the_targets(
    edge: Edge, about: Things, name: str, limited: dict[str, list[str]]
) -> None:
    secret = await edge.access_token_for("limited", role=Role.OPERATOR, **limited)
    assert changes_nothing(await do(edge, about, GUARDED[name], calls(about)[name], secret))


def actions_of(model: type[BaseModel]) -> set[str]:
    """The values of `do` that a request may have."""
    union = model.model_fields["action"].annotation
    return {get_args(one.model_fields["do"].annotation)[0] for one in get_args(union)}


async def test_exactly_the_actions_that_are_described_need_an_administrator(edge: Edge, about: Things) -> None:
    secret = await edge.access_token_for("an operator", role=Role.OPERATOR)
    more: dict[str, dict[str, Any]] = {
        "set-queues": {"add": ["b"]},
        "set-slots": {"slots": 1},
        "resolve": {"keep": "older"},
    }
    found = {}
    for name, call in calls(about).items():
        if not name.startswith("actOn"):
            continue
        model = GUARDED[name].request
        assert model is not None
        refused = set()
        for action in actions_of(model):
            order = {**(call.json or {}), "action": {"do": action, **more.get(action, {})}}
            reply = await do(edge, about, GUARDED[name], Call(call.outside, order), secret)
            assert reply.status in {200, 403}, reply.body
            if reply.code == "forbidden":
                refused.add(action)
        found[name] = refused
    assert found == {name: set(GUARDED[name].admin_actions) for name in found}
    assert any(found.values())
