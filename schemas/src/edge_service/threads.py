"""Work that blocks, in a thread that holds up nobody."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], T]) -> T:
    """What `work` returns or raises, from a daemon thread.

    Not a pool's: the process would wait at its end for a thread that hangs in the silence of a name server.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(how: Callable[[Any], None], what: Any) -> None:
        if not answer.done():
            how(what)

    def do_it() -> None:
        how: Callable[[Any], None] = answer.set_result
        what: Any
        try:
            what = work()
        except Exception as error:  # noqa: BLE001  # raised where the answer is awaited
            how, what = answer.set_exception, error
        with suppress(RuntimeError):  # the time was over, and the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, how, what)

    threading.Thread(target=do_it, name="edge-relay-aside", daemon=True).start()
    return await answer
