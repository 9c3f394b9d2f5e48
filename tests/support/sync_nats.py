"""A nats-server for fixtures that outlive an event loop."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_relay.nats_server import find_binary, render_config
from edge_schemas.broker import layout
from edge_schemas.broker.connection import Broker, BrokerSettings
from edge_schemas.broker.permissions import OPERATOR
from support.broker import PASSWORDS, free_port


@contextmanager
def log_server(directory: Path) -> Iterator[str]:
    """A server with the layout applied; gives its URL and kills it at the end."""
    port = free_port()
    config = directory / "nats.conf"
    config.write_text(render_config(host="127.0.0.1", port=port, store_dir=directory / "store", passwords=PASSWORDS))
    with (directory / "nats.log").open("wb") as log:
        process = subprocess.Popen([find_binary(), "-c", str(config)], stdout=log, stderr=log, start_new_session=True)
        try:
            asyncio.run(_apply_layout(f"nats://127.0.0.1:{port}"))
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


async def _apply_layout(url: str) -> None:
    async with Broker(BrokerSettings((url,), OPERATOR, PASSWORDS[OPERATOR])) as broker:
        await broker.wait_connected(10)
        await layout.apply(broker, layout.LayoutSettings())
