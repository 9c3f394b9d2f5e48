"""A nats-server for fixtures that outlive an event loop."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_broker import layout
from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.jetstream.stream_info import purge
from edge_broker.permissions import ADMIN, RELAY
from edge_broker.subjects import LOGS, OFFSET_HEADER, log_subject
from edge_relay.standalone.nats_config import render_config
from edge_relay.standalone.nats_server import find_binary
from support.nats.server import PASSWORDS, free_port


@dataclass(frozen=True, slots=True)
class RunningNats:
    """A server that was started."""

    url: str
    pid: int


@contextmanager
def log_server(directory: Path) -> Iterator[RunningNats]:
    """A server with the layout applied; kills it at the end."""
    port = free_port()
    config = directory / "nats.conf"
    config.write_text(render_config(host="127.0.0.1", port=port, store_dir=directory / "store", passwords=PASSWORDS))
    with (directory / "nats.log").open("wb") as log:
        process = subprocess.Popen([find_binary(), "-c", str(config)], stdout=log, stderr=log, start_new_session=True)
        try:
            asyncio.run(_apply_layout(f"nats://127.0.0.1:{port}"))
            yield RunningNats(f"nats://127.0.0.1:{port}", process.pid)
        finally:
            process.kill()
            process.wait()


async def _apply_layout(url: str) -> None:
    async with Broker(BrokerSettings((url,), ADMIN, PASSWORDS[ADMIN])) as broker:
        await broker.wait_connected(10)
        await layout.apply(broker, layout.LayoutSettings())


class Writer:
    """Appends to logs as a relay does. Use as a context manager."""

    def __init__(self, url: str) -> None:
        self._broker = Broker(BrokerSettings((url,), RELAY, PASSWORDS[RELAY]))
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._runner.run(self._broker.__aenter__())
        self._runner.run(self._broker.wait_connected(10))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._broker.__aexit__(kind, error, trace))
        self._runner.close()

    def purge(self, subject: str, *, before: int) -> None:
        """Remove the messages of a log before a sequence, as a relay does to make room."""
        self._runner.run(purge(self._broker, LOGS, subject, before=before))

    def append(self, ti_id: str, try_number: int, job: str, offset: int, data: bytes) -> int:
        """Store a chunk; returns its stream sequence."""
        subject = log_subject(ti_id, try_number, job)
        return self._runner.run(self._broker.store(subject, data, {OFFSET_HEADER: str(offset)}))
