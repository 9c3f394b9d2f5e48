"""Calls that settle something go on when their client leaves: half of it done would be worse than all of it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

SETTLE_S = 15.0


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Do this to its end, also if the caller is cancelled meanwhile; the cancellation goes on afterwards."""
    task = asyncio.create_task(work, name="settle")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait({task}, timeout=SETTLE_S)
        if not done:
            task.cancel()
        elif not task.cancelled():
            task.exception()  # nobody is left to be told
        raise
