"""Work in threads: what blocks, in a thread that does not keep the process from ending, and what computes for long."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")

LARGE_BYTES = 1024 * 1024
"""Hashing more takes milliseconds."""


async def run_in_daemon_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises, from a daemon thread.

    Not a pool's: at its end the process would wait for a thread that hangs because a name server does not answer.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            finish = partial(_set_result, answer, work())
        except Exception as error:  # noqa: BLE001  # raised where the answer is awaited
            finish = partial(_set_exception, answer, error)
        with suppress(RuntimeError):  # the time was over, and the loop has ended in the meantime
            loop.call_soon_threadsafe(finish)

    threading.Thread(target=run, name="edge-relay-blocking", daemon=True).start()
    return await answer


async def hashed(compute: Callable[[], T], size: int) -> T:
    """The result of hashing so many bytes, computed in a thread if the event loop would be late otherwise."""
    return await asyncio.to_thread(compute) if size > LARGE_BYTES else compute()


def _set_result(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _set_exception(answer: asyncio.Future[T], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
