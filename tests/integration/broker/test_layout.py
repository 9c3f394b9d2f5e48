"""Streams and buckets that an older version made become what this one needs."""

from pathlib import Path

from edge_schemas.broker import layout
from edge_schemas.broker.permissions import ADMIN, RELAY
from edge_schemas.subjects import ACCESS_BUCKET, kv_stream
from support.broker import connected, running_server


async def test_a_bucket_whose_entries_could_not_expire_is_updated(tmp_path: Path) -> None:
    """Without the flag the server refuses every write with a life: readiness says so, and `streams apply` mends it."""
    name = kv_stream(ACCESS_BUCKET)
    wanted = {one["name"]: one for one in layout.stream_configs(layout.LayoutSettings())}
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
