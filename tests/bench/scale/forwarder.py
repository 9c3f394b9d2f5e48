"""A TCP forwarder in a process of its own, so that it takes no time from what is measured.

`python -m bench.scale.forwarder URL` prints its port. Each line on stdin is a number of seconds for which to cut the
way: all connections are reset, and new ones too.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.network.link import Cut, Link


class Forwarder:
    """The process, and the way through it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    async def cut(self, seconds: float) -> None:
        """Cut the way, and return when it stands again."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n".encode())
        await self._process.stdin.drain()
        await self._process.stdout.readline()


@asynccontextmanager
async def forwarding(url: str) -> AsyncIterator[Forwarder]:
    """A way to the server of this URL."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.scale.forwarder", url), stdin=pipe, stdout=pipe
    )
    assert process.stdout is not None
    try:
        yield Forwarder(process, int(await process.stdout.readline()))
    finally:
        process.terminate()
        await process.wait()


async def _main(url: str) -> None:
    async with Link.to(url) as link:
        print(link.port, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await link.cut(Cut.RESET)
            await asyncio.sleep(float(line))
            await link.restore()
            print("restored", flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
