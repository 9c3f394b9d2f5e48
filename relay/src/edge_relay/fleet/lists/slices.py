"""Reading many items without making polls wait."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

SLICE = 5_000


async def in_slices(items: Iterable[T]) -> AsyncIterator[list[T]]:
    """The items as they are now, some thousand at a time; between two slices the event loop runs."""
    found = list(items)
    for start in range(0, len(found), SLICE):
        yield found[start : start + SLICE]
        if start + SLICE < len(found):
            await asyncio.sleep(0)
