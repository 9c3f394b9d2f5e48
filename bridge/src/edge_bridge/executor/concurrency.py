"""Concurrent calls, a few at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
CONCURRENCY = 16


async def gather_bounded(items: Iterable[T], do: Callable[[T], Awaitable[None]]) -> None:
    """Call a function for each item, at most `CONCURRENCY` at a time; the first failure is raised after all ended."""
    limit = asyncio.Semaphore(CONCURRENCY)

    async def call(item: T) -> None:
        async with limit:
            await do(item)

    results = await asyncio.gather(*(call(item) for item in items), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
