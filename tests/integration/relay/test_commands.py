"""The commands of operators against two real relays: what they change reaches workers, and what they print is so."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from edge_relay.cli import main
from edge_relay.cli.output import EXIT_FAILED, EXIT_OK
from edge_schemas.wire import routes
from support.relay.agents import Agent, agent, parked, publish
from support.relay.edge import Edge

Capture = pytest.CaptureFixture[str]
WITHIN_S = 2.0


class Operator:
    """Runs commands, each in a thread as they are synchronous."""

    def __init__(self, edge: Edge, token: Path, capsys: Capture) -> None:
        self._edge = edge
        self._token = token
        self._capsys = capsys

    async def run(self, *words: str, replica: int = 0, expected: int = EXIT_OK) -> str:
        """What a command prints to standard output, or to standard error if it is to fail."""
        self._capsys.readouterr()
        where = ("--url", self._edge.relays[replica].operators_url, "--access-token-file", str(self._token))
        status = await asyncio.to_thread(main, [*words, *where])
        said = self._capsys.readouterr()
        assert status == expected, said.err
        return said.out if expected == EXIT_OK else said.err

    async def json(self, *words: str) -> Any:
        """The document that a command prints; the log of the relay stands before it."""
        said = await self.run(*words, "--json")
        return json.loads(said[said.index("{\n") :])


@pytest.fixture
def operator(edge: Edge, tmp_path: Path, capsys: Capture) -> Operator:
    token = tmp_path / "access.token"
    token.write_text(edge.access_token)
    return Operator(edge, token, capsys)


async def settings_after(edge: Edge, operator: Operator, one: Agent, *words: str, known: int = 1) -> dict[str, Any]:
    """The settings that a parked poll is answered with after a command at the other replica."""
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll(settings_version=known))
        await parked(edge, 1, replica=1)
        await operator.run(*words, "--reason", "new press")
        async with asyncio.timeout(WITHIN_S):
            reply = await poll
    found: dict[str, Any] = reply.json["settings"]
    return found


async def test_what_is_ordered_for_a_worker_reaches_its_poll(edge: Edge, operator: Operator) -> None:
    one = await agent(edge, replica=1)
    found = await settings_after(edge, operator, one, "workers", "pause", one.name)
    assert found["availability"] == "paused"
    assert "new press" in found["availability_reason"]
    found = await settings_after(edge, operator, one, "workers", "resume", one.name, known=found["version"])
    assert found.get("availability", "active") == "active"
    words = ("workers", "queues", one.name, "--add", "gpu")
    found = await settings_after(edge, operator, one, *words, known=found["version"])
    assert set(found["queues"]) == {"default", "gpu"}
    found = await settings_after(
        edge, operator, one, "workers", "slots", one.name, "--set", "7", known=found["version"]
    )
    assert found["slots"] == 7
    found = await settings_after(edge, operator, one, "sites", "drain", "plant", known=found["version"])
    assert found["availability"] == "draining"


async def test_bulk_dry_run_and_failures(edge: Edge, operator: Operator) -> None:
    here = [await agent(edge) for _ in range(3)]
    elsewhere = await agent(edge, site="office")
    names = {one.name for one in here}
    assert "Would pause 3 workers" in await operator.run(
        "workers", "pause", "--site", "plant", "--reason", "x", "--dry-run"
    )
    found = await operator.json("workers", "pause", "--site", "plant", "--reason", "x")
    assert (set(found["changed"]), found["changed_count"]) == (names, 3)
    found = await operator.json("workers", "pause", "--all", "--reason", "x")
    assert (found["changed"], found["unchanged_count"]) == ([elsewhere.name], 3)
    said = await operator.run("workers", "pause", "nobody", "--reason", "x", expected=EXIT_FAILED)
    assert "nobody: " in said
    await operator.run("workers", "pause", "--site", "palnt", "--reason", "x", expected=EXIT_FAILED)


async def test_a_revoked_worker_is_refused_and_can_be_removed(edge: Edge, operator: Operator) -> None:
    one = await agent(edge)
    said = await operator.run("workers", "remove", one.name, "--reason", "sold", expected=EXIT_FAILED)
    assert one.name in said
    assert "Revoked: 1 worker" in await operator.run("workers", "revoke", one.name, "--reason", "stolen")
    assert (await one.poll(poll_timeout_s=0)).code == "credential_revoked"
    assert "Removed: 1 worker" in await operator.run("workers", "remove", one.name, "--reason", "sold")


async def test_a_queue_is_paused_and_set(edge: Edge, operator: Operator) -> None:
    one = await agent(edge)
    await publish(edge.broker)
    await operator.run("queues", "pause", "default", "--reason", "x")
    await operator.run("queues", "set", "default", "--tolerance", "2h", "--max-running", "3", "--reason", "x")
    assert (await one.poll(poll_timeout_s=0)).status == 204
    await operator.run("queues", "resume", "default", "--reason", "x")
    assert await one.grants()


async def test_tokens_and_audit(edge: Edge, operator: Operator, tmp_path: Path, capsys: Capture) -> None:
    words = ("--name", "ann", "--role", "viewer", "--sites", "plant", "--ttl", "1h", "--reason", "new colleague")
    made = await operator.json("tokens", "create", *words)
    found = await operator.json("tokens", "list")
    [row] = [row for row in found["access"] if row["id"] == made["id"]]
    assert (row["name"], row["role"], row["scope"]["sites"]) == ("ann", "viewer", ["plant"])
    token = tmp_path / "ann.token"
    token.write_text(made["token"])
    ann = Operator(edge, token, capsys)
    assert "forbidden" in await ann.run("tokens", "list", expected=EXIT_FAILED)
    enroll = await operator.json("enroll-token", "create", "--queues", "default", "--site", "plant")
    [row] = (await operator.json("tokens", "list"))["enroll"]
    assert row["site"] == "plant"
    for wanted in (made["id"], row["id"]):
        assert "is revoked" in await operator.run("tokens", "revoke", wanted, "--reason", "left")
    assert (await ann.run("audit", expected=EXIT_FAILED)).count("revoked") >= 1
    body = {"protocol": 1, "secret_hash": "0" * 64}
    assert (await edge.call("POST", routes.ENROLL, enroll["token"], json=body)).code == "enrollment_refused"
    said = await operator.run("audit", "--kind", "token", "--utc")
    assert "left" in said
    assert "operator tests" in said


async def test_lists_show_what_there_is(edge: Edge, operator: Operator) -> None:
    one, other = await agent(edge), await agent(edge, site="office")
    job = await publish(edge.broker)
    assert (await one.poll(poll_timeout_s=0, slots=4, free=0)).status == 204
    await operator.run("workers", "pause", other.name, "--reason", "new press")
    said = await operator.run("workers", "list")
    assert one.name in said
    assert "paused by tests: new press" in said
    found = await operator.json("workers", "list", "--site", "office")
    assert [row["worker"] for row in found["items"]] == [other.name]
    found = await operator.json("workers", "list", "--sort", "worker", "--reverse")
    assert [row["worker"] for row in found["items"]] == sorted((one.name, other.name), reverse=True)
    assert "new press" in await operator.run("workers", "show", other.name)
    assert "office" in await operator.run("sites", "list")
    assert "default" in await operator.run("queues", "list")
    assert "the executor's setting" in await operator.run("queues", "show", "default")
    assert job.id in await operator.run("jobs", "list", "--queue", "default")
    assert "waiting" in await operator.run("jobs", "show", job.id)
    assert "No job is parked" in await operator.run("dead", "list")
    assert "workers" in await operator.run("overview")
    assert "Cancelled: 1 job" in await operator.run("jobs", "cancel", "--queue", "default", "--reason", "wrong data")
    found = await operator.json("jobs", "list", "--state", "ended")
    assert [(row["job"], row["verdict"]) for row in found["items"]] == [(job.id, "cancelled")]
    assert "there is no worker nobody" in await operator.run("workers", "show", "nobody", expected=EXIT_FAILED)
