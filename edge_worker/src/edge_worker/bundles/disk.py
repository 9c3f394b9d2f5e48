"""One thread for the files of bundles: what is done on the disk is done in order, and not in the event loop.

So a version can't be removed between the check that it is here and what follows, and what a cancelled fetch still
writes is written before anything of the next one.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Disk:
    """The thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bundles")

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. If the caller is cancelled, work that has begun is finished all the same."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def soon(self, work: Callable[[], object]) -> None:
        """Do something after all that was asked for before, without waiting for it. It must not fail."""
        self._thread.submit(work)

    def close(self) -> None:
        """Return once all that was asked for is done."""
        self._thread.shutdown()
