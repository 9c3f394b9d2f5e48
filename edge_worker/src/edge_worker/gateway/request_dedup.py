"""One delivery for a call that a task's process repeats, under its one request id, while the first is still held.

A supervisor that does not hear from the centre for too long repeats what it waits for every few seconds, to see whether
the agent lives. Held together, these calls would fill the memory in a long outage.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from edge_worker.relay.client import ExecutionAnswer


class AskedAgain(Exception):
    """The answer goes to a newer repeat of the call."""


@dataclass
class _Call:
    delivery: asyncio.Task[ExecutionAnswer]
    repeated: asyncio.Event = field(default_factory=asyncio.Event)


class RequestDedup:
    """The calls under way."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, ...], _Call] = {}

    async def answer(
        self, key: tuple[str, ...], deliver: Callable[[], Coroutine[Any, Any, ExecutionAnswer]]
    ) -> ExecutionAnswer:
        """The answer to a call, delivered only if it is not under way yet.

        Raises:
            AskedAgain: A newer repeat waits in its place.
            Exception: What the delivery raises.
        """
        call = self._under_way.get(key)
        if call is None:
            call = self._under_way[key] = _Call(asyncio.create_task(deliver()))
            call.delivery.add_done_callback(lambda _: self._under_way.pop(key))
        call.repeated.set()
        call.repeated = repeated = asyncio.Event()
        waiting = asyncio.create_task(repeated.wait())
        try:
            await asyncio.wait({call.delivery, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not call.delivery.done():
            raise AskedAgain
        return call.delivery.result()

    async def drop_all(self) -> None:
        """The agent leaves."""
        for call in list(self._under_way.values()):
            call.delivery.cancel()
            await asyncio.wait({call.delivery})
