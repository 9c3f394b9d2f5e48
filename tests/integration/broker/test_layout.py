"""Streams and buckets that an older version made become what this one needs."""

from pathlib import Path

import pytest

from edge_broker import layout
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import JetStreamError, StreamFull
from edge_broker.permissions import ADMIN, EXECUTOR, KEEPER, PUBLISHER, RELAY
from edge_broker.subjects import ACCESS_BUCKET, JOBS, LOGS, kv_stream
from support.nats.server import connected, running_server


async def test_a_bucket_whose_entries_could_not_expire_is_updated(tmp_path: Path) -> None:
    """Without the flag the server refuses every write with a life: readiness says so, and `streams apply` fixes it."""
    name = kv_stream(ACCESS_BUCKET)
    wanted = {one["name"]: one for one in layout.stream_configs()}
    async with running_server(tmp_path) as server, connected(server, ADMIN) as admin:
        await admin.api(f"STREAM.DELETE.{name}")
        await admin.api(f"STREAM.CREATE.{name}", {**wanted[name], "allow_msg_ttl": False})
        await admin.store("$KV.edge_access.access.kept", b"{}")
        async with connected(server, RELAY) as relay:
            [problem] = await layout.check(relay)
            assert problem.startswith(f"stream {name}: allow_msg_ttl is ")
            assert f"{name}: updated" in await layout.apply(admin, layout.LayoutSettings())
            assert await layout.check(relay) == []
        state = (await admin.api(f"STREAM.INFO.{name}"))["state"]
        assert state["messages"] == 1


async def test_a_stream_keeps_the_room_it_was_given(tmp_path: Path) -> None:
    """A start of `standalone`, or `streams apply` for another reason, must not take it back."""
    roomy = layout.LayoutSettings(jobs_max_bytes=1 << 30, logs_max_age_days=90)
    async with running_server(tmp_path) as server, connected(server, ADMIN) as admin:
        assert f"{JOBS}: updated" in await layout.apply(admin, roomy)
        assert all(line.endswith(": unchanged") for line in await layout.apply(admin, layout.LayoutSettings()))
        config = (await admin.api(f"STREAM.INFO.{JOBS}"))["config"]
        assert config["max_bytes"] == 1 << 30
        assert config["num_replicas"] == 1


async def test_a_full_stream_of_logs_that_removed_its_oldest_is_updated(tmp_path: Path) -> None:
    """By an older version. Relays serve meanwhile, and what is stored stays."""
    old_style = {one["name"]: one for one in layout.stream_configs()}[LOGS] | {"discard": "old", "max_bytes": 1 << 20}
    async with running_server(tmp_path) as server, connected(server, ADMIN) as admin:
        await admin.api(f"STREAM.UPDATE.{LOGS}", old_style)
        for number in range(10):
            await admin.store(f"edge.logs.x.1.{number}", b"x" * 200_000)
        before = (await admin.api(f"STREAM.INFO.{LOGS}"))["state"]["messages"]
        async with connected(server, RELAY) as relay:
            assert await layout.check(relay) == []
            assert f"{LOGS}: updated" in await layout.apply(admin, layout.LayoutSettings())
        assert (await admin.api(f"STREAM.INFO.{LOGS}"))["state"]["messages"] == before
        with pytest.raises(StreamFull):
            await admin.store("edge.logs.x.1.new", b"x" * 200_000)


ROLLUPS = (
    (RELAY, "$KV.edge_jobs.x"),
    (RELAY, "$KV.edge_access.x"),
    (RELAY, "$KV.edge_workers.x"),
    (RELAY, "edge.logs.x.1.y"),
    (RELAY, "edge.dead.-.q.x"),
    (RELAY, "edge.audit.worker.x.y"),
    (RELAY, "$KV.edge_desired.x"),
    (RELAY, "$KV.edge_jobs_ended_index.x"),
    (EXECUTOR, "edge.jobs.-.q.x"),
    (EXECUTOR, "$KV.edge_jobs.x"),
    (KEEPER, "$KV.edge_jobs.x"),
    (KEEPER, "$KV.edge_jobs_ended.x"),
    (PUBLISHER, "edge.bundles.piece.x"),
    (PUBLISHER, "$KV.edge_bundles.x"),
)


async def test_no_message_removes_others(tmp_path: Path) -> None:
    """A roll-up removes what is stored, of one subject or of the whole stream: all records, or all credentials."""
    async with running_server(tmp_path) as server, connected(server, ADMIN) as admin:
        for _, subject in ROLLUPS:
            await admin.store(f"{subject}-kept", b"{}")
        before = await _messages(admin)
        for role, subject in ROLLUPS:
            async with connected(server, role) as broker:
                for kind in ("all", "sub"):
                    with pytest.raises(JetStreamError, match="rollup"):
                        await broker.store(subject, b"{}", {"Nats-Rollup": kind})
        assert await _messages(admin) == before


async def test_a_stream_that_allows_roll_ups_is_found_and_updated(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, connected(server, ADMIN) as admin:
        for config in layout.stream_configs():
            await admin.api(f"STREAM.UPDATE.{config['name']}", {**config, "allow_rollup_hdrs": True})
        async with connected(server, RELAY) as relay:
            problems = await layout.check(relay)
            assert len(problems) == len(layout.stream_configs())
            assert all("allow_rollup_hdrs is True, must be False" in problem for problem in problems)
            assert all(line.endswith(": updated") for line in await layout.apply(admin, layout.LayoutSettings()))
            assert await layout.check(relay) == []


async def _messages(broker: Broker) -> dict[str, int]:
    names = [config["name"] for config in layout.stream_configs()]
    return {name: (await broker.api(f"STREAM.INFO.{name}"))["state"]["messages"] for name in names}
