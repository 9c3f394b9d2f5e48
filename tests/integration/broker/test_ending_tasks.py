"""Tasks that speak to NATS end when they are to, though nats-py sometimes swallows a cancellation."""

import asyncio
from contextlib import suppress

from edge_service import task_cleanup


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    swallowed = asyncio.Event()

    async def loop() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        swallowed.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await task_cleanup.cancel_and_wait([task])
    assert swallowed.is_set()
    assert task.cancelled()
