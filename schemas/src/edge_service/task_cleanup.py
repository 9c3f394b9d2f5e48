"""Ending tasks that use nats-py."""

import asyncio
from collections.abc import Coroutine, Iterable

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


async def finish_first(work: Coroutine[object, object, None], name: str) -> None:
    """Run `work` to its end, however often the caller is cancelled meanwhile; the cancellation continues afterwards.

    The work must bound its own time.
    """
    task = asyncio.create_task(work, name=name)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    task.result()
    if cancellation is not None:
        raise cancellation
