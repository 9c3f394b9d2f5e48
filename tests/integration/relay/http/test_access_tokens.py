"""Access tokens of operators: listed, and ended on every replica, by commands that speak to NATS."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_broker.bucket import DELETE_MARK
from edge_broker.permissions import ADMIN
from edge_broker.subjects import kv_stream, kv_subject
from edge_relay.cli import main
from edge_relay.cli.output import EXIT_FAILED, EXIT_OK
from edge_schemas.wire import routes
from edge_schemas.wire.workers import hash_secret
from support.nats.server import PASSWORDS, eventually
from support.relay.edge import Edge, Reply, running_edge


async def edge_relay(edge: Edge, tmp_path: Path, *words: str) -> int:
    """A command on NATS as the admin, in a thread: it has an event loop of its own."""
    password = tmp_path / "admin.password"
    password.write_text(PASSWORDS[ADMIN])
    where = ("--nats-urls", edge.server.url, "--admin-password-file", str(password))
    return await asyncio.to_thread(main, [*words, *where])


async def ask(edge: Edge, token: str, *, replica: int = 0) -> Reply:
    return await edge.call("GET", routes.ADMIN_WORKERS, token, operators=True, replica=replica)


async def test_a_revoked_access_token_is_refused_everywhere_within_two_seconds(tmp_path: Path) -> None:
    async with running_edge(tmp_path, replicas=2) as edge:
        tokens = [await edge.access_token_for("ann") for _ in range(2)]
        for replica in (0, 1):
            for token in tokens:
                assert (await ask(edge, token, replica=replica)).status == 200
        assert await edge_relay(edge, tmp_path, "access-token", "revoke", "ann") == EXIT_OK

        async def refused() -> bool:
            replies = [await ask(edge, token, replica=replica) for replica in (0, 1) for token in tokens]
            return all((reply.status, reply.code) == (401, "credential_revoked") for reply in replies)

        await eventually(refused, timeout_s=2, what="all tokens of that name are refused")
        assert (await ask(edge, edge.access_token)).status == 200
        assert await edge_relay(edge, tmp_path, "access-token", "revoke", "ann") == EXIT_OK


async def test_a_revocation_outlasts_whoever_knows_the_token(edge: Edge, tmp_path: Path) -> None:
    """A standalone relay brings the token in its file along at each start."""
    await edge_relay(edge, tmp_path, "access-token", "revoke", "tests")
    await edge.access.ensure(edge.access_token, "tests", now=datetime.now(UTC))
    assert (await ask(edge, edge.access_token)).code == "credential_revoked"


async def test_a_deleted_access_token_is_unknown_within_two_seconds(edge: Edge) -> None:
    """As `nats kv del` leaves it."""
    assert (await ask(edge, edge.access_token)).status == 200
    subject = kv_subject("edge_access", f"access.{hash_secret(edge.access_token)}")
    await edge.broker.store(subject, b"", DELETE_MARK)

    async def refused() -> bool:
        return (await ask(edge, edge.access_token)).code == "unauthenticated"

    await eventually(refused, timeout_s=2, what="the deleted token is refused")


async def test_access_tokens_are_listed(edge: Edge, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names and states; neither tokens nor hashes. A deleted one is gone from the list."""
    gone = await edge.access_token_for("gone")
    await edge.broker.store(kv_subject("edge_access", f"access.{hash_secret(gone)}"), b"", DELETE_MARK)
    await edge.access_token_for("ann")
    await edge_relay(edge, tmp_path, "access-token", "revoke", "ann")
    capsys.readouterr()
    assert await edge_relay(edge, tmp_path, "access-token", "list") == EXIT_OK
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines() if "relay_" not in line and "broker" not in line]
    assert [(line[0], line[-1]) for line in lines] == [("NAME", "STATE"), ("ann", "revoked"), ("tests", "active")]
    assert hash_secret(edge.access_token) not in said
    assert await edge_relay(edge, tmp_path, "access-token", "list", "--json") == EXIT_OK
    listed = json.loads(capsys.readouterr().out)["access_tokens"]
    assert [(one["name"], one["revoked"]) for one in listed] == [("ann", True), ("tests", False)]


async def test_a_name_without_a_token_is_said_to_be_none(
    edge: Edge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await edge_relay(edge, tmp_path, "access-token", "revoke", "nobody") == EXIT_FAILED
    assert "access-token list" in capsys.readouterr().err


async def test_a_lost_watch_does_not_keep_a_token_alive(edge: Edge, tmp_path: Path) -> None:
    """The notice alone is enough: a watch may lose its consumer without a word."""
    assert (await ask(edge, edge.access_token)).status == 200
    stream = kv_stream("edge_access")
    consumers = (await edge.broker.api(f"CONSUMER.NAMES.{stream}"))["consumers"]
    for name in consumers:
        await edge.broker.api(f"CONSUMER.DELETE.{stream}.{name}")
    await edge_relay(edge, tmp_path, "access-token", "revoke", "tests")

    async def refused() -> bool:
        return (await ask(edge, edge.access_token)).code == "credential_revoked"

    await eventually(refused, timeout_s=2, what="the token is refused")
