"""Parts of the centre that are away, or slow, for as long as a test says."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from local.system.relay import Replica
from local.system.system import LocalSystem

SLOW = (0.4, 0.1)
"""Seconds for which a slow NATS stands still, and for which it then works, over and over."""


@asynccontextmanager
async def another_relay(system: LocalSystem, name: str) -> AsyncIterator[Replica]:
    """A replica that can be away without NATS."""
    replica = await system.add_replica(name)
    try:
        yield replica
    finally:
        await replica.child.stop()
        del system.replicas[name]


@asynccontextmanager
async def stopped_process(pid: int) -> AsyncIterator[None]:
    """The process does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def nats_down(system: LocalSystem) -> AsyncIterator[None]:
    """nats-server is dead, and the first relay, which would start it again, does nothing."""
    async with stopped_process(system.relay.child.pid):
        os.kill(_nats(system), signal.SIGKILL)
        yield


@asynccontextmanager
async def nats_slow(system: LocalSystem) -> AsyncIterator[None]:
    """nats-server stands still most of the time."""
    slowing = asyncio.create_task(_slow(_nats(system)), name="slow")
    try:
        yield
    finally:
        slowing.cancel()
        await asyncio.gather(slowing, return_exceptions=True)


async def _slow(nats: int) -> None:
    still_s, works_s = SLOW
    while True:
        async with stopped_process(nats):
            await asyncio.sleep(still_s)
        await asyncio.sleep(works_s)


def _nats(system: LocalSystem) -> int:
    pid = system.relay.nats_pid
    assert pid is not None
    return pid
