"""Access tokens and enrolment tokens by the API: roles, scope, expiry, last use, the audit."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge_broker.bucket import Bucket
from edge_broker.connection.errors import BrokerUnavailable
from edge_relay.identity.operators.access_tokens import AccessTokenStore
from edge_schemas.admin.access import OPERATOR_ROLES, AccessTokenEntry, Role
from edge_schemas.wire import routes
from edge_schemas.wire.workers import hash_secret
from support.nats.server import eventually
from support.relay.edge import Edge, Reply

ENROLL = {"queues": ["default"], "site": "plant"}


async def create(edge: Edge, by: str | None = None, **body: Any) -> Reply:
    token = by or edge.access_token
    return await edge.call("POST", routes.ADMIN_ACCESS_TOKENS, token, json=body, operators=True)


async def audit(edge: Edge, **query: str) -> list[Any]:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    reply = await edge.admin("GET", f"{routes.ADMIN_AUDIT}?{asked}")
    assert reply.status == 200, reply.body
    return list(reply.json["items"])


async def test_a_token_is_created_listed_used_and_revoked_everywhere(edge: Edge) -> None:
    made = await create(edge, name="ann", role="operator", sites=["plant"], ttl_s=3600, reason="for ann")
    assert made.status == 201, made.body
    token, token_id = made.json["token"], made.json["id"]
    assert token_id == hash_secret(token)[:12]
    for replica in (0, 1):
        shown = await edge.call("GET", routes.ADMIN_SESSION, token, operators=True, replica=replica)
        assert (shown.status, shown.json["role"], shown.json["name"]) == (200, "operator", "ann"), shown.body
        assert shown.json["scope"] == {"sites": ["plant"]}

    async def row() -> Any:
        listed = (await edge.admin("GET", routes.ADMIN_ACCESS_TOKENS, replica=1)).json
        assert hash_secret(token) not in str(listed)
        return next((one for one in listed["items"] if one["id"] == token_id), None)

    async def is_used() -> bool:
        found = await row()
        return found is not None and "last_used_at" in found

    await eventually(is_used, what="the last use is written")
    gone = await edge.admin("DELETE", f"{routes.ADMIN_ACCESS_TOKEN.format(token=token_id)}?reason=left")
    assert gone.status == 204, gone.body

    async def refused() -> bool:
        reply = await edge.call("GET", routes.ADMIN_SESSION, token, operators=True, replica=1)
        return reply.code == "credential_revoked"

    await eventually(refused, timeout_s=2, what="the other replica refuses the token")
    again = await edge.admin("DELETE", routes.ADMIN_ACCESS_TOKEN.format(token=token_id))
    assert again.status == 204
    events = await audit(edge, target=token_id)
    assert [(one["action"], one.get("reason"), one["actor"]["name"]) for one in events] == [
        ("access-token-revoked", "left", "tests"),
        ("access-token-created", "for ann", "tests"),
    ]
    assert token not in str(events)


async def test_a_token_that_can_not_be_is_not_made(edge: Edge) -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"sites": [f"s{number}" for number in range(101)]},
        {"queues": []},
        {"ttl_s": 1},
        {"role": "root"},
        {"name": ""},
        {"sites": ["NO SITE"]},
        {"role": "producer"},
        {"role": "producer", "queues": ["q"], "sites": ["plant"]},
        {"role": "producer", "queues": ["q"], "for_airflow": True},
    )
    for fields in wrong:
        assert (await create(edge, edge.access_token, **{"name": "x", **fields})).code == "invalid_request", fields


async def test_each_role_may_do_what_it_includes_and_no_more(edge: Edge) -> None:
    tokens = {role: await edge.access_token_for(role, role=role) for role in OPERATOR_ROLES}
    calls = (
        ("GET", routes.ADMIN_SESSION, None, Role.VIEWER),
        ("GET", routes.ADMIN_AUDIT, None, Role.VIEWER),
        ("GET", routes.ADMIN_ACCESS_TOKENS, None, Role.ADMIN),
        ("POST", routes.ADMIN_ACCESS_TOKENS, {"name": "x"}, Role.ADMIN),
        ("DELETE", routes.ADMIN_ACCESS_TOKEN.format(token="0" * 12), None, Role.ADMIN),
        ("GET", routes.ADMIN_ENROLL_TOKENS, None, Role.ADMIN),
        ("POST", routes.ADMIN_ENROLL_TOKENS, ENROLL, Role.ADMIN),
        ("DELETE", routes.ADMIN_ENROLL_TOKEN.format(token="0" * 12), None, Role.ADMIN),
    )
    for method, path, body, needed in calls:
        for role, token in tokens.items():
            reply = await edge.call(method, path, token, json=body, operators=True)
            assert (reply.code == "forbidden") is not role.includes(needed), (method, path, role, reply.body)
        assert (await edge.call(method, path, json=body, operators=True)).code == "unauthenticated"


async def test_a_limited_admin_stays_within_the_limits(edge: Edge) -> None:
    limited = await edge.access_token_for("north", sites=("north",), queues=("default",))
    assert (await create(edge, limited, name="x")).code == "forbidden"
    assert (await edge.call("GET", routes.ADMIN_ACCESS_TOKENS, limited, operators=True)).code == "forbidden"
    path = routes.ADMIN_ENROLL_TOKENS
    inside = {"queues": ["default"], "site": "north"}
    for outside in (ENROLL, {"queues": ["other"], "site": "north"}, {"queues": ["default", "other"], "site": "north"}):
        assert (await edge.call("POST", path, limited, json=outside, operators=True)).code == "forbidden"
    mine = await edge.call("POST", path, limited, json=inside, operators=True)
    theirs = await edge.admin("POST", path, ENROLL)
    assert (mine.status, theirs.status) == (201, 201)
    listed = await edge.call("GET", path, limited, operators=True)
    assert [one["site"] for one in listed.json["items"]] == ["north"]
    other = routes.ADMIN_ENROLL_TOKEN.format(token=hash_secret(theirs.json["token"])[:12])
    assert (await edge.call("DELETE", other, limited, operators=True)).code == "not_found"
    own = routes.ADMIN_ENROLL_TOKEN.format(token=hash_secret(mine.json["token"])[:12])
    assert (await edge.call("DELETE", own, limited, operators=True)).status == 204
    seen = await edge.call("GET", routes.ADMIN_AUDIT, limited, operators=True)
    assert {one["site"] for one in seen.json["items"]} == {"north"}


async def test_a_revoked_enrolment_token_enrols_nobody_and_its_workers_stay(edge: Edge) -> None:
    token = await edge.token(uses=5)
    first = await edge.enroll(token, secret := "erw_" + "x" * 43)
    assert first.status == 200
    path = routes.ADMIN_ENROLL_TOKEN.format(token=hash_secret(token)[:12])
    assert (await edge.admin("DELETE", path)).status == 204
    assert (await edge.admin("DELETE", path)).status == 204
    assert (await edge.enroll(token)).code == "enrollment_refused"
    assert (await edge.call("GET", routes.WORKER, secret)).status == 200
    [row] = (await edge.admin("GET", routes.ADMIN_ENROLL_TOKENS)).json["items"]
    assert (row["used"], row["workers"], "revoked_at" in row) == (1, [first.json["worker"]], True)
    assert len(await audit(edge, action="enroll-token-revoked")) == 1


async def test_an_expired_token_is_refused_by_each_call(edge: Edge) -> None:
    entry = AccessTokenEntry(
        name="old", created_at=datetime.now(UTC), expires_at=datetime.now(UTC) + timedelta(seconds=0.5)
    )
    token = "era_" + "o" * 43
    bucket = Bucket(edge.broker, "edge_access")
    await bucket.put(f"access.{hash_secret(token)}", entry.model_dump_json().encode())
    codes = []

    async def expired() -> bool:
        codes.append((await edge.call("GET", routes.ADMIN_SESSION, token, operators=True)).code)
        return codes[-1] == "unauthenticated"

    await eventually(expired, what="the token has expired")
    assert codes[0] == "", "it was valid at first"


async def test_a_use_that_can_not_be_written_fails_no_call(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = asyncio.Event()

    async def fail(*_: object, **__: object) -> None:
        tried.set()
        raise BrokerUnavailable("no answer")

    monkeypatch.setattr(AccessTokenStore, "record_use", fail)
    token = await edge.access_token_for("ann")
    for _ in range(3):
        assert (await edge.call("GET", routes.ADMIN_SESSION, token, operators=True)).status == 200
    await asyncio.wait_for(tried.wait(), 10)


async def test_the_last_use_is_written_once_an_hour(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []
    real = AccessTokenStore.record_use

    async def count(self: AccessTokenStore, token_hash: str, *, now: datetime) -> None:
        await real(self, token_hash, now=now)
        writes.append(token_hash)

    monkeypatch.setattr(AccessTokenStore, "record_use", count)
    token = await edge.access_token_for("ann")
    for _ in range(20):
        assert (await edge.call("GET", routes.ADMIN_SESSION, token, operators=True)).status == 200
    await eventually(lambda: hash_secret(token) in writes, what="the use is written")
    entry = (await edge.access.list())[hash_secret(token)]
    assert entry.last_used_at is not None
    parts = edge.relays[0].parts
    for age, waits in ((timedelta(minutes=59), 0), (timedelta(minutes=61), 1)):
        parts.token_uses._noted.clear()
        parts.token_uses.note(hash_secret(token), entry.model_copy(update={"last_used_at": datetime.now(UTC) - age}))
        assert parts.token_uses._waiting.qsize() == waits
    assert writes.count(hash_secret(token)) == 1


async def test_guesses_of_tokens_are_bounded(edge: Edge) -> None:
    """Each guess is a look-up in NATS until the address has used up its rate; known tokens still work."""
    codes = [
        (await edge.call("GET", routes.ADMIN_SESSION, f"era_{number:043d}", operators=True)).code
        for number in range(300)
    ]
    assert codes[0] == "unauthenticated"
    assert set(codes) == {"unauthenticated", "rate_limited"}
    reads = codes.count("unauthenticated")
    assert reads < 290, "a burst of 200, and 20 a second"
    for number in range(5):
        body = {"token": f"era_{number + 1000:043d}"}
        guess = await edge.call("POST", routes.ADMIN_SIGN_IN, json=body, operators=True)
        assert guess.code in {"rate_limited", "unauthenticated"}
    assert (await edge.admin("GET", routes.ADMIN_SESSION)).status == 200


async def test_an_airflow_token_acts_for_users_with_no_more_than_its_role(edge: Edge) -> None:
    token = await edge.access_token_for("airflow", role="operator", for_airflow=True)

    async def ask(**headers: str) -> Reply:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await edge.call("GET", routes.ADMIN_SESSION, token, headers=sent, operators=True)

    shown = await ask(Edge_Acting_For="j%C3%BCrgen", Edge_Acting_As="viewer")
    assert (shown.json["name"], shown.json["role"], shown.json["by"]) == ("jürgen", "viewer", "airflow")
    more = await ask(Edge_Acting_For="ann", Edge_Acting_As="admin")
    assert more.json["role"] == "operator"
    assert (await ask(Edge_Acting_For="ann", Edge_Acting_As="root")).code == "invalid_request"
    assert (await ask(Edge_Acting_For="ann")).code == "invalid_request"
    assert (await ask(Edge_Acting_As="viewer")).code == "invalid_request"
    assert (await ask(Edge_Acting_For="%FF", Edge_Acting_As="viewer")).code == "invalid_request"
    assert (await ask()).code == "invalid_request"
    assert (await edge.call("POST", routes.ADMIN_SIGN_IN, json={"token": token}, operators=True)).code == "forbidden"


async def test_the_audit_names_airflows_user_and_token(edge: Edge) -> None:
    token = await edge.access_token_for("airflow-1", for_airflow=True)
    headers = {routes.ACTING_FOR_HEADER: "ann", routes.ACTING_AS_HEADER: "admin"}
    path = routes.ADMIN_ENROLL_TOKENS
    made = await edge.call("POST", path, token, json=ENROLL, headers=headers, operators=True)
    assert made.status == 201, made.body
    [event] = await audit(edge, action="enroll-token-created")
    assert {name: event["actor"][name] for name in ("kind", "name", "by", "token")} == {
        "kind": "operator",
        "name": "ann",
        "by": "airflow",
        "token": "airflow-1",
    }
    access = await edge.call(
        "POST", routes.ADMIN_ACCESS_TOKENS, token, json={"name": "x"}, headers=headers, operators=True
    )
    assert access.code == "forbidden"


async def test_an_ordinary_token_can_not_act_for_anybody(edge: Edge) -> None:
    for headers in ({routes.ACTING_FOR_HEADER: "ann"}, {routes.ACTING_AS_HEADER: "viewer"}):
        assert (await edge.admin("GET", routes.ADMIN_SESSION, headers=headers)).code == "forbidden"
