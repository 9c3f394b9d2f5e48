"""Ending tasks that speak to NATS."""

import asyncio
from collections.abc import Iterable
from typing import Any

CANCEL_AGAIN_S = 0.2


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended. What they raise is for whoever awaits them.

    Again and again: nats-py swallows a cancellation that meets the end of a connect or of a call, and a loop that did
    not hear of it would go on for ever.
    """
    while waiting := [task for task in tasks if not task.done()]:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)
