"""Ending tasks that use nats-py."""

import asyncio
from collections.abc import Iterable

CANCEL_AGAIN_S = 0.2


async def cancel_and_wait(tasks: Iterable[asyncio.Task[object]]) -> None:
    """Cancel tasks until they have ended. Their exceptions are left to the code that awaits them.

    Repeatedly: nats-py swallows a cancellation that meets the end of a connect or of a call, and a loop that did not
    receive it would never end.
    """
    while waiting := [task for task in tasks if not task.done()]:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)
