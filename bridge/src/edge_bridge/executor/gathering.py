"""The same for many, a few at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
CONCURRENCY = 16


async def each(items: Iterable[T], do: Callable[[T], Awaitable[None]]) -> None:
    """Do something for several; the first failure goes on when all have ended."""
    limit = asyncio.Semaphore(CONCURRENCY)

    async def one(item: T) -> None:
        async with limit:
            await do(item)

    results = await asyncio.gather(*(one(item) for item in items), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
