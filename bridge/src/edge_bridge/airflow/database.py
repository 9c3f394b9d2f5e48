"""Queries of Airflow's database, each in a thread and session of its own: a query that hangs delays no other."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")

ANSWER_S = 20.0


async def run_query(query: Callable[[], T], *, limit: asyncio.Semaphore | None = None) -> T:
    """The result of a function that opens its own session, run in a new thread; that costs less than 0.1 ms.

    Not in a thread pool: on a link that drops everything a thread is stuck until TCP gives up, a quarter of an hour
    later. A few such threads would block the pool, and the process would wait for them when it ends.

    Args:
        query: The function.
        limit: Limits the queries that run at the same time; the wait for it counts.

    Raises:
        TimeoutError: No answer within `ANSWER_S`. The next query uses a new connection.
    """
    try:
        async with asyncio.timeout(ANSWER_S), limit or nullcontext():
            return await _in_thread(query)
    except TimeoutError:
        _forget_connections()
        raise


async def _in_thread(query: Callable[[], T]) -> T:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def set_unless_cancelled(set_answer: Callable[[], None]) -> None:
        if not answer.done():
            set_answer()

    def run() -> None:
        try:
            result = query()
        except Exception as error:  # noqa: BLE001  # raised where the answer is awaited
            set_answer = partial(answer.set_exception, error)
        else:
            set_answer = partial(answer.set_result, result)
        with suppress(RuntimeError):  # the loop has ended in the meantime
            loop.call_soon_threadsafe(set_unless_cancelled, set_answer)

    threading.Thread(target=run, name="edge-relay-database", daemon=True).start()
    return await answer


def _forget_connections() -> None:
    """The connections in Airflow's pool are stuck, or will be. A connection in use is closed after its use."""
    from airflow import settings

    if settings.engine is not None:
        settings.engine.dispose(close=False)
