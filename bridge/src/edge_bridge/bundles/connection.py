"""Work with NATS from Airflow's threads, over a connection of its own for each piece of work."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.connection.settings import BrokerSettings

CONNECT_S = 5.0
WORK_S = 600.0
"""For all of it: a first publication of the largest bundle takes minutes."""

T = TypeVar("T")


def with_broker(settings: BrokerSettings, work: Callable[[Broker], Awaitable[T]]) -> T:
    """Connect, do the work, and disconnect.

    In a thread of its own: the caller may have an event loop. The thread is a daemon: a caller that is told to exit
    while it waits does so.

    Raises:
        BrokerUnavailable: There was no connection, or the work did not end in time. Besides what the work raises.
    """
    result: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            result.set_result(asyncio.run(_work(settings, work)))
        except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
            result.set_exception(error)

    threading.Thread(target=run, name="edge-relay-bundles", daemon=True).start()
    return result.result()


async def _work(settings: BrokerSettings, work: Callable[[Broker], Awaitable[T]]) -> T:
    async with Broker(settings) as broker:
        await broker.wait_connected(CONNECT_S)
        try:
            async with asyncio.timeout(WORK_S):
                return await work(broker)
        except TimeoutError:
            raise BrokerUnavailable(f"NATS was too slow: nothing is published after {WORK_S:g} s") from None
