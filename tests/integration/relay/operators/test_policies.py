"""What operators see of policies and accesses through a relay."""

import asyncio
import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_broker.bucket import Bucket
from edge_broker.permissions import KEEPER
from edge_broker.policies.access_store import AccessStore
from edge_broker.policies.policy_store import PolicyStore
from edge_broker.subjects import POLICIES_BUCKET
from edge_relay.cli import main
from edge_schemas.admin.access import Role
from edge_schemas.policies.accesses import Access, AccessDay
from edge_schemas.policies.policy import Policy, PolicyMode, PolicyTarget
from edge_schemas.wire import routes
from support.nats.server import connected
from support.relay.edge import Edge

QUEUE, SITE = PolicyTarget("queue", "plant"), PolicyTarget("site", "eu-1")
NOW = datetime.now(UTC)
POLICY = Policy(
    mode=PolicyMode.LOG, allow={"connection": ("erp_*",)}, changed_at=NOW, changed_by="ann@centre", reason="a test"
)


@pytest.fixture(autouse=True)
async def stored(edge: Edge) -> None:
    """A policy for a queue, one for a site that can't be read, one that was removed; and what the queue used."""
    async with connected(edge.server, KEEPER) as keeper:
        policies = PolicyStore(keeper)
        removed = PolicyTarget("queue", "removed")
        for target in (QUEUE, removed):
            await policies.put(target, POLICY, revision=0)
        await policies.remove(removed, revision=(await policies.get(removed)).revision)
        await Bucket(keeper, POLICIES_BUCKET).put(SITE.key, b'{"mode":"of a later version"}')
        names = ("erp_main", "payroll")
        used = (
            Access(kind="connection", name=name, allowed=2, first_at=NOW, last_at=NOW, dags=("d",)) for name in names
        )
        await AccessStore(keeper).add(QUEUE, NOW.date(), AccessDay(accesses=tuple(used)), keeper="k", number=1)


async def test_lists_show_what_the_caller_may_see(edge: Edge) -> None:
    reply = await edge.admin("GET", routes.ADMIN_POLICIES)
    rows = {(one["kind"], one["name"]): one.get("policy", {}).get("mode") for one in reply.json["items"]}
    assert rows == {("queue", "plant"): "log", ("site", "eu-1"): None}
    reply = await edge.admin("GET", f"{routes.ADMIN_ACCESSES}?queue=plant&days=2")
    assert [(one["name"], one["allowed"]) for one in reply.json["items"]] == [("erp_main", 2), ("payroll", 2)]
    assert (await edge.admin("GET", f"{routes.ADMIN_ACCESSES}?site=eu-1")).json["items"] == []
    limited = await edge.access_token_for("limited", role=Role.VIEWER, queues=["plant"], sites=["elsewhere"])
    reply = await edge.call("GET", routes.ADMIN_POLICIES, limited, operators=True)
    assert [one["name"] for one in reply.json["items"]] == ["plant"]
    reply = await edge.call("GET", f"{routes.ADMIN_ACCESSES}?site=eu-1", limited, operators=True)
    assert (reply.status, reply.code) == (403, "forbidden")


@pytest.mark.parametrize("query", ["", "?queue=a&site=b", "?queue=a&days=0", "?queue=a&days=41", "?site=A_B"])
async def test_a_wrong_query_is_refused(edge: Edge, query: str) -> None:
    reply = await edge.admin("GET", f"{routes.ADMIN_ACCESSES}{query}")
    assert (reply.status, reply.code) == (400, "invalid_request")


async def test_commands_print_the_same(edge: Edge, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = tmp_path / "token"
    token.write_text(edge.access_token)
    where = ("--url", edge.relays[0].operators_url, "--access-token-file", str(token))

    async def run(*words: str) -> str:
        assert await asyncio.to_thread(main, ["policy", *words, *where]) == 0
        # The relay of the test logs to the same output.
        return "\n".join(line for line in capsys.readouterr().out.splitlines() if "[info" not in line)

    shown = await run("show")
    assert "ann@centre" in shown
    assert "The policy of site 'eu-1' can't be read" in shown
    assert "payroll" in await run("accesses", "--queue", "plant", "--days", "1")
    suggested = tomllib.loads(await run("suggest", "--queue", "plant"))
    assert suggested == {"mode": "log", "allow": {"connection": ["erp_main", "payroll"]}}
    assert json.loads(await run("suggest", "--queue", "plant", "--json")) == suggested
    assert len(json.loads(await run("show", "--json"))["items"]) == 2
    assert await asyncio.to_thread(main, ["policy", "accesses", *where]) == 2
