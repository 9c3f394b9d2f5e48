"""An event of the audit is stored once, also if NATS was away when it was recorded."""

from pathlib import Path

import orjson
import pytest

from edge_broker import audit as audit_module
from edge_broker.audit import Audit
from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.jetstream.stream_info import stream_info
from edge_broker.layout import LayoutSettings, apply
from edge_broker.permissions import ADMIN, RELAY
from edge_broker.subjects import AUDIT
from edge_schemas.admin.audit import TargetKind
from support.nats.server import PASSWORDS, connected, eventually, running_server
from support.network.link import Cut, Link


async def targets(admin: Broker) -> list[str]:
    """What the stored events are about, in order."""
    last = (await stream_info(admin, AUDIT))["state"]["last_seq"]
    order = [orjson.dumps({"seq": number}) for number in range(1, last + 1)]
    found = [await admin.request(f"$JS.API.DIRECT.GET.{AUDIT}", one) for one in order]
    return [orjson.loads(message.data)["target"] for message in found]


async def test_events_of_an_outage_are_stored_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most as many as may wait: the oldest is dropped."""
    monkeypatch.setattr(audit_module, "MAX_UNCONFIRMED", 2)
    async with running_server(tmp_path) as server, connected(server, ADMIN) as admin, Link.to(server.url) as link:
        await apply(admin, LayoutSettings())
        settings = BrokerSettings((f"nats://127.0.0.1:{link.port}",), RELAY, PASSWORDS[RELAY])
        async with Broker(settings) as broker:
            audit = Audit(broker, "relay r")
            await broker.wait_connected()
            await audit.record("worker-paused", TargetKind.WORKER, "before")
            await link.cut(Cut.RESET)
            await eventually(lambda: not broker.connected)
            for target in ("dropped", "first", "second"):
                await audit.record("worker-paused", TargetKind.WORKER, target)
            assert await targets(admin) == ["before"]
            await link.restore()

            async def are_stored() -> bool:
                return await targets(admin) == ["before", "first", "second"]

            await eventually(are_stored, timeout_s=20)
