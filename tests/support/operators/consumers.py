"""A consumer that runs in the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from edge_worker.client import AsyncConsumer
from edge_worker.client.handling import Handler


@asynccontextmanager
async def consuming(
    relay_url: str, state_dir: Path, handler: Handler, *, token: str, ca_file: Path | None = None, slots: int = 1
) -> AsyncIterator[AsyncConsumer]:
    """An enrolled consumer that runs a handler, and is drained when the test leaves."""
    async with AsyncConsumer(relay_url, state_dir=state_dir, enroll_token=token, ca_file=ca_file) as consumer:
        running = asyncio.create_task(consumer.run(handler, slots=slots), name="consumer")
        try:
            yield consumer
            consumer.drain()
            async with asyncio.timeout(20):
                await running
        finally:
            running.cancel()
            await asyncio.wait({running})
