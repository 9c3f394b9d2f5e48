"""Airflow's database, asked in threads and sessions of our own: a question that hangs holds nobody but itself."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")

ANSWER_S = 20.0


async def ask(question: Callable[[], T], *, limit: asyncio.Semaphore | None = None) -> T:
    """What a function that opens a session of its own answers, in a new thread; that costs less than 0.1 ms.

    Not in a pool's: behind a link that drops everything a thread is stuck until TCP gives up, a quarter of an hour
    later. Some of those would be the whole pool, and the process would wait for them at its end.

    Args:
        question: The function.
        limit: How many may ask at once; the wait counts.

    Raises:
        TimeoutError: No answer within `ANSWER_S`. The next question goes by a new connection.
    """
    try:
        async with asyncio.timeout(ANSWER_S), limit or nullcontext():
            return await _in_thread(question)
    except TimeoutError:
        _forget_connections()
        raise


async def _in_thread(question: Callable[[], T]) -> T:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(set_answer: Callable[[], None]) -> None:
        if not answer.done():
            set_answer()

    def run() -> None:
        try:
            result = question()
        except Exception as error:  # noqa: BLE001  # raised where the answer is awaited
            set_answer = partial(answer.set_exception, error)
        else:
            set_answer = partial(answer.set_result, result)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, set_answer)

    threading.Thread(target=run, name="edge-relay-database", daemon=True).start()
    return await answer


def _forget_connections() -> None:
    """Those in Airflow's pool are stuck, or will be. One that is in use goes on and is closed after its use."""
    from airflow import settings

    if settings.engine is not None:
        settings.engine.dispose(close=False)
