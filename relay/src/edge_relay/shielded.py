"""Runs changes to completion although their client leaves: half of a change would be worse than all of it."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")

COMPLETION_S = 15.0
"""How long a cancelled caller waits for the change."""


async def run_to_completion(work: Coroutine[object, object, T]) -> T:
    """Run `work` to its end, also if the caller is cancelled meanwhile; the cancellation continues afterwards."""
    task = asyncio.create_task(work, name="run-to-completion")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait({task}, timeout=COMPLETION_S)
        if not done:
            task.cancel()
        elif not task.cancelled():
            task.exception()  # no caller is left to receive it
        raise
